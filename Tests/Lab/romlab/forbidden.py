"""What must never be there when a scenario has ended, whatever else it has shown: lines, leftovers, growth.

Text in, findings out: nothing here needs a lab. `audit` gathers, `selftest.py` proves that each rule can fail.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

# Lines that are wrong whoever says them. The hosts grep for them, so each is what grep -E and Python both understand.
RULES = (
    # The kernels of dom0 and guests.
    r"\bBUG(:| at )", r"WARNING: CPU", r"\bOops\b", r"Kernel panic", r"\btraps: ", r"general protection fault",
    r"double fault", r"unable to handle", r"segfault at", r"blocked for more than [0-9]+ seconds", r"Out of memory",
    r"oom-kill", r"soft lockup", r"hard LOCKUP", r"rcu.*(detected|kthread).*stall", r"page allocation failure",
    r"refcount_t: ", r"list_(add|del) corruption", r"EXT4-fs error", r"I/O error, dev",
    r"unregister_netdevice: waiting for",
    # Programs: assert(3), Swift, glibc, the dynamic linker, and libxl about its children.
    r"\bAssertion\b", r"Fatal error:", r"stack smashing detected", r"double free", r"(free|malloc)\(\): ",
    r"corrupted (size|double-linked|top)", r"symbol lookup error", r"cannot be preloaded", r"fatal signal",
    # Xen, at any time: at boot it says none of these.
    r"\(XEN\).*(FATAL|[Uu]nhandled|Panic|[Cc]all trace|[Cc]rashed|[Tt]riple fault|WARN at|VM-Entry failure|hung)",
)
_RULE = re.compile("|".join(RULES))
_ROMULUS = re.compile(r"\bromulus: .*")
# What a host has to look for.
WANTED = "|".join((*RULES, "romulus: "))

# Devices that a host has without Romulus.
_OWN_DEVICES = re.compile(r"lo|eth\d+|xenbr0|bonding_masters")
_VIF = re.compile(r"vif(\d+)\.\d+(-emu)?")
_IFB = re.compile(r"rom(\d+)\.\d+")
_QDISC = re.compile(r"qdisc (plug|ingress|clsact) \S+ dev (\S+)")
_WORKER = re.compile(
    r"(?:\S*/)?(?:xl|libxl-save-helper|romulus|romulus-guard|etcdctl|fence_\w+|qemu-\S+) |(?:\S*/)?ssh .*\bmigrate-receive\b"
    r"|\S*sh \S*/etc/xen/scripts/|\S+ -c .*romulus-lease")
_PRIMARY_XL = re.compile(r"(?:\S*/)?xl remus ")
_BACKUP_XL = re.compile(r"(?:\S*/)?xl migrate-receive\b")
_GUARD = re.compile(r"romulus-guard \d+")
_ANY_XL = re.compile(r"(?:\S*/)?xl ")
_DEVICE_MODEL = re.compile(r"\S*qemu-\S+ .*-xen-domid (\d+)")

# How much a process of a run may grow. libxl's own is some 4 KB for each epoch; buffers grow to the largest epoch.
KIB_PER_EPOCH = 8
EPOCHS_IN_MEMORY = 4
KIB_BESIDES = 6144
DESCRIPTORS = 6


def is_grave(finding: str) -> bool:
    """A line that is wrong whoever says it; not what a scenario that was broken off may leave."""
    return _RULE.search(finding) is not None


@dataclass(frozen=True)
class Line:
    """Where it was found, and what it says."""
    place: str
    text: str


@dataclass(frozen=True)
class Domain:
    name: str
    id: int
    state: str

    @property
    def runs(self) -> bool:
        return not any(letter in self.state for letter in "pscd")


@dataclass(frozen=True)
class Process:
    id: int
    parent: int
    command: str


@dataclass
class HostState:
    """What a host has at one moment."""
    host: str
    devices: list[str] = field(default_factory=list)
    qdiscs: list[str] = field(default_factory=list)
    blocks: list[str] = field(default_factory=list)
    domains: list[Domain] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    # Whether the host has come to the end of what it had to say.
    is_complete: bool = False


def parsed(host: str, text: str) -> HostState:
    """What `audit`'s script on a host has said."""
    state = HostState(host)
    section = ""
    for line in text.splitlines():
        if line.startswith("== "):
            section = line[3:]
            state.is_complete = section == "end"
        elif not line:
            continue
        elif section == "devices":
            state.devices += line.split()
        elif section == "qdiscs":
            state.qdiscs.append(line)
        elif section == "blocks":
            state.blocks.append(line)
        elif section == "domains":
            # A domain that has lost its name has one in brackets; a name may have spaces.
            if match := re.fullmatch(r"(\S.*?)\s+(\d+)\s+\d+\s+\d+\s+([\w-]{6})\s.*", line):
                state.domains.append(Domain(match[1], int(match[2]), match[3]))
        elif section == "processes":
            if match := re.fullmatch(r"\s*(\d+)\s+(\d+)\s+(.*)", line):
                state.processes.append(Process(int(match[1]), int(match[2]), match[3]))
        elif section == "lines":
            file, _, said = line.partition(":")
            # A log that is turned over keeps its name but for the number.
            file = re.sub(r"\.\d+$", "", "dmesg" if file == "(standard input)" else file)
            state.lines.append(Line(f"host {host}, {file}", said))
    return state


