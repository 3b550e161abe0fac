"""At -i 1000 every answer waits for a checkpoint: UDP, ICMP, ARP and IPv6's like; then the save helper is killed: the guest goes on."""

from statistics import median

from romlab import echoes
from romlab.catalogue import FAREWELL, KILLED_HELPER, discarded, goes_on
from romlab.checks import assert_goes_on, wait_gone
from romlab.shell import say

EXPECTS = (
    KILLED_HELPER, goes_on(r"checkpointing failed \(libxl's own lines say why\)", "its replica is discarded"),
    discarded(FAREWELL + "checkpointing failed: libxl's own lines say why"))

LEAST_MS = 500
COUNT = 5


def run(lab):
    guest = lab.guest_on(lab.pvh, lab.a)
    free = _ask(guest)
    # With the options that change nothing here, as an admin may give them: they keep working.
    protection = lab.protect(guest, "-e", "-i", "1000", "-s", "'ssh -q'")
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
    _helper_is_killed(lab, guest, protection)


def _helper_is_killed(lab, guest, protection):
    lab.a.run("pkill -KILL -f -- '--[s]ave-domain'")
    protection.wait_end(30)
    assert_goes_on(lab, guest, "a")
    protection.wait_text("checkpointing failed.*its replica is discarded", 5)
    wait_gone(lab.b, "guest--incoming")


def _ask(guest):
    """Milliseconds."""
    return {kind: [seconds * 1000 for seconds in echoes.round_trips(guest, kind, COUNT)] for kind in echoes.KINDS}
