"""The plug is pulled at a random moment, three times: the replica goes on with everything that was acknowledged."""

import random
import time

from romlab.guest import Prober
from romlab.protection import watch_failover
from romlab.shell import say

LONGEST_SECONDS = 420


def run(lab):
    for attempt in range(3):
        guest = lab.guest_on(lab.pvh, lab.a)
        protection = lab.protect(guest)
        guest.ask(f"dirty {(0, 8, 32)[attempt]}")
        with Prober(guest) as prober:
            protection.wait_epochs(5)
            time.sleep(random.uniform(0, 1.5))
            failover = watch_failover(protection, prober, lab.a.power_cut())
        say(f"  epoch {failover.epoch}, detected {failover.detected_ms} ms, down {failover.downtime:.2f} s")
        assert failover.detected_ms <= 1200, "detection took longer than 1.2 s at the default timeout"
        assert failover.downtime <= 5, f"the guest was away for {failover.downtime:.2f} s"
        assert lab.running_copies("guest") == ["b"]
        assert any("output is not held" in line for line in protection.romulus_lines), "no warning without -F"