# -- lines -------------------------------------------------------------------------------------------------------------


def forbidden_lines(lines: Iterable[Line], expects: Iterable[str]) -> list[str]:
    """Those that break a rule, and what Romulus says outside of the catalogue, but for what is expected. Each once: the
    backup's lines come to the primary's terminal too."""
    allowed = [re.compile(one) for one in expects]
    found: dict[str, str] = {}
    for line in lines:
        said = _ROMULUS.search(line.text)
        if said is None and not _RULE.search(line.text) and not _is_machine_complaint(line):
            continue
        text = said[0] if said else line.text
        if not any(one.search(text) for one in allowed):
            found.setdefault(text, f"{line.place}: {text}")
    return list(found.values())


def _is_machine_complaint(line: Line) -> bool:
    """QEMU has nothing to say of a host's machine."""
    return line.place.startswith("qemu-") and bool(line.text.strip()) and "terminating on signal" not in line.text


# -- leftovers ---------------------------------------------------------------------------------------------------------


def leftovers(states: list[HostState], sessions: int) -> list[str]:
    """What is there without an `xl remus` that it belongs to. As many of those may run as the lab has started and not
    seen ended."""
    primaries = {state.host: _primaries(state) for state in states}
    found = []
    if sum(map(len, primaries.values())) > sessions:
        found += [f"host {host}: process `{one.command}` ({one.id}), which nobody has left running"
                  for host, some in primaries.items() for one in some]
        primaries = {host: [] for host in primaries}
    for state in states:
        here = primaries[state.host]
        receives = any(some for host, some in primaries.items() if host != state.host)
        words = {word for one in here for word in one.command.split()}
        protected = {one.id for one in state.domains if one.name in words or str(one.id) in words}
        found += [f"host {state.host}: {what}" for what in (
            *_silences(state), *_domains_left(state, protected, receives), *_network_left(state, protected, has_script="-N" in words),
            *(f"block device {one}" for one in state.blocks), *_processes_left(state, here, receives))]
    return found + _running_twice(states)


def _silences(state: HostState) -> Iterable[str]:
    """A host that cannot tell has nothing left, by the look of it."""
    has = {"domains": state.domains, "processes": state.processes, "network devices": "lo" in state.devices,
           "qdiscs": state.qdiscs}
    yield from (f"no word of its {what}" for what, there_is in has.items() if not there_is)


def _primaries(state: HostState) -> list[Process]:
    """Each once, without what it has forked."""
    every = {one.id: one for one in state.processes if _PRIMARY_XL.match(one.command)}
    return [one for one in every.values() if one.parent not in every]


def _domains_left(state: HostState, protected: set[int], receives: bool) -> Iterable[str]:
    for one in state.domains:
        what = f"domain {one.name} ({one.id}, {one.state})"
        if one.name.startswith("(") or "d" in one.state:
            yield f"{what} is dying"
        elif "c" in one.state:
            yield f"{what} has crashed"
        elif one.name.endswith("--incoming"):
            if not receives:
                yield f"{what}, a replica that nobody protects"
        elif not one.runs and one.id not in protected:
            yield f"{what} does not run, and nobody protects it"


