"""The link between the hosts is cut, and both may fence each other: exactly one stays on, and runs the guest."""

import time

from romlab.catalogue import BACKUP_GONE, GOES_SECOND, PRIMARY_GONE, asked, failover, frozen_until, goes_on
from romlab.checks import assert_stays
from romlab.guest import Prober
from romlab.network import THIRD_PLACE
from romlab.power import PORT, PowerSwitch
from romlab.shell import say, wait_for
from romlab.stream import Stream

FENCED = "fence_lab has turned the other host off"
EXPECTS = (
    frozen_until(BACKUP_GONE, "fence"), asked(PRIMARY_GONE, "fence"), failover(f"{PRIMARY_GONE}; {FENCED}"),
    goes_on(BACKUP_GONE, f"its replica will not run: {FENCED}"), GOES_SECOND)


def run(lab):
    guest = lab.guest_on(lab.pvh, lab.a)
    for host, other in ((lab.a, lab.b), (lab.b, lab.a)):
        lab.install_settings(
            host, arbiter="fence", fence_agent="fence_lab",
            fence_options=[f"ip={THIRD_PLACE}", f"ipport={PORT}", f"plug={other.name}"])
    with PowerSwitch(lab) as switch:
        tried = lab.a.run("romulus test").stdout
        assert "problem" not in tried and tried.startswith("ok"), tried
        protection = lab.protect(guest)
        with Stream(guest) as stream, Prober(guest) as prober:
            protection.wait_epochs(4)
            assert "off" not in " ".join(switch.requests), "somebody was fenced without a reason"
            cut = time.monotonic()
            lab.network.set_replication(False)
            wait_for("one host to be fenced", lambda: not all(host.is_on() for host in lab.hosts), 30)
            say(f"  fenced {time.monotonic() - cut:.2f} s after the cut: {switch.requests}")
            survivors = [host.name for host in lab.hosts if host.is_on()]
            assert len(survivors) == 1, "both hosts were turned off"
            wait_for("the guest to run", lambda: lab.running_copies("guest") == survivors, 30)
            stream.assert_consistent()
            prober.assert_never_ahead()
            assert_stays(lab, guest, survivors[0], 8)
            assert [host.name for host in lab.hosts if host.is_on()] == survivors
