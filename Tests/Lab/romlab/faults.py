"""What a soak does to a protected guest: how each kind of fault begins, and how it is over."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .checks import interrupt
from .host import BACKUP_XL, PRIMARY_XL, Host
from .shell import TooSlow

if TYPE_CHECKING:
    from .soak import Step


@dataclass(frozen=True)
class Fault:
    begin: Callable[["Step"], object]
    end: Callable[["Step"], object] | None = None


def _kill(host: Host, signal: str, pattern: str) -> None:
    """The pattern must not match its own words: the shell around this has them in its arguments."""
    host.run(f"pkill -{signal} -f {pattern}")


def _stop_xl_briefly(step: "Step") -> None:
    """In one script, and with few processes: on an emulated host that is busy each may take a second."""
    script = (
        f"pids=$(pgrep -f {PRIMARY_XL}); begun=$EPOCHREALTIME; kill -STOP $pids; sleep {step.plan.seconds:.2f};"
        " kill -CONT $pids; echo $begun $EPOCHREALTIME")
    moments = step.primary.run("bash", given=script.encode()).stdout.split()
    _assert_brief(step, float(moments[1]) - float(moments[0]))


def _briefly(begin: Callable[["Step"], object], end: Callable[["Step"], object]) -> Fault:
    def work(step: "Step") -> None:
        begun = time.monotonic()
        begin(step)
        try:
            time.sleep(max(0.0, begun + step.plan.seconds - time.monotonic()))
        finally:
            end(step)
        _assert_brief(step, time.monotonic() - begun)
    return Fault(work)


def _assert_brief(step: "Step", seconds: float) -> None:
    if seconds > 0.35 * step.plan.timeout_ms / 1000:
        raise TooSlow(f"{step.plan.kind}: what was to take {step.plan.seconds:.2f} s took {seconds:.2f} s")


def _heal(step: "Step") -> None:
    step.lab.network.set_replication(True)


def _cut(step: "Step") -> None:
    step.lab.network.set_replication(False)


def _freeze(host: Callable[["Step"], Host]) -> tuple[Callable[["Step"], None], Callable[["Step"], None]]:
    def freeze(step: "Step") -> None:
        step.frozen.add(host(step))
        host(step).set_frozen(True)

    def thaw(step: "Step") -> None:
        if host(step).is_on():  # nobody has fenced it
            host(step).set_frozen(False)
        step.frozen.discard(host(step))
        step.thawed = time.monotonic()
    return freeze, thaw


_PRIMARY = _freeze(lambda step: step.primary)
_BACKUP = _freeze(lambda step: step.backup)

FAULTS = {
    "ctrl-c": Fault(lambda step: interrupt(step.primary, "INT")),
    "sigterm": Fault(lambda step: _kill(step.primary, "TERM", PRIMARY_XL)),
    "sighup": Fault(lambda step: _kill(step.primary, "HUP", PRIMARY_XL)),
    "ctrl-z": Fault(lambda step: interrupt(step.primary, "TSTP")),
    "helper-killed": Fault(lambda step: _kill(step.primary, "KILL", "-- '--[s]ave-domain'")),
    "restorer-killed": Fault(lambda step: _kill(step.backup, "KILL", "-- '--[r]estore-domain'")),
    "receiver-killed": Fault(lambda step: _kill(step.backup, "KILL", BACKUP_XL)),
    "xl-killed": Fault(lambda step: _kill(step.primary, "KILL", PRIMARY_XL)),
    "xl-stopped-briefly": Fault(_stop_xl_briefly),
    # A fence may have been faster with the whole host.
    "xl-stopped": Fault(
        lambda step: _kill(step.primary, "STOP", PRIMARY_XL),
        lambda step: step.primary.is_on() and step.primary.run(f"pkill -CONT -f {PRIMARY_XL}", check=False)),
    "ssh-killed": Fault(lambda step: _kill(step.primary, "KILL", f"'^ssh host{step.backup.name} xl migrate-receive'")),
    # The one of this connection, not the lab's own.
    "sshd-killed": Fault(lambda step: step.backup.run(f"kill -KILL $(ps -o ppid= $(pgrep -o -f {BACKUP_XL}))")),
    "destroyed": Fault(lambda step: step.primary.run(f"xl destroy {step.guest.name}")),
    "shut-down": Fault(lambda step: step.guest.tell("poweroff")),
    "primary-power-cut": Fault(lambda step: step.primary.power_cut()),
    "backup-power-cut": Fault(lambda step: step.backup.power_cut()),
    "link-blip": _briefly(_cut, _heal),
    "link-cut": Fault(_cut, _heal),
    "primary-mute": Fault(lambda step: step.lab.network.lose_replication_from(step.primary.name), _heal),
    "backup-mute": Fault(lambda step: step.lab.network.lose_replication_from(step.backup.name), _heal),
    "primary-frozen-briefly": _briefly(*_PRIMARY),
    "primary-frozen": Fault(*_PRIMARY),
    "backup-frozen-briefly": _briefly(*_BACKUP),
    "backup-frozen": Fault(*_BACKUP),
}
