"""`xl migrate-receive` is killed: the admin says that the guest goes on, and protects it at once; then it reboots, and
shuts itself down."""

from romlab.catalogue import BACKUP_GONE, FAREWELL, SHUT_DOWN, STALE_REPLICA, VIF_GONE, discarded, frozen, goes_on
from romlab.checks import assert_goes_on, wait_gone
from romlab.host import BACKUP_XL
from romlab.shell import wait_for

EXPECTS = (
    frozen(BACKUP_GONE), goes_on(BACKUP_GONE, "its replica will not run: the admin said so"), STALE_REPLICA, SHUT_DOWN,
    VIF_GONE, discarded(FAREWELL + "the guest has shut down"))


def run(lab):
    guest, protection = lab.protected()
    protection.wait_epochs(2)
    lab.b.run(f"pkill -KILL -f {BACKUP_XL}")
    protection.wait_text("the guest here is frozen.*romulus resume guest", 15)
    lab.a.run("romulus resume guest")
    protection.wait_end(30)
    assert_goes_on(lab, guest, "a")
    # The dead receiver's replica is still there; the next run removes it by itself.
    for host in lab.hosts:
        lab.install_settings(host, arbiter="none")
    again = lab.protect(guest)
    again.wait_epochs(2)
    assert any("an earlier run had left behind" in line for line in lab.b.syslog()), "nothing was left to remove?"
    _shuts_down(lab, guest, "reboot")
    wait_for("its on_reboot, which is another domain", lambda: lab.running_copies("guest") == ["a"], 40)
    wait_for("the guest to answer", guest.answers, 60)
    lab.protect(guest).wait_epochs(2)
    _shuts_down(lab, guest, "poweroff")
    wait_for("its on_poweroff, which is no domain", lambda: not lab.a.domains(), 20)


def _shuts_down(lab, guest, how):
    """That is no failure, and its replica is discarded."""
    known = len(_discarded(lab))
    guest.tell(how)
    # On an emulated host shutting down takes its time. Not the minute, though, that libxl gives a guest to acknowledge a
    # suspension: that long xl lingers.
    wait_for("the backup's word", lambda: len(_discarded(lab)) > known, 40)
    wait_gone(lab.b, "guest--incoming")
    assert not lab.b.domains(), "a guest that has shut down must not come back"


def _discarded(lab):
    return lab.b.syslog("replica discarded: .*the guest has shut down")
