"""ssh is killed on the primary: its copy is frozen, the replica takes over at its deadline, the old copy yields."""

from romlab.catalogue import BACKUP_GONE, PRIMARY_GONE, destroyed, failover, frozen, suspected
from romlab.checks import assert_answers, assert_goes_on, assert_paused
from romlab.shell import wait_for

EXPECTS = (
    frozen(BACKUP_GONE), suspected(PRIMARY_GONE), failover(PRIMARY_GONE), destroyed(BACKUP_GONE, "the admin said so"))


def run(lab):
    guest, protection = lab.protected()
    protection.wait_epochs(2)
    lab.a.run("pkill -KILL -f '^ssh hostb xl migrate-receive'")
    protection.wait_text("the link to the backup.*the guest here is frozen and its output held", 15)
    wait_for("the backup to take over", lambda: lab.b.syslog("failover: the link to the primary ended"), 20)
    wait_for("the replica to run", lambda: lab.running_copies("guest") == ["b"], 20)
    assert_answers(guest)
    assert_paused(lab.a, "guest")
    lab.a.run("romulus yield guest")
    # Not after the minute that libxl gives a guest to acknowledge a suspension.
    protection.wait_text("Primary domain has been destroyed", 20)
    assert protection.wait_end(30) == 0
    assert_goes_on(lab, guest, "b")
