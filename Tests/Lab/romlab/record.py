"""`make traces`: what a guest writes, epoch by epoch, as files for `make bench`; one for each kind of work."""

from __future__ import annotations

import time

from .lab import Lab
from .packages import REPOSITORY
from .shell import run as run_command
from .shell import say

WORKS = ("none", "compile", "store")
NAMES = {"none": "idle"}
EPOCHS = 12
TRACES = REPOSITORY / "Tests/Benchmarks/traces"
RECORDER = REPOSITORY / ".build/command/release/romulus-bench"

# In ssh's place: everything that goes over the link is kept as well.
KEEPER = """#!/bin/sh
rm -f /tmp/link
tee /tmp/link | "$@"
"""


def run(lab: Lab) -> None:
    lab.scenario = "record"
    lab.up()
    TRACES.mkdir(exist_ok=True)
    for work in WORKS:
        name = NAMES.get(work, work)
        guest = lab.guest_on(lab.pvh, lab.a)
        lab.a.write("/tmp/keeper", KEEPER)
        lab.a.run("chmod +x /tmp/keeper")
        guest.ask(f"work {work}")
        time.sleep(5)
        say(f"{name}: recording {EPOCHS} epochs")
        protection = lab.protect(guest, "-F", "-n", "-s", "'/tmp/keeper ssh'")
        protection.wait_epochs(EPOCHS, 240)
        guest.ask("work none", 60)
        link = lab.logs / f"{name}.link"
        link.write_bytes(lab.a.fetch("/tmp/link"))
        lab.reset()
        print(run_command(RECORDER, "record", link, TRACES / f"{name}.trace").stdout.strip(), flush=True)
