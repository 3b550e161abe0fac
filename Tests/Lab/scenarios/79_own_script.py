"""`xl remus -N SCRIPT`: the script sets the buffer up and takes it down, and output is held all the same. The backup is asked to
stop, and the guest goes on at once."""

import time

from romlab.catalogue import NEVER_BEGUN, PRIMARY, discarded, goes_on
from romlab.checks import assert_goes_on, wait_gone
from romlab.guest import Prober
from romlab.host import BACKUP_XL
from romlab.shell import wait_for
from romlab.stream import Latency

STOPPED = r"the backup was asked to stop \(SIGTERM\)"
EXPECTS = (
    goes_on(rf"the backup gave up \({STOPPED}\)", "its replica is discarded"), discarded(STOPPED),
    PRIMARY + r"error: .*/tmp/netbuf setup of vif\d+\.\d+ .*no such bridge", NEVER_BEGUN)

SCRIPT = """#!/bin/sh
# As remus-netbuf-setup: vifname, XENBUS_PATH and REMUS_IFB come from the environment.
echo "$1 $vifname $REMUS_IFB" >>/tmp/netbuf.log
case $1 in
    setup)
        modprobe -q ifb numifbs=0; ip link add ifb-own type ifb && ip link set ifb-own up &&
        tc qdisc add dev ifb-own root plug &&
        tc qdisc add dev "$vifname" ingress &&
        tc filter add dev "$vifname" parent ffff: matchall action mirred egress redirect dev ifb-own &&
        xenstore-write "$XENBUS_PATH/ifb" ifb-own ;;
    teardown)
        tc qdisc del dev "$vifname" ingress; ip link del "$REMUS_IFB"; xenstore-rm "$XENBUS_PATH/ifb" ;;
esac
"""


def run(lab):
    guest = lab.guest_on(lab.pvh, lab.a)
    lab.a.write("/tmp/netbuf", SCRIPT)
    lab.a.run("chmod +x /tmp/netbuf; rm -f /tmp/netbuf.log")
    protection = lab.protect(guest, "-N", "/tmp/netbuf", "-u", "-i", "500")
    protection.wait_epochs(2)
    with Prober(guest) as prober:
        begun = time.monotonic()
        protection.wait_epochs(4)
        held = Latency.of([reply.took for reply in prober.replies if reply.sent > begun])
    assert held.median > 150, f"a median of {held.median:.0f} ms: nothing is held"
    # As a shutdown of that host does.
    lab.b.run(f"pkill -TERM -f {BACKUP_XL}")
    protection.wait_end(30)
    protection.wait_text("the guest goes on here, unprotected.*its replica is discarded", 5)
    assert_goes_on(lab, guest, "a")
    wait_gone(lab.b, "guest--incoming")
    calls = lab.a.run("cat /tmp/netbuf.log").stdout.splitlines()
    assert [call.split()[0] for call in calls] == ["setup", "teardown"] and calls[1].endswith("ifb-own"), calls
    assert "ifb-own" not in lab.a.run("ip link").stdout

    wait_for("the backup's xl to end", lambda: lab.b.run(
        f"pgrep -f {BACKUP_XL}", check=False).returncode == 1, 20)
    lab.a.run("printf '#!/bin/sh\\necho no such bridge >&2\\nexit 1\\n' >/tmp/netbuf")
    refused = lab.start_protection(guest, "-N", "/tmp/netbuf")
    refused.wait_end(30)
    refused.wait_text("romulus: .*/tmp/netbuf setup of vif.*no such bridge", 1)
    assert_goes_on(lab, guest, "a")
