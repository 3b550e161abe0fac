"""At -i 1000 every answer waits for a checkpoint: UDP, ICMP, ARP and IPv6's like; nothing escapes the buffer."""

from romlab import echoes
from romlab.shell import say
from romlab.stream import Latency

# With pauses of random length before it, a question waits for half an interval in the middle.
LEAST_MS = 300
COUNT = 5


def run(lab):
    guest = lab.guest_on(lab.pvh, lab.a)
    free = {kind: Latency.of(echoes.round_trips(guest, kind, COUNT)) for kind in echoes.KINDS}
    protection = lab.protect(guest, "-i", "1000")
    protection.wait_epochs(2)
    held = {kind: Latency.of(echoes.round_trips(guest, kind, COUNT)) for kind in echoes.KINDS}
    for kind in echoes.KINDS:
        say(f"  {kind}: median {free[kind].median:.0f} ms unprotected, {held[kind].median:.0f} ms held")
    escaped = [kind for kind in echoes.KINDS
               if held[kind].median < LEAST_MS or held[kind].median < 5 * free[kind].median]
    assert not escaped, f"not held: {escaped}"
