"""Gathers from the hosts and from the lab's own logs what `forbidden` judges when a scenario has ended."""

from __future__ import annotations

import shlex
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from . import catalogue, forbidden
from .follow import LineFollower
from .forbidden import HostState, Line
from .host import Host
from .shell import LabError, TooSlow, say

if TYPE_CHECKING:
    from .lab import Lab
    from .protection import Protection

# A host may hang, and the audit must not.
ANSWER_SECONDS = 20
# What is on its way out may take as long to be gone; a scenario that has left nothing does not wait.
SETTLE_SECONDS = 15
# More lines than this say no more.
MOST_FINDINGS = 20

# Each process costs an emulated host 26 ms, so the shell does what it can by itself. From now on the kernel says warnings on
# the console too, which a power cut does not take away.
_LINES = f"""
echo == lines; echo 5 >/proc/sys/kernel/printk
dmesg | grep -aHrE --exclude='*.json*' {shlex.quote(forbidden.WANTED)} - /var/log/messages /var/log/xen
"""
_STATE = """
cd /sys/class/net; echo == devices; echo *; cd /
echo == qdiscs; tc qdisc show
echo == blocks
for file in /sys/block/dm-*/dm/name /sys/block/nbd*/pid /sys/block/loop*/loop/backing_file; do
    [ -e $file ] && read -r what <$file && echo "$file $what"
done
echo == domains
for xl in /usr/lib/xen-4.*/bin/xl; do $xl list; break; done
echo == processes; ps -eo pid=,ppid=,args=
"""
_CLEAR = ": >/var/log/messages"
# Every process of the run on this host, until none is left or nobody listens. Not any xl: one that has just been started
# grows.
_WATCH = """
some=$(pgrep -d ' ' -f '^[^ ]*(xl (remus|migrate-receive)|libxl-save-helper|romulus-guard) ')
while :; do
    left=
    for p in $some; do
        read -r _ resident shared _ 2>/dev/null </proc/$p/statm || continue
        read -r name 2>/dev/null </proc/$p/comm || continue
        set -- /proc/$p/fd/*
        echo size $p $name $# $(((resident - shared) * 4)) || exit
        left=1
    done
    [ $left ] || exit
    sleep 2
done
"""


class _Growth:
    """The processes of one run, on both hosts, as long as it lasts."""

    def __init__(self, protection: "Protection"):
        self._epochs = protection.follower
        self._before = len(self._epochs.epochs)
        self.hosts = {host.name: LineFollower(host, _WATCH) for host in (protection.primary, protection.backup)}

    def findings(self) -> list[str]:
        epochs = self._epochs.epochs[self._before:]
        largest = max((one.bytes for one in epochs), default=0)
        return [finding for host, follower in self.hosts.items() for finding in forbidden.growth(
            host, forbidden.sizes(line for _, line in list(follower.lines)), len(epochs), largest)]


