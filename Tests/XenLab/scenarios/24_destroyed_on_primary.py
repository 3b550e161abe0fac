"""`xl destroy` on the primary moves the guest to the backup, as stock Remus has it."""

from romlab.guest import Prober
from romlab.protection import watch_failover
import time


def run(lab):
    guest = lab.guest_on(lab.pvh, lab.a)
    protection = lab.protect(guest)
    with Prober(guest) as prober:
        protection.wait_epochs(3)
        moment = time.monotonic()
        lab.a.run("xl destroy guest")
        watch_failover(protection, prober, time.monotonic())
    assert moment
    protection.wait_end(30)
    assert lab.running_copies("guest") == ["b"]
