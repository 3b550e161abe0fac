"""`xl destroy` on the primary moves the guest to the backup, as stock Remus has it."""

import time

from romlab.catalogue import PRIMARY, VIF_GONE, failover
from romlab.guest import Prober
from romlab.protection import watch_failover

EXPECTS = (
    VIF_GONE, failover("the primary's copy has been destroyed"),
    # xl may take a minute until it says so.
    PRIMARY + "warning: protection ended: the domain was destroyed here; the backup takes over$")
# And until then its helper has the domain's memory mapped.
LEAVES = (r"host a: domain \(null\) \(\d+, --p(--|ss)d\) is dying",)


def run(lab):
    guest, protection = lab.protected()
    with Prober(guest) as prober:
        protection.wait_epochs(3)
        lab.a.run("xl destroy guest")
        watch_failover(protection, prober, time.monotonic())
    assert lab.running_copies("guest") == ["b"]
