"""`xl migrate-receive` is killed on the backup: the admin says that the guest goes on, and can protect it at once."""

from romlab.checks import assert_goes_on


def run(lab):
    guest = lab.guest_on(lab.pvh, lab.a)
    protection = lab.protect(guest)
    protection.wait_epochs(2)
    lab.b.run("pkill -KILL -f '^/usr/lib/xen.*/xl migrate-receive'")
    protection.wait_text("the guest here is frozen.*romulus resume guest", 15)
    lab.a.run("romulus resume guest")
    protection.wait_end(30)
    assert_goes_on(lab, guest, "a")
    # The dead receiver's replica is still there; the next run removes it by itself.
    again = lab.protect(guest)
    again.wait_epochs(2)
    assert any("an earlier run had left behind" in line for line in lab.b.syslog()), "nothing was left to remove?"
