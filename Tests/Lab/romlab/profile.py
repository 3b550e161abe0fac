"""`lab profile`: where the time of a creation, a first copy, a failover and a reset goes, part by part.

Each part ends with a line that one of the two hosts writes, stamped when it reaches the lab; what stock programs do is told
apart by `xl -vvv`. Absolute times are this machine's of this hour: compare within one run.
"""

from __future__ import annotations

import re
import time
from statistics import median

from . import machine_state
from .follow import LineFollower
from .host import Host
from .lab import CLEAN, Lab
from .measure import FAILOVER_STEPS, failover_steps
from .shell import say, wait_for
from .table import table

REPEATS = 3
Steps = list[tuple[str, float]]

# The line that ends each part, in their order.
CREATION = (
    ("xl reads the configuration", r"libxl_create|do_domain_create"),
    ("the domain is built", r"xc_dom_boot_image|domain builder memory footprint|dom_build|xc: detail: xc_dom_release"),
    ("xenstore, until the vif's script is called", r"calling hotplug script: .*vif-bridge online"),
    ("the vif's script", r"(hotplug script|vif).*(done|exited|deregister)|Waiting for domain|unpause"),
)
FIRST_COPY = (
    ("xl reads the configuration, ssh logs in", r"migration target: Ready to receive domain"),
    ("the backup's domain and helper, the headers", r"Frames iteration 0: "),
    ("copying while the guest runs", r"Frames iteration 0: .*100%"),
    ("the later rounds, the first suspension", r"replica ready"),
    ("the first epoch", r"romulus: .*protected: "),
)


def _steps(begun: float, lines: list[tuple[float, str]], marks: tuple, last: str) -> Steps:
    """Since that moment. A part whose line never came belongs to the next one."""
    found, at = [], begun
    for name, pattern in marks:
        moment = next((one for one, line in lines if one >= at and re.search(pattern, line)), None)
        if moment is not None:
            found.append((name, moment - at))
            at = moment
    return [*found, (last, time.monotonic() - at)]


def _differences(names: tuple[str, ...], moments: list[float]) -> Steps:
    return [(name, later - earlier) for name, earlier, later in zip(names, moments, moments[1:])]


def _keep_lines(lab: Lab, name: str, begun: float, lines: list[tuple[float, str]]) -> None:
    """For who looks closer."""
    (lab.logs / name).write_text("".join(f"{moment - begun:8.3f} {line}\n" for moment, line in lines))


def run(lab: Lab) -> None:
    lab.scenario = "profile"
    lab.up()
    lab.keep()
    rounds = [_round(lab) for _ in range(REPEATS)]
    for what in rounds[0]:
        print(f"\n{what} (seconds, {REPEATS} times)\n\n" + _table([one[what] for one in rounds]), flush=True)


def _table(runs: list[Steps]) -> str:
    names = [name for name, _ in runs[0]]
    rows = [(name, *(f"{dict(steps).get(name, 0):.2f}" for steps in runs),
             f"{median(dict(steps).get(name, 0) for steps in runs):.2f}") for name in names]
    whole = [sum(seconds for _, seconds in steps) for steps in runs]
    rows.append(("in all", *(f"{one:.2f}" for one in whole), f"{median(whole):.2f}"))
    return table(rows, ("part", *(f"run {number + 1}" for number in range(len(runs))), "median"))


def _round(lab: Lab) -> dict[str, Steps]:
    found = {}
    for host in lab.hosts:
        host.power_cut()
    found["reset"] = _reset(lab)
    found["creation"] = _creation(lab)
    found["first copy"], protection = _first_copy(lab)
    found["failover"] = _differences(FAILOVER_STEPS, [0.0, *(one / 1000 for one in failover_steps(lab, protection))])
    lab.end_sessions()
    for what, steps in found.items():
        say(f"{what}: {sum(seconds for _, seconds in steps):.1f} s")
    return found


def _reset(lab: Lab) -> Steps:
    moments = [time.monotonic()]
    for host in lab.hosts:
        host.power_on(lab.logs, host.kept(CLEAN))
    moments.append(time.monotonic())
    machine_state.go_on(host.machine for host in lab.hosts)
    moments.append(time.monotonic())
    lab._on_each(lab.hosts, Host.wait_ready)
    moments.append(time.monotonic())
    lab._on_each(lab.hosts, Host.set_clock)
    for host in lab.hosts:
        lab.install_settings(host)
    moments.append(time.monotonic())
    names = ("disks, taps, QEMU's start", "QEMU reads the memory", "until xl list answers", "clock and settings")
    return _differences(names, moments)


def _creation(lab: Lab) -> Steps:
    guest = lab.pvh
    lab.put_config(guest, lab.a)
    begun = time.monotonic()
    with LineFollower(lab.a, f"xl -vvv create {guest.config} 2>&1") as lines:
        wait_for("xl create to end", lambda: lines.has_ended, 90, 0.02)
        created = time.monotonic()
        steps = _steps(begun, lines.lines, CREATION, "xl create's end")
        _keep_lines(lab, "profile-create.txt", begun, lines.lines)
    wait_for("the guest to answer", guest.answers, 120, 0.1)
    return [*steps, ("the guest boots and answers", time.monotonic() - created)]


def _first_copy(lab: Lab):
    begun = time.monotonic()
    protection = lab.start_protection(lab.pvh, xl="xl -vvv")
    with LineFollower(lab.a, f"exec tail -s 0.05 -n +1 -F /tmp/{protection.log.name} 2>/dev/null") as lines:
        protection.wait_protected(240)
        wait_for("its last line to be here too", lambda: lines.first(" protected: ", begun), 10, 0.02)
        steps = _steps(begun, lines.lines, FIRST_COPY, "said")
        _keep_lines(lab, "profile-remus.txt", begun, lines.lines)
    return steps, protection
