"""Plugins, compiled here as their own comments say, and put where the hosts find them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .lab import STATE
from .packages import REPOSITORY
from .shell import run

if TYPE_CHECKING:
    from .lab import Lab

PLUGINS = "/usr/local/lib/romulus"


def install(lab: "Lab", source: Path, *names: str) -> None:
    """On both hosts, under each name: a copy is loaded as a plugin of its own."""
    built = STATE / "plugin.so"
    run("cc", "-std=c99", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror", "-I",
        REPOSITORY / "Sources/RomulusPlugin/include", "-o", built, source)
    first, *others = [f"{PLUGINS}/{name}.so" for name in names]
    for host in lab.hosts:
        host.run(f"mkdir -p {PLUGINS}")
        host.put(built, first)
        for other in others:
            host.run(f"cp {first} {other}")


def assert_none_given_up(lab: "Lab") -> None:
    for host in lab.hosts:
        assert not host.syslog("is not called any more"), "a plugin was given up"
