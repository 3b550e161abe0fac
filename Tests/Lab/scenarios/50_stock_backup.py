"""A backup without Romulus: a stock stream, one warning, and a failover when the connection ends."""

from romlab.checks import assert_answers
from romlab.shell import wait_for


def run(lab):
    guest = lab.guest_on(lab.pvh, lab.a)
    lab.b.run("romulus-deactivate")
    protection = lab.protect(guest)
    protection.wait_text("the backup did not answer as Romulus", 1)
    protection.wait_epochs(3)
    lab.a.power_cut()
    # A stock backup notices the end of the connection and nothing else.
    lab.b.run("pkill -KILL -f 'sshd: root@notty' -o; pkill -f 'sshd: .*notty'", check=False)
    wait_for("the stock backup to take over", lambda: lab.running_copies("guest") == ["b"], 60, 0.5)
    assert_answers(guest, 60)
    assert guest.ask("check", 30) == "OK"
