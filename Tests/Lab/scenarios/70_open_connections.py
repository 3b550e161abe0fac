"""Two power cuts at random moments: the same TCP connection goes on, in time, and no client knows more than the guest."""

import random
import socket
import time

from romlab.catalogue import PRIMARY_SILENT, failover
from romlab.guest import Prober
from romlab.protection import watch_failover
from romlab.shell import TooSlow, say
from romlab.stream import Stream

LONGEST_SECONDS = 1000
DETECTION_SECONDS = 1.2
EXPECTS = (failover(PRIMARY_SILENT),)


def run(lab):
    # The guest goes to and fro: from where a cut has left it, it is protected by the host that lost its power.
    for primary, backup, family, rate in ((lab.a, lab.b, socket.AF_INET, 8), (lab.b, lab.a, socket.AF_INET6, 32)):
        if primary is lab.a:
            guest, protection = lab.protected()
        else:
            guest = lab.guest_on(lab.pvh, primary)
            protection = lab.protect(guest, primary=primary, backup=backup)
        guest.ask(f"dirty {rate}")
        with Stream(guest, family) as stream, Prober(guest, family) as prober:
            protection.wait_epochs(5)
            stream.assert_consistent()
            port, answered = stream.port, len(stream.echoed)
            time.sleep(random.uniform(0, 1.5))
            moment = primary.power_cut()
            failover = watch_failover(protection, prober, moment)
            stream.assert_consistent()
            prober.assert_never_ahead()
            assert stream.port == port, "it is another connection"
            assert_in_time(guest, failover)
            say(f"  IPv{4 if family == socket.AF_INET else 6}: epoch {failover.epoch}, down {failover.downtime:.2f} s,"
                f" the connection was silent for {stream.silence(moment):.2f} s; {answered} answers before, {stream}")
        assert lab.running_copies("guest") == [backup.name]
        assert any("warning: no arbiter" in line for line in protection.romulus_lines), "nobody says what is not decided"
        lab.restart(primary)


def assert_in_time(guest, failover):
    """What comes after the detection is libxl's, as a creation is, and takes as long as the machine lets it."""
    longest = DETECTION_SECONDS + 2 * guest.creation_seconds
    if failover.detected_ms > DETECTION_SECONDS * 1000:
        raise TooSlow(f"detected after {failover.detected_ms} ms at the default timeout")
    if failover.downtime > longest:
        raise TooSlow(f"the guest was away for {failover.downtime:.2f} s, where `xl create` took {guest.creation_seconds:.2f} s")
