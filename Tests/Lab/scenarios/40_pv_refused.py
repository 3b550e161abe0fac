"""A PV guest, which Debian's Xen cannot protect, is refused at once, with the reason, and goes on."""

from romlab.catalogue import NEVER_BEGUN, PRIMARY
from romlab.checks import wait_gone

EXPECTS = (
    PRIMARY + "error: a PV guest cannot be protected on this Xen, which is built without shadow paging and so cannot log"
              " its dirty pages; use a PVH or HVM guest$",
    NEVER_BEGUN)


def run(lab):
    guest = lab.guest_on(lab.pv, lab.a)
    protection = lab.start_protection(guest)
    protection.wait_end(30)
    protection.wait_text("romulus: pvguest: error: a PV guest cannot be protected on this Xen", 1)
    assert "logdirty" not in protection.text, "libxc was the one to find out"
    assert guest.answers(), "the guest does not answer any more"
    assert lab.a.domains()["pvguest"].runs
    wait_gone(lab.b, "pvguest--incoming")
