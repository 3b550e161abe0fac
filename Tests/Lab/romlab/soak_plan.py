"""What a soak's step does, out of its seed and number alone, and which ends of it are right. Pure: no lab is needed."""

from __future__ import annotations

import enum
import random
from collections.abc import Iterable
from dataclasses import dataclass

from .shell import LabError

NONE, FENCE, LEASE = "none", "fence", "lease"
ARBITERS = (NONE, FENCE, LEASE)


class End(enum.Enum):
    """What became of the guest, as it is seen from outside."""
    PROTECTED = "it goes on where it was, and is protected still"
    PRIMARY = "it goes on where it was, unprotected"
    BACKUP = "the backup's copy goes on"
    FROZEN = "it stands still on the primary until the admin decides"
    NOBODY = "no copy is left"


class Lasts(enum.Enum):
    """How long a fault lasts, if it is one that is over by itself."""
    # As a share of the backup's timeout. A packet that is lost comes again after as long once more, or twice.
    BRIEFLY = (0.05, 0.2)
    # Seconds in addition to two timeouts: the second one is for a backup that still heard a primary which stood still.
    LONG = (2.0, 6.0)


@dataclass(frozen=True)
class Kind:
    """docs/design.md, "Who goes on" and "Ends of a run", as a table: a fault, and the right ends with each arbiter."""
    right: dict[str, tuple[End, ...]]
    lasts: Lasts | None = None
    # Either side hears nothing of the other for long, and that is no accident of the emulation.
    silences: bool = False


def _always(*ends: End, lasts: Lasts | None = None, silences: bool = False) -> Kind:
    return Kind({arbiter: ends for arbiter in ARBITERS}, lasts, silences)


def _by(none: End, *arbitrated: End, lasts: Lasts | None = None, silences: bool = False) -> Kind:
    return Kind({NONE: (none,), FENCE: arbitrated, LEASE: arbitrated}, lasts, silences)


# Where both hosts live and cannot speak to each other, an arbiter gives the guest to one of them, and either is right.
KINDS = {
    "ctrl-c": _always(End.PRIMARY),
    "sigterm": _always(End.PRIMARY),
    "sighup": _always(End.PRIMARY),
    "ctrl-z": _always(End.PROTECTED),
    "helper-killed": _always(End.PRIMARY),
    "restorer-killed": _always(End.PRIMARY),
    "receiver-killed": _by(End.FROZEN, End.PRIMARY),
    "xl-killed": _always(End.BACKUP),
    "xl-stopped-briefly": _always(End.PROTECTED, lasts=Lasts.BRIEFLY),
    "xl-stopped": _by(End.BACKUP, End.PRIMARY, End.BACKUP, lasts=Lasts.LONG, silences=True),
    "ssh-killed": _by(End.BACKUP, End.PRIMARY, End.BACKUP),
    "sshd-killed": _by(End.BACKUP, End.PRIMARY, End.BACKUP),
    "destroyed": _always(End.BACKUP),
    "shut-down": _always(End.NOBODY),
    "primary-power-cut": _always(End.BACKUP, silences=True),
    "backup-power-cut": _by(End.FROZEN, End.PRIMARY, silences=True),
    "link-blip": _always(End.PROTECTED, lasts=Lasts.BRIEFLY),
    "link-cut": _by(End.BACKUP, End.PRIMARY, End.BACKUP, lasts=Lasts.LONG, silences=True),
    "primary-mute": _by(End.BACKUP, End.PRIMARY, End.BACKUP, lasts=Lasts.LONG, silences=True),
    "backup-mute": _by(End.BACKUP, End.PRIMARY, End.BACKUP, lasts=Lasts.LONG, silences=True),
    "primary-frozen-briefly": _always(End.PROTECTED, lasts=Lasts.BRIEFLY),
    "primary-frozen": _by(End.BACKUP, End.PRIMARY, End.BACKUP, lasts=Lasts.LONG, silences=True),
    "backup-frozen-briefly": _always(End.PROTECTED, lasts=Lasts.BRIEFLY),
    "backup-frozen": _by(End.BACKUP, End.PRIMARY, End.BACKUP, lasts=Lasts.LONG, silences=True),
}

