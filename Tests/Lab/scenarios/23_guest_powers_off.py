"""The guest shuts itself down: that is no failure, and its replica is discarded."""

from romlab.checks import wait_gone
from romlab.shell import wait_for


def run(lab):
    guest = lab.guest_on(lab.pvh, lab.a)
    protection = lab.protect(guest)
    protection.wait_epochs(2)
    guest.tell("poweroff")
    # On an emulated host shutting down takes its time. Not the minute, though, that libxl gives a guest to acknowledge a
    # suspension: that long xl lingers.
    wait_for("the backup's word", lambda: lab.b.syslog("replica discarded: .*the guest has shut down"), 40)
    wait_gone(lab.b, "guest--incoming")
    assert not lab.running_copies("guest"), "a guest that has shut down must not come back"
