"""An HVM guest with a device model is protected and failed over."""

from romlab.guest import Prober
from romlab.protection import watch_failover
from romlab.shell import say

LONGEST_SECONDS = 400


def run(lab):
    guest = lab.guest_on(lab.hvm, lab.a)
    protection = lab.protect(guest)
    with Prober(guest) as prober:
        protection.wait_epochs(4)
        failover = watch_failover(protection, prober, lab.a.power_cut(), 90)
    say(f"  epoch {failover.epoch}, detected {failover.detected_ms} ms, down {failover.downtime:.2f} s")
    assert lab.running_copies("hvmguest") == ["b"]
