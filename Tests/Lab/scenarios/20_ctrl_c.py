"""Ctrl-C in `xl remus` ends protection: the guest goes on where it is, the replica is discarded, nothing leaks."""

from romlab.checks import assert_goes_on, assert_preload_is_contained, interrupt, wait_gone


def run(lab):
    guest = lab.guest_on(lab.pvh, lab.a)
    protection = lab.start_protection(guest)
    protection.wait_text("Frames iteration 0", 60)
    assert guest.answers(), "the guest is not heard during the first copy"
    protection.wait_protected()
    protection.wait_epochs(2)
    assert_preload_is_contained(lab.a)
    assert_preload_is_contained(lab.b)
    interrupt(lab.a, "INT")
    protection.wait_end(30)
    assert_goes_on(lab, guest, "a")
    protection.wait_text("protection ended by SIGINT: .* its replica is discarded", 5)
    wait_gone(lab.b, "guest--incoming")
    assert any("replica discarded" in line for line in lab.b.syslog())
