"""`xl remus` is killed, and its save helper just before: the copy on the primary is paused before the backup takes over.

So only one runs, and what it had to say stays unsaid, whoever starts `xl remus` again. Before, somebody's tc takes the redirect of its
output away.
"""

import time

from romlab.catalogue import BACKUP, HELPER, PRIMARY, PRIMARY_GONE, failover, suspected
from romlab.checks import assert_answers
from romlab.host import PRIMARY_XL
from romlab.shell import wait_for
from romlab.sniffer import Sniffer

EXPECTS = (
    HELPER + r"error: xl remus was killed: the backup takes over; the copy here is paused: remove it with xl destroy \d+"
             " once the guest runs there$",
    PRIMARY + r"warning: somebody \(tc, Open vSwitch\) has removed the redirect behind vif\d+\.0: its output was not held for at"
              r" most \d+ ms, and is held again$",
    PRIMARY + "error: an earlier xl remus was killed, and the copy here stands still because the backup takes over: ",
    BACKUP + r"error: domain \d+ here already has this guest's name: two copies must not run; ",
    suspected(PRIMARY_GONE), failover(PRIMARY_GONE))
# Until the admin has seen that it runs on the backup. The moment may be one at which the guest is suspended.
LEAVES = (
    r"host a: domain guest \(\d+, --p(--|ss)-\) does not run", r"host a: network device rom\d+\.0, without an xl remus",
    r"host a: qdisc (plug on rom|ingress on vif)\d+\.0, without an xl remus")


def run(lab):
    guest, protection = lab.protected()
    protection.wait_epochs(2)
    lab.a.run("tc qdisc del dev $(cd /sys/class/net; echo vif*.0) ingress")
    protection.wait_text("is held again", 10)
    protection.wait_epochs(2)
    with Sniffer(guest) as sniffer:
        killed_and_started_again(lab, guest, sniffer)


def killed_and_started_again(lab, guest, sniffer):
    assert lab.a.run("pgrep -c -x romulus-guard").stdout.strip() == "1"
    # At one blow, so that xl says nothing of its helper.
    lab.a.run(f"kill -KILL $(pgrep -f '[l]ibxl-save-helper --save') $(pgrep -f {PRIMARY_XL})")
    killed = time.monotonic()
    wait_for("the backup to take over", lambda: lab.b.syslog("failover: "), 20)
    wait_for("the replica to run", lambda: lab.running_copies("guest") == ["b"], 20)
    assert_answers(guest)
    assert guest.ask("check", 30) == "OK"
    assert not lab.a.domains()["guest"].runs, "two copies run"
    assert lab.a.run("pgrep -x romulus-guard", check=False).returncode == 1, "the guard has not ended"
    assert lab.a.syslog("the copy here is paused"), "nobody says what to do with the old copy"
    again = lab.start_protection(guest)
    assert again.wait_end(30) not in (0, None)
    assert "look there with xl list" in again.text, again.text
    assert not lab.a.domains()["guest"].runs, "two copies run"
    # What had been let go of was on its way.
    sniffer.assert_silent("a", killed + 0.5)
