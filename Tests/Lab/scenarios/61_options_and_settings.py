"""-b, a wrong setting, a missing library, and going back to stock: each does or says what an admin expects."""

from romlab import packages
from romlab.catalogue import PRIMARY, NEVER_BEGUN, STOCK_STREAM
from romlab.checks import assert_goes_on, interrupt

EXPECTS = (
    PRIMARY + "error: /etc/xen/romulus.conf:2: `detect_timeout_ms' is 99, but must be between 100 and ", NEVER_BEGUN,
    STOCK_STREAM, PRIMARY + "protection ended by SIGTERM: the guest goes on here, unprotected; ")


def run(lab):
    guest = lab.guest_on(lab.pvh, lab.a)

    lab.install_settings(lab.a, detect_timeout_ms=99)
    refused = lab.start_protection(guest, "-F")
    refused.wait_end(30)
    refused.wait_text(r"/etc/xen/romulus.conf:2: `detect_timeout_ms' is 99, but must be between 100", 1)
    assert_goes_on(lab, guest, "a")

    lab.install_settings(lab.a)
    blackhole = lab.protect(guest, "-F", "-b", "-i", "500")
    blackhole.wait_epochs(3)
    assert "warning" not in "".join(blackhole.romulus_lines), "-F silences the warnings"
    interrupt(lab.a, "TERM")
    blackhole.wait_end(30)
    assert_goes_on(lab, guest, "a")

    lab.a.run("mv /usr/lib/romulus/libromulus.so.0 /usr/lib/romulus/away")
    listing = lab.a.run("xl list")
    assert "guest" in listing.stdout and "romulus" not in listing.stdout
    missing = lab.a.run("xl remus -F -n -d -b guest nowhere & sleep 6; kill $!; wait", check=False).stdout
    assert "romulus: /usr/lib/romulus/libromulus.so.0 is missing" in missing, missing
    lab.a.run("mv /usr/lib/romulus/away /usr/lib/romulus/libromulus.so.0")

    for _ in range(2):
        lab.a.run("romulus-deactivate")
    packages.assert_stock(lab.a)
    for _ in range(2):
        lab.a.run("romulus-activate")
    packages.assert_active(lab.a)
    # The guest may have been left suspended by the killed stock xl: make it go on, or the host is made anew.
    if not guest.answers(5):
        lab.reset()
