"""`xl remus` is killed: the copy on the primary is paused before the backup takes over, so that only one runs."""

from romlab.catalogue import HELPER, PRIMARY_GONE, failover, suspected
from romlab.checks import assert_answers
from romlab.host import PRIMARY_XL
from romlab.shell import wait_for

EXPECTS = (
    HELPER + r"error: xl remus was killed: the backup takes over; the copy here is paused: remove it with xl destroy \d+"
             " once the guest runs there$",
    suspected(PRIMARY_GONE), failover(PRIMARY_GONE))
# Until the admin has seen that it runs on the backup. The moment may be one at which the guest is suspended.
LEAVES = (
    r"host a: domain guest \(\d+, --p(--|ss)-\) does not run", r"host a: network device rom\d+\.0, without an xl remus",
    r"host a: qdisc (plug on rom|ingress on vif)\d+\.0, without an xl remus")


def run(lab):
    guest, protection = lab.protected()
    protection.wait_epochs(2)
    lab.a.run(f"pkill -KILL -f {PRIMARY_XL}")
    wait_for("the backup to take over", lambda: lab.b.syslog("failover: "), 20)
    wait_for("the replica to run", lambda: lab.running_copies("guest") == ["b"], 20)
    assert_answers(guest)
    assert guest.ask("check", 30) == "OK"
    assert not lab.a.domains()["guest"].runs, "two copies run"
    assert lab.a.syslog("the copy here is paused"), "nobody says what to do with the old copy"
