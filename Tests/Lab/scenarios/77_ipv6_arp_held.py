"""At -i 1000 every answer waits for a checkpoint: UDP, ICMP, ARP and IPv6's like; nothing escapes the buffer."""

from statistics import median

from romlab import echoes
from romlab.shell import say

LEAST_MS = 500
COUNT = 5


def run(lab):
    guest = lab.guest_on(lab.pvh, lab.a)
    free = _ask(guest)
    protection = lab.protect(guest, "-i", "1000")
    protection.wait_epochs(2)
    held = _ask(guest)
    for kind in echoes.KINDS:
        say(f"  {kind}: median {median(free[kind]):.0f} ms unprotected, {median(held[kind]):.0f} ms held,"
            f" {min(held[kind]):.0f} at the least")
    # A guest that is late with an epoch begins the next at once: one answer may wait for less than the interval, none for
    # nothing.
    escaped = [kind for kind in echoes.KINDS
               if median(held[kind]) < LEAST_MS or min(held[kind]) < 3 * median(free[kind])]
    assert not escaped, f"not held: {escaped}"


def _ask(guest):
    """Milliseconds."""
    return {kind: [seconds * 1000 for seconds in echoes.round_trips(guest, kind, COUNT)] for kind in echoes.KINDS}
