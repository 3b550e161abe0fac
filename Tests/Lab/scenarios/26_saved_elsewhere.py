"""`xl save` of a protected guest: its log of writes is somebody else's then, and so is the guest. Protection ends with one
line, and no second copy runs."""

from romlab.catalogue import PRIMARY, VIF_GONE, discarded
from romlab.checks import assert_goes_on, wait_gone

# Long enough for xl save to find the guest between two checkpoints.
PERIOD = ("-i", "5000")
SAVED = "/tmp/saved"
TAKEN = r"somebody else has (suspended the guest \(xl save or xl migrate\)|used the log of the guest's writes .*)"
EXPECTS = (
    PRIMARY + rf"(error|warning|note): .*{TAKEN}", PRIMARY + rf"(protection ended: |error: ).*{TAKEN}",
    PRIMARY + r"(error|warning): (the guest cannot be saved: )?somebody else has ", VIF_GONE,
    discarded("the primary said farewell: .*"))


def run(lab):
    guest = lab.guest_on(lab.pvh, lab.a)
    _saved(lab, guest, "-c")
    assert_goes_on(lab, guest, "a")
    _saved(lab, guest, "")
    wait_gone(lab.a, "guest", 60)
    assert not lab.b.domains(), "a second copy runs"
    lab.a.run(f"xl restore {SAVED}", timeout=90)
    assert_goes_on(lab, guest, "a")
    lab.a.run(f"rm {SAVED}")


def _saved(lab, guest, option):
    protection = lab.protect(guest, *PERIOD)
    protection.wait_epochs(2)
    lab.a.run(f"xl save {option} guest {SAVED}", timeout=120)
    protection.wait_end(90)
    assert "somebody else has" in protection.text, protection.tail()
    wait_gone(lab.b, "guest--incoming")