def _network_left(state: HostState, protected: set[int], has_script: bool) -> Iterable[str]:
    """A script of the admin's names its devices as it likes."""
    ids = {one.id for one in state.domains}
    for device in state.devices:
        vif, ifb = _VIF.fullmatch(device), _IFB.fullmatch(device)
        if vif and int(vif[1]) not in ids:
            yield f"network device {device}, without its domain"
        elif ifb and int(ifb[1]) not in protected:
            yield f"network device {device}, without an xl remus"
        elif not (vif or ifb or has_script or _OWN_DEVICES.fullmatch(device)):
            yield f"network device {device}"
    for line in state.qdiscs:
        if match := _QDISC.match(line):
            of = _VIF.fullmatch(match[2]) or _IFB.fullmatch(match[2])
            if not (int(of[1]) in protected if of else has_script):
                yield f"qdisc {match[1]} on {match[2]}, without an xl remus"


def _processes_left(state: HostState, primaries: list[Process], receives: bool) -> Iterable[str]:
    known = {one.id: one for one in state.processes}
    ids = {one.id for one in state.domains}
    # A guest's domain, once made, has an xl in the background that waits for its end.
    waiting = [one for one in state.processes
               if one.parent == 1 and _ANY_XL.match(one.command) and not _PRIMARY_XL.match(one.command)]
    owners = {one.id for one in primaries}
    if len(waiting) <= len(ids - {0}):
        owners |= {one.id for one in waiting}
    if receives:
        owners |= {one.id for one in state.processes if _BACKUP_XL.match(one.command)}
    for one in state.processes:
        if not _WORKER.match(one.command) or _PRIMARY_XL.match(one.command):
            continue
        # Nobody's child; it ends with its run.
        if primaries and _GUARD.match(one.command):
            continue
        model = _DEVICE_MODEL.match(one.command)
        if model and int(model[1]) in ids:
            continue
        ancestor = one
        while ancestor and ancestor.id not in owners:
            ancestor = known.get(ancestor.parent)
        if ancestor is None:
            yield f"process `{one.command[:120]}` ({one.id})"


def _running_twice(states: list[HostState]) -> list[str]:
    hosts: dict[str, list[str]] = {}
    for state in states:
        for one in state.domains:
            if one.id and one.runs:
                hosts.setdefault(one.name.removesuffix("--incoming"), []).append(state.host)
    return [f"guest {name} runs on hosts {' and '.join(where)}" for name, where in hosts.items() if len(where) > 1]


def unexpected(found: list[str], leaves: Iterable[str]) -> list[str]:
    """What a scenario does not leave on purpose."""
    allowed = [re.compile(one) for one in leaves]
    return [one for one in found if not any(pattern.search(one) for pattern in allowed)]


# -- growth ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Size:
    """Of a process of a run: memory of its own, and descriptors."""
    program: str
    descriptors: int
    kib: int


def sizes(lines: Iterable[str]) -> dict[int, list[Size]]:
    """What `audit`'s watch on a host has said, by process."""
    found: dict[int, list[Size]] = {}
    for line in lines:
        if match := re.fullmatch(r"size (\d+) (\S+) (\d+) (\d+)", line):
            found.setdefault(int(match[1]), []).append(Size(match[2], int(match[3]), int(match[4])))
    return found


def growth(host: str, seen: dict[int, list[Size]], epochs: int, largest_bytes: int) -> list[str]:
    """Processes that have grown in those epochs, by more than what these account for."""
    found = []
    limit = epochs * KIB_PER_EPOCH + EPOCHS_IN_MEMORY * largest_bytes // 1024 + KIB_BESIDES
    for process, some in seen.items():
        first, last = some[0], some[-1]
        what = f"host {host}: {last.program} ({process})"
        if last.kib - first.kib > limit:
            found.append(f"{what} has grown from {first.kib} to {last.kib} KiB in {epochs} epochs")
        if last.descriptors - first.descriptors > DESCRIPTORS:
            found.append(f"{what} had {first.descriptors} descriptors and has {last.descriptors}")
    return found
