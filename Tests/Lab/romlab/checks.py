"""What scenarios hold against the lab, again and again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .guest import Guest
from .host import NAMELESS, PRIMARY_XL, Host
from .shell import LabError, wait_for

if TYPE_CHECKING:
    from .lab import Lab


def assert_answers(guest: Guest, timeout: float = 15) -> None:
    """The guest answers, and counts on."""
    wait_for(f"guest {guest.name} to answer", guest.answers, timeout)
    first = guest.counter()
    time.sleep(0.2)
    if guest.counter() <= first:
        raise LabError(f"guest {guest.name} answers, but does not count")


def assert_goes_on(lab: "Lab", guest: Guest, host: str) -> None:
    """The guest answers, with its memory whole, and only the copy on that host runs."""
    assert_answers(guest)
    copies = wait_for("one copy to run", lambda: lab.running_copies(guest.name), 5)
    if copies != [host]:
        raise LabError(f"copies run on {copies}, not on {host} alone")
    check = guest.ask("check", 30)
    if check != "OK":
        raise LabError(f"the guest's memory is damaged: {check}")


def wait_one_copy(lab: "Lab", guest: Guest, timeout: float = 60) -> str:
    """Until exactly one copy runs, on whichever host, and answers; never two at once on the way."""
    seen: list[list[str]] = [[]]

    def one() -> str | None:
        seen.append(lab.running_copies(guest.name))
        # The hosts do not answer at one moment: a guest on its way may be seen on both, once.
        if len(seen[-1]) > 1 and len(seen[-2]) > 1:
            raise LabError(f"copies run on {seen[-1]}")
        return seen[-1][0] if len(seen[-1]) == 1 and guest.answers() else None
    return wait_for(f"one copy of guest {guest.name} to run", one, timeout, 0.3)


def assert_stays(lab: "Lab", guest: Guest, host: str, seconds: float) -> None:
    """For that long, the copy on that host runs, alone."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        copies = lab.running_copies(guest.name)
        if copies != [host]:
            raise LabError(f"copies run on {copies}, not on {host} alone")
        time.sleep(0.5)
    assert_goes_on(lab, guest, host)


def assert_paused(host: Host, name: str) -> None:
    """The copy is there, and frozen: nobody destroyed it, and it does not run."""
    line = host.domains().get(name)
    if line is None or not line.is_paused:
        raise LabError(f"the copy on host {host.name} is {line or 'gone'}, not paused")


def wait_gone(host: Host, name: str, timeout: float = 20) -> None:
    """To the end: a domain that is dying has lost its name before it is gone."""
    wait_for(f"{name} to be gone from host {host.name}",
             lambda: not host.domains().keys() & {name, NAMELESS}, timeout, 0.3)


def interrupt(host: Host, signal: str) -> None:
    """The signal to every process of `xl remus`'s group, as a terminal sends Ctrl-C."""
    host.run(f"kill -s {signal} -- -$(ps -o pgid= $(pgrep -o -f {PRIMARY_XL}) | tr -d ' ')")


def assert_preload_is_contained(host: Host, allowed: tuple[str, ...] = ("xl", "libxl-save-helper")) -> None:
    """Nobody but the allowed programs has the shared object mapped, or finds a word of it in its environment."""
    found = host.run(
        "exec 2>/dev/null; { grep -l libromulus /proc/[0-9]*/maps; grep -l -e ROMULUS -e libromulus"
        " /proc/[0-9]*/environ; } | cut -d/ -f3 | sort -u | while read -r p; do"
        " e=$(readlink /proc/$p/exe) && echo ${e##*/}; done").stdout.split()
    leaks = sorted(set(found) - set(allowed))
    if leaks:
        raise LabError(f"on host {host.name} the preload reached {leaks}")
    if allowed and not found:
        raise LabError(f"on host {host.name} Romulus is loaded nowhere")