class Audit:
    def __init__(self, lab: "Lab"):
        self._lab = lab
        # Of this scenario; and of the time before it began, which may still be the one before's.
        self._lines: list[Line] = []
        self._early: list[Line] = []
        self._is_open = False
        # Whether the newest verdict has a line that is wrong whoever says it.
        self.is_grave = False
        self._former: tuple[str, ...] = ()
        self._growths: list[_Growth] = []
        # What is known already: of the lab's files how far, of a machine's which lines, how often.
        self._read: dict[Path, tuple[int, int]] = {}
        self._known: dict[str, tuple[int, Counter]] = {}
        self.settle_seconds = SETTLE_SECONDS

    # -- gathering -----------------------------------------------------------------------------------------------

    def open(self) -> None:
        """A scenario begins: from now on what is said is its own, and the hosts' logs are empty."""
        self._gather(self._lab.hosts, _LINES + _CLEAR)
        self._is_open = True

    def gather(self, hosts: Iterable[Host]) -> None:
        """Before they are made anew, and what they know is gone."""
        self._gather(hosts, _LINES)

    def watch(self, protection: "Protection") -> None:
        """How much its processes grow, from here on."""
        growth = _Growth(protection)
        self._growths.append(growth)
        self._lab.followers += growth.hosts.values()

    def _gather(self, hosts: Iterable[Host], script: str) -> tuple[list[HostState], list[str]]:
        """The hosts' states, and which of those that are on have given none."""
        on = [host for host in hosts if host.is_on()]
        answers = self._lab._on_each(on, lambda host: self._ask(host, script))
        states = [state for state in answers if state is not None]
        for host, state in zip(on, answers):
            if state is not None:
                self._note(self._news(host, state.lines))
                if script.endswith(_CLEAR):
                    self._forget(host, "/var/log/messages")
        self._note(self._own_lines())
        return states, [host.name for host, state in zip(on, answers) if state is None]

    @staticmethod
    def _ask(host: Host, script: str) -> HostState | None:
        try:
            said = host.run(f"{script}\necho == end", check=False, timeout=ANSWER_SECONDS).stdout
        except (LabError, OSError):
            return None
        state = forbidden.parsed(host.name, said)
        return state if state.is_complete else None

    def _note(self, lines: Iterable[Line]) -> None:
        (self._lines if self._is_open else self._early).extend(lines)

    def _news(self, host: Host, lines: list[Line]) -> Iterable[Line]:
        """The hosts' logs stay as they are: what was there the last time is not new."""
        generation, known = self._known.get(host.name, (0, Counter()))
        now = Counter(lines)
        new = now - known if generation == host.generation else now
        self._known[host.name] = host.generation, now
        return new

    def _forget(self, host: Host, file: str) -> None:
        generation, known = self._known[host.name]
        kept = Counter({line: count for line, count in known.items() if not line.place.endswith(file)})
        self._known[host.name] = generation, kept

    def _own_lines(self) -> Iterable[Line]:
        """What the hosts' consoles, QEMU and the sessions have said since; also of a host without power."""
        for path in sorted(self._lab.logs.glob("*.log")):
            offset, number = self._read.get(path, (0, 0))
            with open(path, "rb") as file:
                file.seek(offset)
                text = file.read()
            # The last line may not be whole.
            whole = text[:text.rfind(b"\n") + 1]
            for line in whole.decode(errors="replace").split("\n")[:-1]:
                number += 1
                yield Line(f"{path.name}:{number}", line.rstrip("\r"))
            self._read[path] = offset + len(whole), number

    # -- the verdict ---------------------------------------------------------------------------------------------

    def verdict(self, expects: Iterable[str] = (), leaves: Iterable[str] = ()) -> list[str]:
        """What must not be there, a line each; then the next scenario's begins. `expects` and `leaves` are patterns for
        lines that are said and for what is left on purpose."""
        expects = tuple(expects)
        found = self._left(leaves)
        early = (*catalogue.COMMON, *catalogue.SLOW, *self._former, *expects)
        found += forbidden.forbidden_lines(self._early, early)
        found += forbidden.forbidden_lines(self._lines, (*catalogue.COMMON, *expects))
        self._lines, self._early, self._is_open, self._growths = [], [], False, []
        self._former = expects
        return found

    def _left(self, leaves: Iterable[str]) -> list[str]:
        """When what is on its way out is out."""
        deadline = time.monotonic() + self.settle_seconds
        while True:
            states, silent = self._gather(self._lab.hosts, _STATE + _LINES)
            sessions = sum(not one.has_ended for one in self._lab.protections)
            found = forbidden.unexpected(
                [*(f"host {name} does not answer" for name in silent), *forbidden.leftovers(states, sessions)], leaves)
            if not found or silent or time.monotonic() > deadline:
                return found + forbidden.unexpected(
                    [one for growth in self._growths for one in growth.findings()], leaves)
            time.sleep(0.5)

    def problem(self, name: str, module: object) -> LabError | None:
        """The verdict by what a scenario states of itself; said, so that a scenario that failed anyway has it too."""
        found = self.verdict(getattr(module, "EXPECTS", ()), getattr(module, "LEAVES", ()))
        self.is_grave = any(map(forbidden.is_grave, found))
        for one in found[:MOST_FINDINGS]:
            say(f"{name}: forbidden: {one}")
        if len(found) > MOST_FINDINGS:
            say(f"{name}: forbidden: and {len(found) - MOST_FINDINGS} more")
        if not found:
            return None
        kind = LabError if forbidden.unexpected(found, catalogue.SLOW) else TooSlow
        return kind(f"forbidden: {found[0]}" + (f" (and {len(found) - 1} more)" if found[1:] else ""))
