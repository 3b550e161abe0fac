"""An admin pauses the guest and lets it go on, protected. Ctrl-C in `xl remus` ends protection: the guest goes on where it is, the
replica is discarded, nothing leaks."""

import json
import time

from romlab.checks import assert_goes_on, assert_preload_is_contained, interrupt, wait_gone


def run(lab):
    guest = lab.guest_on(lab.pvh, lab.a)
    protection = lab.start_protection(guest)
    protection.wait_text("Frames iteration 0", 60)
    assert guest.answers(), "the guest is not heard during the first copy"
    protection.wait_protected()
    protection.wait_epochs(2)
    _pause(lab, protection)
    assert_preload_is_contained(lab.a)
    assert_preload_is_contained(lab.b)
    interrupt(lab.a, "INT")
    protection.wait_end(30)
    assert_goes_on(lab, guest, "a")
    protection.wait_text("protection ended by SIGINT: .* its replica is discarded", 5)
    wait_gone(lab.b, "guest--incoming")
    assert any("replica discarded" in line for line in lab.b.syslog())


def _pause(lab, protection):
    lab.a.run("xl pause guest")
    # Where the order to suspend was out already, libxl waits for the guest.
    said = protection.wait_text("the guest (is paused|was paused in the middle of a checkpoint)", 30)[1]
    time.sleep(3)
    [status] = json.loads(lab.a.run("romulus status guest --json").stdout)
    assert status["state"] == ("paused" if said == "is paused" else "protected"), status
    lab.a.run("xl unpause guest")
    protection.wait_epochs(2)
