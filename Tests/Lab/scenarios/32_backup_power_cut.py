"""The backup loses power: with a lease the primary's guest is not left suspended but answers again within moments."""

from romlab.catalogue import BACKUP_SILENT, frozen_until, goes_on
from romlab.checks import assert_goes_on
from romlab.etcd import SETTINGS
from romlab.guest import Prober
from romlab.shell import TooSlow, say

EXPECTS = (
    frozen_until(BACKUP_SILENT, "lease"),
    goes_on(BACKUP_SILENT, "its replica will not run: etcd has settled it for this host"))


def run(lab):
    lab.etcd.start(lab.logs)
    try:
        _lose_the_backup(lab)
    finally:
        lab.etcd.stop()


def _lose_the_backup(lab):
    guest = lab.guest_on(lab.pvh, lab.a)
    for host in lab.hosts:
        lab.install_settings(host, **SETTINGS)
    protection = lab.protect(guest)
    guest.ask("dirty 32")
    with Prober(guest) as prober:
        protection.wait_epochs(4)
        moment = lab.b.power_cut()
        # At the deadline (750 ms at the default timeout) the guest is frozen, until etcd has settled it.
        protection.wait_end(30)
        answered = prober.wait_first_after(moment + 0.75, 15)
        gaps = [later.received - earlier.received for earlier, later in zip(prober.replies, prober.replies[1:])]
    say(f"  longest silence {max(gaps):.2f} s; first answer {answered.received - moment:.2f} s after the cut")
    if max(gaps) >= 10:
        raise TooSlow(f"the guest was silent for {max(gaps):.1f} s")
    assert_goes_on(lab, guest, "a")
    protection.wait_text("the backup has heard nothing for .*the guest goes on here.*etcd has settled it", 5)
