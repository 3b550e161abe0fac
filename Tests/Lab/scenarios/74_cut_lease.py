"""The link between the hosts is cut, and a lease decides: one copy runs, the other is gone; so with a power cut."""

import time

from romlab.catalogue import BACKUP, BACKUP_GONE, PRIMARY, PRIMARY_GONE, asked, destroyed, discarded, failover, frozen_until, goes_on, suspected
from romlab.checks import assert_goes_on, assert_stays, wait_gone, wait_one_copy
from romlab.etcd import SETTINGS
from romlab.guest import Prober
from romlab.protection import watch_failover
from romlab.shell import say, wait_for
from romlab.stream import Stream

LONGEST_SECONDS = 450
MINE, OTHERS = "etcd has settled it for this host", "etcd has `runs .*'"
# Granted is not yet running.
WAITS = (rf"({PRIMARY}|{BACKUP})warning: etcd has settled it for \S+: the copy here stays paused until that one runs, or cannot;"
         " if that host is lost, decide with romulus resume or romulus yield$")
EXPECTS = (
    frozen_until(BACKUP_GONE, "lease"), suspected(PRIMARY_GONE), asked(PRIMARY_GONE, "lease"),
    BACKUP + "warning: the primary still has its lease in etcd; waiting for it to end, or to be settled$",
    WAITS, failover(f"{PRIMARY_GONE}; {MINE}"), destroyed(BACKUP_GONE, OTHERS),
    goes_on(BACKUP_GONE, f"its replica will not run: {MINE}"),
    discarded(f"{PRIMARY_GONE}, and the arbiter refused: {OTHERS}"))


def run(lab):
    lab.etcd.start(lab.logs)
    try:
        _link_cut(lab)
        _power_cut(lab)
    finally:
        lab.etcd.stop()


def _protect(lab):
    guest = lab.guest_on(lab.pvh, lab.a)
    for host in lab.hosts:
        lab.install_settings(host, **SETTINGS)
    return guest, lab.protect(guest)


def _link_cut(lab):
    guest, protection = _protect(lab)
    with Stream(guest) as stream, Prober(guest) as prober:
        protection.wait_epochs(4)
        cut = time.monotonic()
        lab.network.set_replication(False)
        # Before the lease has run out the guest runs on host a, and its silence is no decision.
        wait_for("the lease to decide", lambda: _domains(lab) == 1, 60, 0.5)
        winner = wait_one_copy(lab, guest)
        say(f"  {winner} has it {time.monotonic() - cut:.2f} s after the cut")
        stream.assert_consistent()
        prober.assert_never_ahead()
        assert_stays(lab, guest, winner, 5)
        lab.network.set_replication(True)
        assert_stays(lab, guest, winner, 10)
        assert _domains(lab) == 1, "a second copy is left"
        stream.assert_consistent()


def _domains(lab):
    """Copies of any state on both hosts."""
    return sum(len(host.domains()) for host in lab.hosts)


def _power_cut(lab):
    guest, protection = _protect(lab)
    with Stream(guest) as stream, Prober(guest) as prober:
        protection.wait_epochs(4)
        watch_failover(protection, prober, lab.a.power_cut())
        stream.assert_consistent()
        prober.assert_never_ahead()
    assert_goes_on(lab, guest, "b")
    wait_gone(lab.b, "guest--incoming")
