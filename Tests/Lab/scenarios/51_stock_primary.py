"""A primary without Romulus: the backup takes over when it has been silent for stock_detect_timeout_ms."""

import time

from romlab.catalogue import PRIMARY_SILENT, failover
from romlab.checks import assert_answers
from romlab.shell import wait_for

EXPECTS = (failover(PRIMARY_SILENT),)


def run(lab):
    guest = lab.guest_on(lab.pvh, lab.a)
    lab.a.run("romulus-deactivate")
    lab.install_settings(lab.b, stock_detect_timeout_ms=3000)
    protection = lab.start_protection(guest, "-F", "-n", "-d", "-i", "500")
    wait_for("the first complete checkpoint", lambda: lab.b.syslog("replica ready"), 120)
    time.sleep(5)
    protection.wait_text("Checkpointed save", 30)
    lab.a.power_cut()
    lines = wait_for("the backup to take over", lambda: lab.b.syslog("failover: no byte from the primary"), 30)
    assert "for 30" in lines[-1], lines[-1]
    assert_answers(guest, 30)
    assert guest.ask("check", 30) == "OK"
