"""The link between the hosts is cut one way only: never two copies, and in the end one that runs and answers."""

import time

from romlab.catalogue import TAKEN_OVER
from romlab.checks import assert_stays, wait_one_copy
from romlab.guest import Prober
from romlab.shell import say
from romlab.stream import Stream

LONGEST_SECONDS = 400
EXPECTS = TAKEN_OVER


def run(lab):
    for deaf, mute in (("b", "a"), ("a", "b")):
        guest, protection = lab.protected()
        with Stream(guest) as stream, Prober(guest) as prober:
            protection.wait_epochs(4)
            cut = time.monotonic()
            lab.network.lose_replication_from(mute)
            time.sleep(3)
            winner = wait_one_copy(lab, guest)
            say(f"  host {deaf} hears nothing: {winner} runs it {time.monotonic() - cut:.2f} s after the cut")
            stream.assert_consistent()
            assert_stays(lab, guest, winner, 5)
            lab.network.set_replication(True)
            assert_stays(lab, guest, winner, 8)
            stream.assert_consistent()
            prober.assert_never_ahead()
