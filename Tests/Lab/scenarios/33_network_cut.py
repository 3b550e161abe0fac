"""The primary's network is cut: the backup takes over within its deadline, and the old copy stands still."""

import time

from romlab.checks import assert_paused
from romlab.guest import Prober
from romlab.protection import watch_failover


def run(lab):
    guest = lab.guest_on(lab.pvh, lab.a)
    protection = lab.protect(guest)
    with Prober(guest) as prober:
        protection.wait_epochs(3)
        moment = time.monotonic()
        lab.network.set_link("a", False)
        failover = watch_failover(protection, prober, moment)
    assert failover.detected_ms <= 1200
    protection.wait_text("the guest here is frozen and its output held", 5)
    assert_paused(lab.a, "guest")
    assert lab.running_copies("guest") == ["b"]
