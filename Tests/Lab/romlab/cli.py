"""The lab's command line."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

from . import demo, measure, patched, profile, record, runner, soak
from .lab import Lab
from .shell import LabError, say, warn

# A check that is run again does the same again; `make lab-soak` has another seed each time.
CHECK_SEED = 1
USAGE = """usage: lab COMMAND
  up                 boot two Xen hosts with Romulus installed, and leave them running
  ssh a|b [COMMAND]  a shell on a host
  down               take everything down
  test [NAME…]       run the scenarios (--budget SECONDS bounds them all), and a soak of --soak MINUTES with a seed that is
                     always the same; then take everything down
  soak               random faults, each followed by the promises' checks (--minutes N, --steps K, --seed S; --step N
                     repeats one alone), then take everything down
  demo               the story: protect a guest, pull the plug, see it go on; then take everything down
  measure [pauses]   stock and Romulus in one run, as ratios, all or the pauses; then take everything down
  profile            where a creation, a first copy, a failover and a reset spend their time
  record             what a guest writes, as traces for `make bench`; then take everything down
  list               what the scenarios are
  images             make what the hosts boot from, and nothing else
  patched            try patches/ on the Xens they are for, compile xl and its save helper with them"""


def main(arguments: list[str]) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup stays nohup
        signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
    commands = {"up": _up, "down": _down, "ssh": _ssh, "images": _images, "test": _test, "demo": _demo,
                "measure": _measure, "profile": _profile, "soak": _soak,
                "record": _record, "list": _list, "patched": _patched}
    if not arguments or arguments[0] not in commands:
        warn(USAGE)
        return 2
    if os.geteuid() != 0:
        warn("lab: must be root (it makes network interfaces)")
        return 1
    try:
        return commands[arguments[0]](arguments[1:])
    except LabError as error:
        warn(f"lab: {error}")
        return 1
    except KeyboardInterrupt:
        warn("lab: interrupted")
        return 130


def _up(arguments: list[str]) -> int:
    lab = Lab()
    try:
        lab.up(with_romulus="--stock" not in arguments)
        for guest in (lab.pvh, lab.pv, lab.hvm):
            for host in lab.hosts:
                lab.put_config(guest, host)
        lab.leave()
    except BaseException:
        _take_down(lab)
        raise
    say("`make lab-ssh HOST=a` opens a shell, where `xl create /guest/guest.cfg` makes a guest; `make"
        " lab-down` ends it all")
    return 0


def _down(_: list[str]) -> int:
    _take_down(Lab(boots=False))
    return 0


def _ssh(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in ("a", "b"):
        warn(USAGE)
        return 2
    lab = Lab(boots=False)
    host = lab.a if arguments[0] == "a" else lab.b
    if not host.is_on():
        raise LabError(f"host {host.name} is not up: make lab-up")
    command = " ".join(arguments[1:])
    words = host.ssh(command) if command else host.ssh("", "-t")[:-1]
    os.execvp(words[0], words)


def _test(arguments: list[str]) -> int:
    budget = _taken("--budget", arguments) or 3600.0
    soak_minutes = _taken("--soak", arguments)
    keep = "--keep" in arguments
    scenarios = runner.chosen([one for one in arguments if one != "--keep"])
    lab = Lab()
    try:
        lab.up()
        lab.keep()
        good = runner.run_all(lab, scenarios, budget)
        if good and soak_minutes:
            good = soak.run(lab, soak_minutes, CHECK_SEED, None, None)
        return 0 if good else 1
    finally:
        if keep:
            lab.leave()
        else:
            _take_down(lab)


def _taken(option: str, arguments: list[str], kind: type = float) -> float | None:
    """An option's number, which is taken out. One without a number is left to whoever refuses what is left."""
    if option not in arguments[:-1]:
        return None
    place = arguments.index(option)
    value = kind(arguments[place + 1])
    del arguments[place:place + 2]
    return value


def _soak(arguments: list[str]) -> int:
    seed, steps, step = (_taken(option, arguments, int) for option in ("--seed", "--steps", "--step"))
    minutes = _taken("--minutes", arguments)
    if minutes is None:
        minutes = 5.0 if steps is None else float("inf")
    if arguments:
        warn(USAGE)
        return 2
    lab = Lab()
    try:
        lab.up()
        lab.keep()
        good = soak.run(lab, minutes, seed, steps, step)
        return 0 if good else 1
    finally:
        _take_down(lab)


def _demo(_: list[str]) -> int:
    return _from_nothing(demo.run)


def _measure(arguments: list[str]) -> int:
    return _from_nothing(lambda lab: measure.run(lab, pauses_only=arguments == ["pauses"]))


def _profile(_: list[str]) -> int:
    return _from_nothing(profile.run)


def _record(_: list[str]) -> int:
    return _from_nothing(record.run)


def _from_nothing(story: Callable[[Lab], None]) -> int:
    """Everything is taken down at the end, whatever the end is."""
    lab = Lab()
    try:
        lab.down()
        story(lab)
        return 0
    finally:
        _take_down(lab)


def _take_down(lab: Lab) -> None:
    """To its end: an impatient second Ctrl-C must not leave a machine behind."""
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, signal.SIG_IGN)
    lab.down()


def _list(_: list[str]) -> int:
    for name in runner.names():
        print(f"{name:36} {runner.load(name).__doc__.splitlines()[0]}")
    return 0


def _images(_: list[str]) -> int:
    Lab()
    return 0


def _patched(_: list[str]) -> int:
    say(f"patches/ applies; the patched programs are in {patched.prepare()}")
    return 0
