"""`make lab-soak`: random faults against a guest with open connections, and after each the promises' checks.

A step takes the guest where the last one has left it, if it is alone there and answers, so that either host is the primary;
else both hosts go back to a kept state. A step's choices come out of the seed and its number alone (`soak_plan`), so a step
that went wrong can be repeated by itself, always from the kept state.
"""

from __future__ import annotations

import functools
import itertools
import random
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

from . import runner
from .checks import assert_answers, assert_goes_on, assert_paused, assert_stays, interrupt, wait_gone
from .etcd import SETTINGS
from .faults import FAULTS
from .guest import Prober
from .host import BACKUP_XL, PRIMARY_XL, DomainLine, Host
from .lab import Lab
from .network import THIRD_PLACE
from .power import PORT, PowerSwitch
from .protection import watch_failover
from .shell import LabError, TooSlow, say, wait_for
from .sniffer import Sniffer
from .soak_plan import FENCE, KINDS, LEASE, NONE, RESUME, End, Plan, plan, rows
from .stream import Stream
from .table import table

LONGEST_SECONDS = 400
DECIDED_SECONDS = 90
# libxl gives a guest that is gone a minute to acknowledge a suspension.
LINGERING_SECONDS = 90
# A host that is thawed runs its guest until it has read the clock: docs/design.md, "What cannot be had without a fence".
THAW_SECONDS = 5
# What had been acknowledged may still be on its way out of an emulated machine.
RELEASE_SECONDS = 0.3


def run(lab: Lab, minutes: float, seed: int | None, steps: int | None, only: int | None) -> bool:
    """Steps until the time is over, or that many; or one alone. Ends with the first broken promise."""
    seed = random.randrange(1 << 32) if seed is None else seed
    say(f"logs in {lab.logs}; seed {seed}")
    started, ran, repeated, failed, home = time.monotonic(), [], [], [], None
    for number in [only] if only else itertools.count(1):
        if not only and (time.monotonic() - started >= minutes * 60 or len(ran) == steps):
            break
        chosen = plan(seed, number)
        step, problem = _try(lab, chosen, home)
        # Many more have another reason than a slow moment.
        if isinstance(problem, TooSlow) and len(repeated) < runner.MOST_REPEATS + len(ran) // 10:
            repeated.append(number)
            say(f"step {number}: too slow, once more: {problem}")
            runner._keep_evidence(lab, f"soak-{number}-too-slow")
            step, problem = _try(lab, chosen, None)
        if problem is not None:
            say(f"step {number}: FAILED: {type(problem).__name__}: {problem}")
            runner._keep_evidence(lab, f"soak-{number}")
            failed.append((number, step))
            break
        ran.append(chosen.kind)
        home = step.home
    _tell(ran, repeated, failed)
    return bool(ran) and not failed


def _tell(ran: list[str], repeated: list[int], failed: list[tuple[int, "Step"]]) -> None:
    print(table(rows(ran), ("kind", "ran")))
    for number in repeated:
        print(f"repeated, for it was too slow: step {number}")
    for number, step in failed:
        print(f"failed: step {number}, {step.beginning}; `make lab-soak {step.plan.repeated_by}` repeats it"
              f" {'exactly' if step.beginning == KEPT else 'approximately, for it begins from a kept state'}")
    print(f"{len(ran)} steps passed, {len(failed)} failed", flush=True)


def _try(lab: Lab, chosen: Plan, home: Host | None) -> tuple["Step", Exception | None]:
    begun = time.monotonic()
    step = Step(lab, chosen, home)
    module = SimpleNamespace(
        run=lambda _: step.run(), LONGEST_SECONDS=LONGEST_SECONDS, EXPECTS=(*_stated("EXPECTS"), ROMULUS_LINE),
        LEAVES=_stated("LEAVES"))
    problem = runner._run_one(lab, f"soak-{chosen.step}", module, time.monotonic() + 2 * LONGEST_SECONDS)
    if problem is None:
        say(f"step {chosen.step}: {step.told}; passed in {time.monotonic() - begun:.0f} s")
    return step, problem


# What Romulus says is not judged here: a step's outcome is, by its plan's table.
ROMULUS_LINE = "romulus: "


