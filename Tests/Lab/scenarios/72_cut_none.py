"""The link between the hosts is cut, without an arbiter: the primary's copy is frozen, only the backup's runs."""

import time

from romlab.catalogue import TAKEN_OVER
from romlab.checks import assert_goes_on, assert_paused, assert_stays, wait_gone, wait_one_copy
from romlab.guest import Prober
from romlab.shell import say, wait_for
from romlab.sniffer import Sniffer
from romlab.stream import Stream

# What had been acknowledged before the cut may still be on its way out of an emulated machine.
RELEASE_SECONDS = 0.3
EXPECTS = TAKEN_OVER


def run(lab):
    guest, protection = lab.protected()
    with Sniffer(guest) as sniffer, Stream(guest) as stream, Prober(guest) as prober:
        protection.wait_epochs(4)
        assert sniffer.frames_from("a") and not sniffer.frames_from("b")
        cut = time.monotonic()
        lab.network.set_replication(False)
        announced = sniffer.wait_announced("b", cut)
        wait_for("the primary's copy to be frozen", lambda: not lab.a.domains()["guest"].runs, 10)
        assert_paused(lab.a, "guest")
        assert wait_one_copy(lab, guest) == "b"
        stream.assert_consistent()
        say(f"  the replica announced itself {announced.moment - cut:.2f} s after the cut")
        assert_stays(lab, guest, "b", 5)
        assert_paused(lab.a, "guest")

        lab.network.set_replication(True)
        # Not after the minute that libxl gives a guest to acknowledge a suspension.
        protection.wait_text("Primary domain has been destroyed", 20)
        wait_gone(lab.a, "guest")
        protection.wait_end(90)
        assert_goes_on(lab, guest, "b")
        stream.assert_consistent()
        prober.assert_never_ahead()
        sniffer.assert_silent("a", cut + RELEASE_SECONDS)
