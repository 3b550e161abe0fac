"""A backup without Romulus: a stock stream, one warning; Ctrl-C discards the replica, a lost connection activates it."""

from romlab.catalogue import PRIMARY, STOCK_STREAM
from romlab.checks import assert_answers, assert_goes_on, interrupt, wait_gone
from romlab.shell import wait_for

LONGEST_SECONDS = 400
EXPECTS = (
    PRIMARY + r"(error|warning): the backup did not answer as Romulus: .*; install and activate Romulus there", STOCK_STREAM)


def run(lab):
    guest = lab.guest_on(lab.pvh, lab.a)
    lab.b.run("romulus-deactivate")

    refused = lab.start_protection(guest)
    refused.wait_text("the backup did not answer as Romulus.*-F accepts this", 120)
    refused.wait_end(60)
    assert_goes_on(lab, guest, "a")
    wait_gone(lab.b, "guest--incoming")

    ended = lab.protect(guest, "-F")
    ended.wait_text("the backup did not answer as Romulus", 1)
    ended.wait_epochs(3)
    interrupt(lab.a, "INT")
    ended.wait_end(40)
    assert_goes_on(lab, guest, "a")
    wait_gone(lab.b, "guest--incoming")

    protection = lab.protect(guest, "-F")
    protection.wait_epochs(3)
    lab.a.power_cut()
    # A stock backup notices the end of the connection and nothing else: end its sshd's.
    lab.b.run("kill -KILL $(ps -o ppid= $(pgrep -o -f 'xl migrate-receive -r'))")
    wait_for("the stock backup to take over", lambda: lab.running_copies("guest") == ["b"], 60, 0.5)
    assert_answers(guest, 60)
    assert guest.ask("check", 30) == "OK"
