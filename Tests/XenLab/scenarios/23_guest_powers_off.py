"""The guest shuts itself down: that is no failure, and its replica is discarded."""

from romlab.checks import wait_gone


def run(lab):
    guest = lab.guest_on(lab.pvh, lab.a)
    protection = lab.protect(guest)
    protection.wait_epochs(2)
    try:
        guest.ask("poweroff", 3)
    except Exception:
        pass  # it has no time to answer
    protection.wait_end(60)
    wait_gone(lab.b, "guest--incoming")
    assert not lab.running_copies("guest"), "a guest that has shut down must not come back"
    protection.wait_text("the guest has shut down; its replica is discarded", 5)