RESUME, YIELD = "resume", "yield"
# In milliseconds. What is to be shorter than the timeout must be so on a slow machine too.
TIMEOUTS, TIMEOUT_OF_BRIEF = (1000, 2000, 3000), 4000
# As much as an emulated host's one processor can do leaves signs of life late.
TIMEOUT_AT_MOST_LOAD = 3000
INTERVALS = (None, 50, 100, 500, 1000)
LOADS = ("0", "8", "32", "max")
# Seconds between two of a client's questions.
CLIENT_INTERVALS = (0.02, 0.05, 0.2)


@dataclass(frozen=True)
class Plan:
    seed: int
    step: int
    kind: str
    arbiter: str
    timeout_ms: int
    interval_ms: int | None
    load: str
    client_interval: float
    is_ipv6: bool
    # When: after that many epochs, and then that many seconds.
    epochs: int
    delay: float
    # How long; 0 for what is not over by itself.
    seconds: float
    # The admin's, should the guest be frozen.
    word: str

    @property
    def right(self) -> tuple[End, ...]:
        return KINDS[self.kind].right[self.arbiter]

    @property
    def options(self) -> tuple[str, ...]:
        """Of `xl remus`."""
        return ("-i", str(self.interval_ms)) if self.interval_ms else ()

    @property
    def repeated_by(self) -> str:
        return f"SEED={self.seed} STEP={self.step}"

    def assert_right(self, end: End) -> None:
        if end not in self.right:
            raise LabError(
                f"{self.kind}, arbiter {self.arbiter}: {end.value}; right is: {'; or '.join(one.value for one in self.right)}")

    def __str__(self) -> str:
        length = f", for {self.seconds:.2f} s" if self.seconds else ""
        return (f"{self.kind}{length}, after {self.epochs} epochs and {self.delay:.2f} s; arbiter {self.arbiter}, timeout"
                f" {self.timeout_ms} ms, {' '.join(self.options) or 'no -i'}, dirty {self.load}, IPv{6 if self.is_ipv6 else 4},"
                f" a question every {self.client_interval * 1000:.0f} ms")


def plan(seed: int, step: int) -> Plan:
    """Of nothing else: so a step can be repeated without those before it. Steps count from 1."""
    chance = random.Random(f"{seed}/{step}")
    kind = _kind(seed, step)
    lasts = KINDS[kind].lasts
    arbiter, load = chance.choice(ARBITERS), chance.choice(LOADS)
    timeout_ms = TIMEOUT_OF_BRIEF if lasts is Lasts.BRIEFLY else chance.choice(TIMEOUTS)
    if load == "max":
        timeout_ms = max(timeout_ms, TIMEOUT_AT_MOST_LOAD)
    return Plan(
        seed, step, kind, arbiter, timeout_ms, chance.choice(INTERVALS), load, chance.choice(CLIENT_INTERVALS),
        chance.choice((False, True)), chance.randint(2, 6), chance.uniform(0, 1.5), _seconds(lasts, timeout_ms, chance),
        chance.choice((RESUME, RESUME, YIELD)))


def _kind(seed: int, step: int) -> str:
    """Every kind comes once in as many steps as there are kinds, in an order of the seed's."""
    part, place = divmod(step - 1, len(KINDS))
    names = list(KINDS)
    random.Random(f"{seed}/order {part}").shuffle(names)
    return names[place]


def _seconds(lasts: Lasts | None, timeout_ms: int, chance: random.Random) -> float:
    share = chance.random()
    if lasts is None:
        return 0
    least, most = lasts.value
    chosen, timeout = least + share * (most - least), timeout_ms / 1000
    return chosen * timeout if lasts is Lasts.BRIEFLY else 2 * timeout + chosen


def rows(ran: Iterable[str]) -> list[tuple[str, int]]:
    """Of all kinds, how often each ran."""
    known = list(ran)
    return [(kind, known.count(kind)) for kind in KINDS]
