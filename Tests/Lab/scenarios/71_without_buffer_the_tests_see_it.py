"""Without the buffer (-n) output escapes: at least one of six power cuts shows a contradiction to clients."""

import random
import socket
import time

from romlab.catalogue import PRIMARY_SILENT, failover
from romlab.guest import Prober
from romlab.protection import watch_failover
from romlab.shell import LabError, say
from romlab.stream import Stream

LONGEST_SECONDS = 1200
EXPECTS = (failover(PRIMARY_SILENT),)


def run(lab):
    for attempt in range(6):
        family = (socket.AF_INET, socket.AF_INET6)[attempt % 2]
        guest = lab.guest_on(lab.pvh, lab.a)
        protection = lab.protect(guest, "-F", "-n")
        with Stream(guest, family) as stream, Prober(guest, family) as prober:
            protection.wait_epochs(5)
            # Up to here both hold: it is the cut that shows what had escaped.
            stream.assert_consistent()
            prober.assert_never_ahead()
            time.sleep(random.uniform(0, 1.5))
            watch_failover(protection, prober, lab.a.power_cut())
            found = _contradictions(stream, prober)
        for one in found:
            say(f"  seen: {one}")
        if found:
            return
    raise AssertionError("six power cuts without the buffer, and no contradiction was seen")


def _contradictions(stream, prober):
    found = []
    for check in (stream.assert_consistent, prober.assert_never_ahead):
        try:
            check()
        except LabError as error:
            found.append(str(error))
    return found
