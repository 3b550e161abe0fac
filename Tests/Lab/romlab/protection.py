"""One `xl remus` from the outside: its output, its epochs, and what a failover came to."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import agent
from .follow import LineFollower
from .guest import Guest, Prober, Reply
from .host import Host
from .shell import LabError, Stoppable, TooSlow, wait_for

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

    def __init__(self, host: Host, is_new: bool):
        """Of a run that begins; or of one that is under way, from now on: what it wrote before came at other moments."""
        super().__init__(host, f"rm -f {EPOCH_LOG}; touch {EPOCH_LOG}; exec tail -n +1 -f {EPOCH_LOG}" if is_new else
                         f"exec tail -n 0 -f {EPOCH_LOG}")

    @property
    def epochs(self) -> list[EpochLine]:
        return [EpochLine(moment, *map(int, line.split(",")[:-1])) for moment, line in list(self.lines)
                if re.fullmatch(r"\d+(,-?\d+)+,[^,]+", line)]


class Protection(Stoppable):
    """`xl remus` on one host, in a session of its own there: it goes on when nobody listens any more, and in a kept state."""

    def __init__(self, lab: "Lab", guest: Guest, primary: Host, backup: Host, *options: str, xl: str = "xl"):
        self._look_at(lab, guest, primary, backup)
        self._output = f"/tmp/{self.log.name}"
        # Both are there before the first line is written.
        self.follower = EpochFollower(primary, True)
        command = f"{xl} remus {' '.join(options)} {guest.name} host{backup.name}"
        self._running = primary.start(
            f"lab-run {self._output} {command} && exec tail -n +1 -f {self._output}", agent.appending(self.log))

    @classmethod
    def under_way(cls, lab: "Lab", earlier: "Protection") -> "Protection":
        """The same run, where the hosts have gone back to a state that was kept of it."""
        self = cls.__new__(cls)
        self._look_at(lab, earlier.guest, earlier.primary, earlier.backup)
        self._output = earlier._output
        self.follower = EpochFollower(self.primary, False)
        self._running = self.primary.start(f"exec tail -n +1 -f {self._output}", agent.appending(self.log))
        return self

    def _look_at(self, lab: "Lab", guest: Guest, primary: Host, backup: Host) -> None:
        self.guest = guest
        self.primary = primary
        self.backup = backup
        self.timetable = lab.timetable
        lab.protections.append(self)
        # A scenario's rounds, and its repetition, leave what the ones before have said.
        files = (lab.logs / f"{lab.scenario}-remus-{number}.log" for number in itertools.count(1))
        self.log = next(file for file in files if not file.exists())

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    @property
    def romulus_lines(self) -> list[str]:
        return [line for line in self.text.splitlines() if line.startswith("romulus:")]

    @property
    def exit_status(self) -> int | None:
        """xl's, which lab-run writes behind its last line; None while it runs, or when the host was lost before."""
        match = re.search(r"^lab: exit status (\d+)$", self.text, re.MULTILINE)
        return int(match[1]) if match else None

    @property
    def has_ended(self) -> bool:
        """Or nobody will hear of it any more."""
        return self.exit_status is not None or self._running.status is not None

    def wait_text(self, pattern: str, timeout: float) -> re.Match:
        def found() -> re.Match | None:
            ended = self.has_ended
            match = re.search(pattern, self.text)
            if match is None and ended:
                raise TooSlow(f"xl remus ended without saying /{pattern}/:\n{self.tail()}")
            return match
        return wait_for(f"xl remus to say /{pattern}/ (it said:\n{self.tail()})", found, timeout)

    def wait_protected(self, timeout: float = 120) -> "Protection":
        with self.timetable.spends("first copy"):
            self.wait_text(r"romulus: .*protected: ", timeout)
        return self

    def wait_epochs(self, count: int, timeout: float = 60) -> None:
        """That many more epochs than now."""
        goal = len(self.follower.epochs) + count

        def are_there() -> bool:
            if self.follower.has_ended:
                raise TooSlow(f"nobody follows the epochs any more; xl remus said:\n{self.tail()}")
            return len(self.follower.epochs) >= goal
        wait_for(f"{count} more epochs", are_there, timeout)

    def is_alive(self) -> bool:
        """Whether two epochs more come, in time."""
        try:
            self.wait_epochs(2, 20)
        except TooSlow:
            return False
        return not self.has_ended and not self.has_frozen

    @property
    def has_frozen(self) -> bool:
        """Whether it has stopped the guest for the other side's silence, also if it went on."""
        return any("the guest here is frozen" in line for line in self.romulus_lines)

    def wait_end(self, timeout: float = 60) -> int | None:
        """xl's exit status; None when its host was lost."""
        wait_for(f"xl remus to end:\n{self.tail()}", lambda: self.has_ended, timeout)
        if self.exit_status is None and self.primary.is_on():
            raise TooSlow(f"nobody hears xl remus any more:\n{self.tail()}")
        return self.exit_status

    def tail(self) -> str:
        """Without libxc's two lines for every epoch."""
        return "\n".join([line for line in self.text.splitlines() if not line.startswith("xc: info: ")][-12:])

    def stop(self) -> None:
        """Nobody listens any more; the run goes on."""
        self._running.stop()
        self.follower.stop()


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
    with protection.timetable.spends("failover"):
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
