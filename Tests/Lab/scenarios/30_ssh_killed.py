"""ssh is killed on the primary: both sides know that the link is gone, the primary's guest goes on, and both say so."""

from romlab.checks import assert_answers
from romlab.shell import wait_for


def run(lab):
    guest = lab.guest_on(lab.pvh, lab.a)
    protection = lab.protect(guest)
    protection.wait_epochs(2)
    lab.a.run("pkill -KILL -f '^ssh hostb xl migrate-receive'")
    protection.wait_end(30)
    assert_answers(guest)
    assert lab.a.domains()["guest"].runs, "the primary's guest was left standing"
    protection.wait_text("the guest goes on here, unprotected.*look there with xl list", 5)
    # Without an arbiter the backup cannot know that the primary lives: it takes over, and says why.
    wait_for("the backup to take over", lambda: lab.b.syslog("failover: the link to the primary ended"), 20)
