"""The save helper is killed on the primary: the guest goes on there, the replica is discarded."""

from romlab.catalogue import FAREWELL, KILLED_HELPER, discarded, goes_on
from romlab.checks import assert_goes_on, wait_gone

EXPECTS = (
    KILLED_HELPER, goes_on(r"checkpointing failed \(libxl's own lines say why\)", "its replica is discarded"),
    discarded(FAREWELL + "checkpointing failed: libxl's own lines say why"))


def run(lab):
    guest = lab.guest_on(lab.pvh, lab.a)
    # With the options that change nothing here, as an admin may give them: they keep working.
    protection = lab.protect(guest, "-e", "-u", "-i", "100", "-s", "'ssh -q'")
    protection.wait_epochs(2)
    lab.a.run("pkill -KILL -f -- --save-domain")
    protection.wait_end(30)
    assert_goes_on(lab, guest, "a")
    protection.wait_text("checkpointing failed.*its replica is discarded", 5)
    wait_gone(lab.b, "guest--incoming")
