"""The backup loses power, without an arbiter: the guest is frozen, and `romulus resume` or `romulus yield` decides."""

import time

from romlab.catalogue import BACKUP_GONE, destroyed, frozen, goes_on
from romlab.checks import assert_goes_on, assert_paused, wait_gone
from romlab.guest import Prober
from romlab.shell import wait_for
from romlab.stream import Stream

LONGEST_SECONDS = 400
EXPECTS = (
    frozen(BACKUP_GONE), goes_on(BACKUP_GONE, "its replica will not run: the admin said so"),
    destroyed(BACKUP_GONE, "the admin said so"))


def run(lab):
    guest = _frozen(lab, _resume)
    assert_goes_on(lab, guest, "a")
    _frozen(lab, _yield)
    wait_gone(lab.a, "guest")
    assert not lab.running_copies("guest")


def _frozen(lab, decide):
    guest, protection = lab.protected()
    with Stream(guest) as stream, Prober(guest) as prober:
        protection.wait_epochs(4)
        lab.b.power_cut()
        protection.wait_text("romulus resume guest", 30)
        lines = [line for line in protection.romulus_lines if "romulus resume guest" in line]
        assert len(lines) == 1, lines
        wait_for("the guest to be frozen", lambda: not lab.a.domains()["guest"].runs, 10)
        assert_paused(lab.a, "guest")
        heard = stream.heard
        time.sleep(3)
        assert stream.heard == heard, "a frozen guest said something"
        assert_paused(lab.a, "guest")
        decide(lab, stream, prober)
    return guest


def _resume(lab, stream, prober):
    lab.a.run("romulus resume guest")
    stream.assert_consistent()
    prober.assert_never_ahead()


def _yield(lab, stream, prober):
    heard = stream.heard
    lab.a.run("romulus yield guest")
    wait_gone(lab.a, "guest")
    assert stream.heard == heard, "what was held was let go although the guest was given up"
