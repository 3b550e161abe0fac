"""The whole primary freezes for ten seconds: its copy stays silent and does not go on, the replica does."""

import time

from romlab.catalogue import TAKEN_OVER
from romlab.checks import assert_stays
from romlab.guest import Prober
from romlab.shell import say, wait_for
from romlab.sniffer import Sniffer
from romlab.stream import Stream

FROZEN_SECONDS = 10
EXPECTS = TAKEN_OVER


def run(lab):
    guest, protection = lab.protected()
    with Sniffer(guest) as sniffer, Stream(guest) as stream, Prober(guest) as prober:
        protection.wait_epochs(4)
        frozen = time.monotonic()
        lab.a.set_frozen(True)
        try:
            announced = sniffer.wait_announced("b", frozen)
            say(f"  the replica announced itself after {announced.moment - frozen:.2f} s")
            stream.assert_consistent()
            time.sleep(max(0.0, frozen + FROZEN_SECONDS - time.monotonic()))
        finally:
            lab.a.set_frozen(False)
        # The frozen processor goes on in the middle of whatever it did: there is a moment until it is told.
        wait_for("the old copy to stop", lambda: lab.running_copies("guest") == ["b"], 10)
        assert_stays(lab, guest, "b", 8)
        stream.assert_consistent()
        prober.assert_never_ahead()
        sniffer.assert_silent("a", announced.moment)
