"""`xl remus` is stopped (SIGSTOP): its helper freezes the guest before the backup takes over; it comes back, and yields."""

from romlab.catalogue import TAKEN_OVER
from romlab.checks import assert_goes_on, assert_paused, assert_stays, wait_gone, wait_one_copy
from romlab.guest import Prober
from romlab.host import PRIMARY_XL
from romlab.shell import wait_for
from romlab.stream import Stream

EXPECTS = TAKEN_OVER


def run(lab):
    guest, protection = lab.protected()
    # Ctrl-Z, first: nothing happens.
    lab.a.run(f"pkill -TSTP -f {PRIMARY_XL}")
    protection.wait_epochs(3)
    with Stream(guest) as stream, Prober(guest) as prober:
        protection.wait_epochs(2)
        lab.a.run(f"pkill -STOP -f {PRIMARY_XL}")
        wait_for("the helper to freeze the guest", lambda: lab.a.syslog("the copy here is frozen"), 10)
        assert_paused(lab.a, "guest")
        assert wait_one_copy(lab, guest) == "b"
        lab.a.run(f"pkill -CONT -f {PRIMARY_XL}")
        # Not after the minute that libxl gives a guest to acknowledge a suspension.
        protection.wait_text("Primary domain has been destroyed", 20)
        wait_gone(lab.a, "guest")
        assert_stays(lab, guest, "b", 3)
        stream.assert_consistent()
        prober.assert_never_ahead()
    assert_goes_on(lab, guest, "b")
