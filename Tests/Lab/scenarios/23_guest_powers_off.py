"""The guest shuts itself down: that is no failure, and its replica is discarded."""

from romlab.checks import wait_gone
from romlab.shell import wait_for


def run(lab):
    guest = lab.guest_on(lab.pvh, lab.a)
    protection = lab.protect(guest)
    protection.wait_epochs(2)
    try:
        guest.ask("poweroff", 3)
    except Exception:
        pass  # it has no time to answer
    # xl itself lingers: libxl gives a guest a minute to acknowledge a suspension.
    wait_for("the backup's word", lambda: lab.b.syslog("replica discarded: .*the guest has shut down"), 10)
    wait_gone(lab.b, "guest--incoming")
    assert not lab.running_copies("guest"), "a guest that has shut down must not come back"
