"""Adaptive: a quiet guest is checkpointed rarely and one that talks early, both within the budget; everything that shows a run
agrees. A device that the replica does not have ends it."""

import json
import time
from statistics import median

from romlab.catalogue import FAREWELL, PRIMARY, discarded, goes_on
from romlab.checks import assert_goes_on
from romlab.guest import Prober
from romlab.shell import say, wait_for

SHARE = 60
CEILING_MS = 2000
METRICS = "/tmp/metrics"
EVENTS = "/var/log/xen/romulus-events.json"
CHANGED = r"the guest is no longer as its replica is \(vif 1 has come\)"
EXPECTS = (
    goes_on(CHANGED, "its replica is discarded"), discarded(FAREWELL + "the guest is no longer as it was: vif 1 has come"),
    PRIMARY + r"vif\d+\.1 has come and is buffered from now on$")


def run(lab):
    guest = lab.guest_on(lab.pvh, lab.a)
    lab.a.run(f"rm -f {EVENTS}")
    for host in lab.hosts:
        host.run(f"mkdir -p {METRICS}; rm -f {METRICS}/*")
    lab.install_settings(
        lab.a, schedule="adaptive", max_pause_percent=SHARE, period_ceiling_ms=CEILING_MS, metrics_directory=METRICS)
    lab.install_settings(lab.b, metrics_directory=METRICS)
    refused = lab.a.run("romulus status", check=False)
    assert refused.returncode == 1 and "no session on this host" in refused.stdout, refused
    protection = lab.protect(guest)
    protection.wait_epochs(2)

    phases = {}
    phases["quiet"] = watch(protection, 12)
    with Prober(guest):
        phases["talking"] = watch(protection, 15)
        view_agrees(lab, protection)
        guest.ask("dirty 40")
        phases["talking, busy"] = watch(protection, 20)
    guest.ask("dirty 0")
    phases["quiet again"] = watch(protection, 12)
    (lab.logs / "64-adaptive.epochs.csv").write_bytes(lab.a.fetch("/tmp/epochs.csv"))
    for name, epochs in phases.items():
        share = 100 * sum(one.pause for one in epochs) / (1e6 * length(epochs))
        say(f"  {name}: {len(epochs)} epochs, period {median(periods(epochs)):.0f} ms (from {min(periods(epochs)):.0f} to"
            f" {max(periods(epochs)):.0f}), {median(one.pages for one in epochs):.0f} pages, paused {share:.0f} % of the time")
        # What the period before has saved may be spent at once.
        saved = SHARE * CEILING_MS / 1000 / length(epochs)
        assert share <= SHARE + saved + 1, f"{name}: paused for {share:.0f} %, more than {SHARE} %"
    for name in ("quiet", "quiet again"):
        assert median(periods(phases[name])) > 0.9 * CEILING_MS, f"{name}: not stretched"
    talking = phases["talking"]
    # When half of the budget has paid for the pause.
    early = min(CEILING_MS, median(one.pause for one in talking) / 1000 / (SHARE / 200))
    assert median(periods(talking)) < 1.3 * early, f"output waited, and nothing came early ({early:.0f} ms)"

    lab.a.run("xl network-attach guest bridge=xenbr0", timeout=60)
    protection.wait_end(60)
    assert_goes_on(lab, guest, "a")
    ended(lab)


def watch(protection, seconds):
    """The epochs that begin within that time, the first two of them left out: their periods belong to the time before."""
    first = protection.follower.epochs[-1].epoch + 2
    time.sleep(seconds)
    return [one for one in protection.follower.epochs if one.epoch > first]


def periods(epochs):
    """In milliseconds."""
    return [(later.requested - earlier.requested) / 1000 for earlier, later in zip(epochs, epochs[1:])]


def length(epochs):
    """In seconds."""
    return (epochs[-1].requested - epochs[0].requested) / 1e6


def view_agrees(lab, protection):
    [status] = json.loads(lab.a.run("romulus status guest --json").stdout)
    assert status["state"] == "protected" and status["side"] == "primary" and status["schedule"] == "adaptive", status
    known = {one.epoch: one for one in protection.follower.epochs}
    if status["epoch"] in known:
        assert status["pages"] == known[status["epoch"]].pages, (status, known[status["epoch"]])
    assert abs(sum(status["pause_parts_ms"].values()) - status["pause_ms"]) < 0.1, status
    [other] = json.loads(lab.b.run("romulus status --json").stdout)
    assert other["side"] == "backup" and other["state"] == "protected" and other["epoch"] >= status["epoch"], other

    say("  romulus top:")
    top = lab.a.run("romulus top -n 2 -d 0.5").stdout
    for line in top.splitlines():
        say(f"    {line}")
    heads = [line for line in top.splitlines() if line.startswith("GUEST")]
    rows = [line for line in top.splitlines() if line.startswith("guest ")]
    assert len(heads) == 2 and len(rows) == 2 and all("protected" in row for row in rows), top

    def metrics(host, sign):
        text = host.run(f"cat {METRICS}/romulus-guest.prom", check=False).stdout
        return text if sign + '{guest="guest"} 1' in text else None
    wait_for("metrics of a replica", lambda: metrics(lab.b, "romulus_replica_ready"), 15)
    text = wait_for("metrics of a protected guest", lambda: metrics(lab.a, "romulus_protected"), 15)
    assert 'romulus_pause_seconds_bucket{guest="guest",le="+Inf"}' in text, text


def ended(lab):
    events = [json.loads(line) for line in lab.a.run("romulus events guest --json").stdout.splitlines()]
    texts = [one["text"] for one in events]
    assert any(text.startswith("protected: ") for text in texts), texts
    ending = "the guest is no longer as its replica is (vif 1 has come)"
    assert any(ending in text for text in texts), texts
    assert ending in lab.a.run("romulus events -n 3").stdout
    for host in lab.hosts:
        assert host.run(f"ls {METRICS}").stdout.split() == [], "the run has ended, and its metrics are still there"
    assert lab.a.run("romulus status guest", check=False).returncode == 1
