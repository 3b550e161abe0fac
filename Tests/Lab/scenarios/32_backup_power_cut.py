"""The backup loses power: the primary's guest is not left suspended but answers again within moments."""

from romlab.checks import assert_goes_on
from romlab.guest import Prober
from romlab.shell import say


def run(lab):
    guest = lab.guest_on(lab.pvh, lab.a)
    protection = lab.protect(guest)
    guest.ask("dirty 32")
    with Prober(guest) as prober:
        protection.wait_epochs(4)
        moment = lab.b.power_cut()
        # At the deadline (750 ms at the default timeout) the link is given up; until then the guest may be suspended.
        protection.wait_end(30)
        answered = prober.wait_first_after(moment + 0.75, 15)
        gaps = [later.received - earlier.received for earlier, later in zip(prober.replies, prober.replies[1:])]
    say(f"  longest silence {max(gaps):.2f} s; first answer {answered.received - moment:.2f} s after the cut")
    assert max(gaps) < 4, f"the guest was silent for {max(gaps):.1f} s"
    assert_goes_on(lab, guest, "a")
    protection.wait_text("no byte from the backup for .*the guest goes on here", 5)
