"""`xl destroy` on the primary moves the guest to the backup, as stock Remus has it."""

import time

from romlab.guest import Prober
from romlab.protection import watch_failover


def run(lab):
    guest, protection = lab.protected()
    with Prober(guest) as prober:
        protection.wait_epochs(3)
        lab.a.run("xl destroy guest")
        watch_failover(protection, prober, time.monotonic())
    assert lab.running_copies("guest") == ["b"]
