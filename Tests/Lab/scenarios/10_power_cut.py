"""The plug is pulled at a random moment: the replica goes on in time, with everything that was acknowledged."""

import random
import time

from romlab.guest import Prober
from romlab.protection import watch_failover
from romlab.shell import say


def run(lab):
    guest = lab.guest_on(lab.pvh, lab.a)
    protection = lab.protect(guest)
    with Prober(guest) as prober:
        protection.wait_epochs(5)
        time.sleep(random.uniform(0, 1.5))
        failover = watch_failover(protection, prober, lab.a.power_cut())
    say(f"  epoch {failover.epoch}, detected {failover.detected_ms} ms, down {failover.downtime:.2f} s")
    assert failover.detected_ms <= 1200, "detection took longer than 1.2 s at the default timeout"
    assert failover.downtime <= 5, f"the guest was away for {failover.downtime:.2f} s"
    assert lab.running_copies("guest") == ["b"]
    assert any("warning: no arbiter" in line for line in protection.romulus_lines), "nobody says what is not decided"