@functools.cache
def _stated(name: str) -> tuple[str, ...]:
    """A soak does what the scenarios do, and so may say and leave what any of them states. What is right of a step's outcome
    it sees for itself."""
    stated = {one: None for scenario in runner.names() for one in getattr(runner.load(scenario), name, ())}
    return tuple(one.replace("host a", "host [ab]") for one in stated)


KEPT = "from a kept state"


class Step:
    """One fault, from a protected guest to the checks behind it."""

    def __init__(self, lab: Lab, plan: Plan, home: Host | None):
        self.lab = lab
        self.plan = plan
        self.guest = lab.pvh
        # Where the guest runs, alone: where the last step left it, and then where this one did.
        self.home = home
        self.beginning = KEPT
        self.told = ""
        # Hosts that cannot be asked anything, and when the last one was thawed.
        self.frozen: set[Host] = set()
        self.thawed = 0.0
        self._copies_before: list[str] = []
        self._end_before: End | None = None
        self._end_since = 0.0

    def run(self) -> None:
        self._begin()
        self.primary, self.backup = self.home, self.lab.b if self.home is self.lab.a else self.lab.a
        self.home = None
        say(f"step {self.plan.step} ({self.beginning}; {self.plan.repeated_by}): {self.plan}")
        with _arbiter(self.lab, self.plan):
            self._protect()
            self.guest.ask(f"dirty {self.plan.load}", 30)
            family = socket.AF_INET6 if self.plan.is_ipv6 else socket.AF_INET
            with (Sniffer(self.guest) as self.sniffer,
                  Stream(self.guest, family, self.plan.client_interval) as self.stream,
                  Prober(self.guest, family, self.plan.client_interval) as self.prober):
                self._break()
                end = self._wait_end()
                self._assert_right(end)
                self._hold_to_promises(self._decide(end))

    # -- the beginning -------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self.lab.end_sessions()
        reason = self._why_not_here() if self.home else None
        if self.home and reason is None:
            self.beginning = f"continued on {self.home.name}"
            self.lab.open_audit()
            self.guest.ask("dirty 0", 30)
        else:
            if reason:
                say(f"what the last step left is not taken: {reason}")
            for host in self.lab.hosts:
                host.power_cut()
            self.lab.guest_on(self.guest, self.lab.a)
            self.home = self.lab.a

    def _why_not_here(self) -> str | None:
        """Nothing where the guest can be protected as it is. A replica that a dead receiver has left is the next run's to
        remove."""
        try:
            off = [host for host in self.lab.hosts if not host.is_on()]
            self.lab.restart(*off)
            found = [list(domains) for domains in self.lab._on_each(self.lab.hosts, Host.domains)]
            here, there = found if self.home is self.lab.a else reversed(found)
            if here != [self.guest.name] or not set(there) <= {self._incoming}:
                return f"there are {here} on host {self.home.name}, and {there} on the other"
            return None if self.guest.answers(10) else "the guest does not answer"
        except LabError as error:
            return str(error)

    @property
    def _incoming(self) -> str:
        return f"{self.guest.name}--incoming"

    def _protect(self) -> None:
        self.protection = self.lab.start_protection(
            self.guest, *self.plan.options, primary=self.primary, backup=self.backup)
        try:
            self.protection.wait_protected()
        except TooSlow as error:
            # One that gave up did not only need longer, whatever the last step left behind.
            raise self._unless_late(LabError(str(error))) if self.protection.has_ended else error
        self.lab.audit.watch(self.protection)

    # -- the fault -----------------------------------------------------------------------------------------------

    def _break(self) -> None:
        self.protection.wait_epochs(self.plan.epochs, 90)
        self.stream.wait_moves()
        time.sleep(self.plan.delay)
        self._sample()
        if self.protection.has_ended:
            raise self._unless_late(LabError(f"xl remus ended before anything was done:\n{self.protection.tail()}"))
        self.port = self.stream.port
        fault = FAULTS[self.plan.kind]
        self.moment = time.monotonic()
        try:
            fault.begin(self)
            while fault.end and time.monotonic() < self.moment + self.plan.seconds:
                self._sample()
                time.sleep(0.3)
        finally:
            if fault.end:
                fault.end(self)
        # Where protection is to go on, two epochs show that it does; where not, many that it did.
        more = 2 if End.PROTECTED in self.plan.right else 20
        self.epochs_wanted = len(self.protection.follower.epochs) + more

    def _sample(self) -> list[str]:
        """On which hosts a copy runs; never on two. The hosts do not answer at one moment: a guest on its way may be seen on
        both, once."""
        awake = [host for host in self.lab.hosts if host.is_on() and host not in self.frozen]
        found = self.lab._on_each(awake, self._domains)
        copies = [host.name for host, domains in zip(awake, found) for one in domains if one.runs]
        if len(copies) > 1 and len(self._copies_before) > 1 and time.monotonic() > self.thawed + THAW_SECONDS:
            raise LabError(f"copies run on {copies}")
        self._copies_before = copies
        self._seen = {host: domains for host, domains in zip(awake, found)}
        return copies

    def _domains(self, host: Host) -> list[DomainLine]:
        try:
            names = (self.guest.name, self._incoming)
            return [one for one in host.domains().values() if one.name in names]
        except LabError as error:
            if host.is_on():
                raise TooSlow(f"host {host.name} does not tell its domains: {error}") from error
            return []  # it was fenced while it was asked

    # -- the end -------------------------------------------------------------------------------------------------

    def _wait_end(self) -> End:
        def found() -> End | None:
            end = self._apparent_end()
            if end is not self._end_before:
                self._end_before, self._end_since = end, time.monotonic()
            return end if end and time.monotonic() - self._end_since >= self._must_last(end) else None
        try:
            return wait_for(f"an end of {self.plan.kind}", found, DECIDED_SECONDS, 0.3)
        except TooSlow as error:
            raise TooSlow(f"{error}; copies run on {self._copies_before}, of {self._seen}; xl remus said:\n"
                          f"{self.protection.tail()}") from error

    def _must_last(self, end: End) -> float:
        """Seconds. A guest that is being taken over looks frozen, or gone, for a while."""
        return {End.FROZEN: self.plan.timeout_ms / 1000 + 4, End.NOBODY: 2}.get(end, 0)

    def _apparent_end(self) -> End | None:
        copies = self._sample()
        here, there = self._seen.get(self.primary), self._seen.get(self.backup)
        if copies == [self.backup.name]:
            return End.BACKUP if self.guest.answers() else None
        if copies == [self.primary.name]:
            if self.protection.has_ended:
                return End.PRIMARY if self.guest.answers() else None
            return End.PROTECTED if len(self.protection.follower.epochs) >= self.epochs_wanted else None
        if not copies and not there and not any(one.is_paused for one in here or []):
            return End.NOBODY
        # Only where it may stay so: elsewhere the backup, or an arbiter, is at work.
        if not copies and End.FROZEN in self.plan.right and here and here[0].is_paused:
            return End.FROZEN
        return None

    def _assert_right(self, end: End) -> None:
        try:
            self.plan.assert_right(end)
        except LabError as error:
            # Silence is no reason to lose the guest.
            raise error if end is End.NOBODY else self._unless_late(error)

    def _unless_late(self, error: LabError) -> LabError:
        """An emulated host that stood still for a whole timeout, although nothing was done to it that could be the reason,
        rightly lost its peer; the step says nothing then."""
        if not KINDS[self.plan.kind].silences:
            text = self.protection.text + "".join(
                "\n".join(host.syslog("romulus")) for host in self.lab.hosts if host.is_on())
            if "has heard nothing for" in text or "no byte from the primary for" in text:
                return TooSlow(f"an emulated host was silent for too long: {error}")
        return error

    def _decide(self, end: End) -> End:
        """What an admin does then; and nothing is left of the copy that lost."""
        if end is End.FROZEN:
            self.protection.wait_text(f"romulus resume {self.guest.name}", 5)
            assert_paused(self.primary, self.guest.name)
            self.primary.run(f"romulus {self.plan.word} {self.guest.name}")
            end = End.PRIMARY if self.plan.word == RESUME else End.NOBODY
        if end is End.PROTECTED:
            return end
        if end is End.BACKUP and self.primary.is_on():
            if self.plan.kind == "xl-killed":
                assert self.primary.syslog("the copy here is paused"), "nobody says what to do with the old copy"
                assert_paused(self.primary, self.guest.name)
                self.primary.run(f"xl destroy {self.guest.name}")
            elif self.plan.kind in ("ssh-killed", "sshd-killed") and self.plan.arbiter == NONE:
                assert_paused(self.primary, self.guest.name)
                self.primary.run(f"romulus yield {self.guest.name}")
        return end

    # -- the promises --------------------------------------------------------------------------------------------

    def _hold_to_promises(self, end: End) -> None:
        silence = self.stream.silence(self.moment)
        self.told = f"{end.value}, silent for {silence:.1f} s"
        if end is End.NOBODY:
            self.prober.assert_never_ahead()
            self._assert_left_clean(None)
            return
        if end is End.BACKUP:
            self._assert_failover()
        winner, loser = (self.backup, self.primary) if end is End.BACKUP else (self.primary, self.backup)
        assert_answers(self.guest, 30)
        # The longer the silence, the later a client's TCP tries again.
        self.stream.assert_consistent(20 + 2 * silence)
        if end is End.PROTECTED:
            self._leave()
        self._assert_left_clean(loser)
        assert_stays(self.lab, self.guest, winner.name, 2)
        self.stream.assert_consistent(20)
        self.prober.assert_never_ahead()
        assert self.stream.port == self.port, "it is another connection"
        self._assert_silent(loser, end)
        self.home = winner

    def _assert_failover(self) -> None:
        failover = watch_failover(self.protection, self.prober, self.moment)
        # Also what was acknowledged after the fault had begun.
        newest = max(line.epoch for line in self.protection.follower.epochs)
        if failover.epoch < newest:
            raise LabError(f"went on from epoch {failover.epoch}, although epoch {newest} had been acknowledged")
        self.told += f", from epoch {failover.epoch}"

    def _assert_silent(self, loser: Host, end: End) -> None:
        """No frame of the copy that lost, from the moment on at which the other one announced itself."""
        since = self.moment
        if end is End.BACKUP:
            since = self.sniffer.wait_announced(self.backup.name, self.moment).moment + RELEASE_SECONDS
        self.sniffer.assert_silent(loser.name, since)

    def _leave(self) -> None:
        """Ends a protection that went on."""
        if self.protection.has_ended:
            raise self._unless_late(LabError(f"protection went on, and then it ended:\n{self.protection.tail()}"))
        assert self.guest.ask("check", 30) == "OK"
        interrupt(self.primary, "INT")
        self.protection.wait_end(30)
        assert_goes_on(self.lab, self.guest, self.primary.name)

    def _assert_left_clean(self, loser: Host | None) -> None:
        """Within a bound no copy is left but the one that runs, and no `xl` of this run's."""
        losers = self.lab.hosts if loser is None else (loser,)
        for host in losers:
            if host.is_on():
                wait_gone(host, self.guest.name, LINGERING_SECONDS)
                # A killed receiver's is removed by the next run.
                if self.plan.kind != "receiver-killed":
                    wait_gone(host, self._incoming, 30)
        for host in self.lab.hosts:
            if host.is_on():
                wait_for(f"no `xl remus` or `xl migrate-receive` to be left on host {host.name}",
                         lambda host=host: self._is_idle(host, host in losers), LINGERING_SECONDS, 0.5)

    @staticmethod
    def _is_idle(host: Host, is_loser: bool) -> bool:
        """A guest that has been taken over has its receiver as its keeper, as one that was created has its `xl create`."""
        left = host.run(f"pgrep -f {PRIMARY_XL} | sed s/^/remus/; pgrep -f {BACKUP_XL}", check=False).stdout.split()
        return not left or (not is_loser and len(left) == 1 and not left[0].startswith("remus"))


@contextmanager
def _arbiter(lab: Lab, plan: Plan) -> Iterator[None]:
    """It is there, and both hosts' settings name it."""
    def install(**settings: object) -> None:
        for host in lab.hosts:
            lab.install_settings(host, detect_timeout_ms=plan.timeout_ms, arbiter=plan.arbiter, **settings)
    if plan.arbiter == FENCE:
        for host, other in zip(lab.hosts, reversed(lab.hosts)):
            lab.install_settings(
                host, detect_timeout_ms=plan.timeout_ms, arbiter=FENCE, fence_agent="fence_lab", fence_timeout_ms=6000,
                fence_options=[f"ip={THIRD_PLACE}", f"ipport={PORT}", f"plug={other.name}"])
        with PowerSwitch(lab):
            yield
    elif plan.arbiter == LEASE:
        lab.etcd.start(lab.logs)
        try:
            install(**{key: value for key, value in SETTINGS.items() if key != "arbiter"})
            yield
        finally:
            lab.etcd.stop()
    else:
        install()
        yield
