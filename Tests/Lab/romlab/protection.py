"""One `xl remus` from the outside: its output, its epochs, and what a failover came to."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .follow import LineFollower
from .guest import Guest, Prober, Reply
from .host import Host
from .shell import LabError, TooSlow, wait_for

if TYPE_CHECKING:
    from .lab import Lab

EPOCH_LOG = "/tmp/epochs.csv"


@dataclass(frozen=True)
class EpochLine:
    """A line of romulus.conf's epoch_log, with the moment at which it reached the lab. Times in microseconds."""
    arrived: float
    epoch: int
    requested: int
    suspend: int
    log: int
    copy: int
    state: int
    hold: int
    resume: int
    pause: int
    pages: int
    bytes: int
    link_bytes: int
    sent: int
    acknowledged: int


class EpochFollower(LineFollower):
    """The primary's epoch log as it grows."""

    def __init__(self, host: Host):
        host.run(f"rm -f {EPOCH_LOG}; touch {EPOCH_LOG}")
        super().__init__(host, f"tail -n +1 -f {EPOCH_LOG}")

    @property
    def epochs(self) -> list[EpochLine]:
        return [EpochLine(moment, *map(int, line.split(","))) for moment, line in list(self.lines)
                if re.fullmatch(r"\d+(,-?\d+)+", line)]


class Protection:
    """`xl remus` on one host, left running."""

    def __init__(self, lab: "Lab", guest: Guest, primary: Host, backup: Host, *options: str, xl: str = "xl"):
        self.guest = guest
        self.primary = primary
        self.backup = backup
        number = len(lab.sessions) + 1
        self.log = lab.logs / f"{lab.scenario}-remus-{number}.log"
        self.follower = EpochFollower(primary)
        lab.followers.append(self.follower)
        self.process = primary.spawn(f"exec {xl} remus {' '.join(options)} {guest.name} host{backup.name}", self.log)
        lab.sessions.append(self.process)

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def romulus_lines(self) -> list[str]:
        return [line for line in self.text.splitlines() if line.startswith("romulus:")]

    def wait_text(self, pattern: str, timeout: float) -> re.Match:
        def found() -> re.Match | None:
            match = re.search(pattern, self.text)
            if match is None and self.process.poll() is not None:
                raise TooSlow(f"xl remus ended without saying /{pattern}/:\n{self.tail()}")
            return match
        return wait_for(f"xl remus to say /{pattern}/ (it said:\n{self.tail()})", found, timeout)

    def wait_protected(self, timeout: float = 120) -> "Protection":
        self.wait_text(r"romulus: .*protected: ", timeout)
        return self

    def wait_epochs(self, count: int, timeout: float = 60) -> None:
        """That many more epochs than now."""
        goal = len(self.follower.epochs) + count

        def are_there() -> bool:
            if self.follower.has_ended:
                raise TooSlow("nobody follows the epochs any more: the login on the host has failed")
            return len(self.follower.epochs) >= goal
        wait_for(f"{count} more epochs", are_there, timeout)

    def wait_end(self, timeout: float = 60) -> int:
        """xl's exit status."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise TooSlow(f"xl remus did not end within {timeout:.0f} s:\n{self.tail()}") from error

    def tail(self) -> str:
        return "\n".join(self.text.splitlines()[-12:])


@dataclass
class Failover:
    """What a person wants to know of one failover."""
    before: Reply
    after: Reply
    downtime: float
    epoch: int
    detected_ms: int
    closed_ms: int
    restored_ms: int
    check: str


FAILOVER_LINE = re.compile(
    r"failover: (?P<cause>.*); going on from epoch (?P<epoch>\d+); detected after (?P<detected>\d+) ms,"
    r" stream closed after (?P<closed>\d+) ms more, restored after (?P<restored>\d+) ms more")


def watch_failover(protection: Protection, prober: Prober, moment: float, timeout: float = 60) -> Failover:
    """Waits until the guest answers again after the fault at `moment`, and holds it to the promises."""
    known = [line for line in protection.follower.epochs if line.arrived < moment]
    before = prober.last_before(moment)
    after = prober.wait_first_after(moment, timeout)
    lines = wait_for("the backup's failover line", lambda: protection.backup.syslog("failover: "), 10)
    match = FAILOVER_LINE.search(lines[-1])
    if match is None:
        raise LabError(f"not understood: {lines[-1]}")
    epoch = int(match["epoch"])
    if known:
        last = known[-1]
        if epoch < last.epoch:
            raise LabError(f"went on from epoch {epoch}, although epoch {last.epoch} had been acknowledged")
        # What the guest had counted when that epoch's suspension was asked for, with room for ssh's delay.
        suspended_at = last.arrived - (last.acknowledged + last.pause) / 1e6 - 0.25
        floor = max((reply.counter for reply in prober.replies if reply.received < suspended_at), default=0)
        if after.counter < floor:
            raise LabError(f"the counter went back to {after.counter}, below the acknowledged epoch's {floor}")
    check = protection.guest.ask("check", 30)
    if check != "OK":
        raise LabError(f"the guest's memory is damaged: {check}")
    return Failover(before, after, after.received - moment, epoch, int(match["detected"]), int(match["closed"]),
                    int(match["restored"]), check)
