"""Runs the scenarios, one line each, and counts."""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import time
import traceback
from pathlib import Path

from .lab import Lab
from .packages import REPOSITORY
from .shell import LabError, TooSlow, say

SCENARIOS = Path(__file__).resolve().parent.parent / "scenarios"
LONGEST_SECONDS = 300
# The newest run's times; the others' are beside their logs.
TIMES = REPOSITORY / "build/lab-times.csv"
# In one run; a lab that needs more has a fault and not a slow moment.
MOST_REPEATS = 3


def names() -> list[str]:
    return sorted(path.stem for path in SCENARIOS.glob("[0-9]*.py"))


def chosen(wanted: list[str]) -> list[str]:
    """The scenarios that were asked for, all without a wish; a wish that names none must not pass as a success."""
    every = names()
    for one in wanted:
        if not any(_is_meant(name, one) for name in every):
            raise LabError(f"no scenario is called {one}: `lab list` shows what there is")
    return [name for name in every if not wanted or any(_is_meant(name, one) for one in wanted)]


def _is_meant(name: str, wish: str) -> bool:
    return name.startswith(wish) or name.endswith(wish)


def load(name: str):
    specification = importlib.util.spec_from_file_location(f"scenario_{name}", SCENARIOS / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def run_all(lab: Lab, scenarios: list[str], budget: float) -> bool:
    """Every scenario within the time; one that is not reached counts as failed. One that only was too slow is repeated
    once, and said to have been."""
    started = time.monotonic()
    seed = int(os.environ.get("ROMULUS_LAB_SEED") or random.randrange(1 << 32))
    say(f"logs in {lab.logs}; seed {seed} (ROMULUS_LAB_SEED={seed} repeats its random moments)")
    random.seed(seed)
    passed, failed, repeated = 0, [], []
    for name in scenarios:
        module = load(name)
        say(f"{name}: {module.__doc__.splitlines()[0]}")
        begun = time.monotonic()
        lab.timetable.begin()
        problem = _run_one(lab, name, module, started + budget)
        if isinstance(problem, TooSlow) and len(repeated) < MOST_REPEATS:
            repeated.append(name)
            say(f"{name}: too slow after {time.monotonic() - begun:.0f} s, once more: {problem}")
            _keep_evidence(lab, f"{name}-too-slow")
            problem = _run_one(lab, name, module, started + budget)
        seconds = time.monotonic() - begun
        if problem is None:
            passed += 1
            say(f"{name}: passed in {seconds:.0f} s")
        else:
            reason = f"{type(problem).__name__}: {problem}"
            failed.append(f"{name}: {reason}")
            say(f"{name}: FAILED after {seconds:.0f} s: {reason}")
            _keep_evidence(lab, name)
        lab.timetable.end(name)
    _say_times(lab, time.monotonic() - started, budget)
    for name in repeated:
        print(f"repeated: {name}")
    if lab.lost_returns:
        print(f"gone back to once more, for the run did not outlive it: {lab.lost_returns} times")
    for one in failed:
        print(f"failed: {one}")
    print(f"{passed} passed, {len(failed)} failed", flush=True)
    return not failed


def _say_times(lab: Lab, seconds: float, budget: float) -> None:
    """Where the time went, for a person and for who compares."""
    print("\n" + lab.timetable.text() + "\n", flush=True)
    lab.timetable.write(lab.logs / "times.csv")
    lab.timetable.write(TIMES)
    if seconds > budget:
        slowest = ", ".join(f"{name} {taken:.0f} s" for name, taken in lab.timetable.slowest(5))
        print(f"the scenarios took {seconds:.0f} s, more than the {budget:.0f} that they have; the slowest: {slowest}")


class _TimeOut(BaseException):
    """No scenario may take it for one of its own errors."""


def _run_one(lab: Lab, name: str, module, deadline: float) -> Exception | None:
    """What went wrong; a scenario that has seen what it wanted fails by what it has left or said besides."""
    problem = _run_alone(lab, name, module, deadline)
    with lab.timetable.spends("audit"):
        forbidden = lab.audit.problem(name, module)
    # What a kernel or a program says when it breaks is no slow moment, whatever else was slow.
    grave = isinstance(problem, TooSlow) and forbidden is not None and lab.audit.is_grave
    return forbidden if grave else problem or forbidden


def _run_alone(lab: Lab, name: str, module, deadline: float) -> Exception | None:
    left = deadline - time.monotonic()
    if left < 30:
        return LabError("no time left")

    def too_long(*_):
        raise _TimeOut()

    lab.scenario = name
    earlier = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(int(min(left, getattr(module, "LONGEST_SECONDS", LONGEST_SECONDS))))
    try:
        module.run(lab)
        return None
    except _TimeOut:
        return TooSlow("took too long")
    except Exception as error:  # whatever it is, the other scenarios must run and be counted
        (lab.logs / f"{name}-traceback.txt").write_text(traceback.format_exc())
        return error
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, earlier)


def _keep_evidence(lab: Lab, name: str) -> None:
    """What the hosts still know, before the next scenario cleans up; then they are made anew."""
    for host in lab.hosts:
        if host.is_on():
            try:
                known = host.run(
                    "cat /var/log/messages; xl list; xl dmesg | tail -n 50; ps axf;"
                    " tail -n 50 /var/log/xen/*.log /var/log/xen/console/*.log", False, 30)
                (lab.logs / f"{name}-host-{host.name}.txt").write_text(known.stdout)
            except (LabError, OSError):
                pass
        try:
            host.power_cut()
        except (LabError, OSError):
            pass
