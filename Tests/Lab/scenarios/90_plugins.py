"""The example plugins: a line for every epoch, the scheduler's period; the guest crashes, which takes its replica along; and the
sink's file, which plain xl restore brings to life."""

import csv

from romlab.catalogue import CRASHED, FAREWELL, VIF_GONE, discarded
from romlab.checks import assert_answers, wait_gone
from romlab.packages import REPOSITORY
from romlab.plugins import PLUGINS, assert_none_given_up, install
from romlab.shell import wait_for

EXPECTS = (
    r"Kernel panic - not syncing: sysrq triggered crash", CRASHED, VIF_GONE, discarded(FAREWELL + "the guest has crashed"))

CSV_FILE = "/tmp/plugin.csv"
KEPT = "/var/tmp/kept"
PERCENT = 10
# As steady_scheduler.c has them, in microseconds.
SHORTEST, LONGEST, MEMORY = 20_000, 2_000_000, 8


def run(lab):
    guest = lab.guest_on(lab.pvh, lab.a)
    for source in sorted((REPOSITORY / "xl-config-examples/plugins").glob("*.c")):
        install(lab, source, source.stem)
    lab.a.run(f"rm -f {CSV_FILE}")
    lab.b.run(f"rm -rf {KEPT}; mkdir -p {KEPT}")
    # An emulated host takes its time.
    lab.install_settings(
        lab.a, plugin_timeout_ms=1000,
        plugin=[f"{PLUGINS}/csv_observer.so {CSV_FILE}", f"{PLUGINS}/steady_scheduler.so {PERCENT}"])
    lab.install_settings(lab.b, plugin_timeout_ms=1000, plugin=[f"{PLUGINS}/last_epoch_sink.so {KEPT}"])

    guest.ask("dirty 2")
    protection = lab.protect(guest, "-i", "5000")
    protection.wait_epochs(8, 120)
    reached = guest.counter()
    protection.wait_epochs(2)
    guest.tell("crash")
    protection.wait_end(60)
    protection.wait_text("the guest has crashed; its replica is discarded; what its on_crash says is done here now", 5)
    wait_for("its on_crash, which is no domain", lambda: not lab.a.domains(), 20)
    wait_gone(lab.b, "guest--incoming")
    assert_none_given_up(lab)

    rows = list(csv.DictReader(lab.a.run(f"cat {CSV_FILE}").stdout.splitlines()))
    assert [int(row["epoch"]) for row in rows] == list(range(1, len(rows) + 1)) and len(rows) >= 10, rows
    assert_periods(rows)

    wait_for("the sink's file", lambda: lab.b.run(f"test -e {KEPT}/guest.save", check=False).returncode == 0, 60)
    lab.put_config(guest, lab.b)
    restored = lab.b.run(f"xl restore {guest.config} {KEPT}/guest.save", timeout=180).stdout
    assert "Loading new save file" in restored, restored
    assert_answers(guest, 60)
    assert guest.ask("check", 30) == "OK"
    assert guest.counter() >= reached, "it is older than an epoch that was acknowledged"
    assert lab.running_copies("guest") == ["b"]
    lab.b.run(f"xl destroy guest; rm -rf {KEPT}")


def assert_periods(rows):
    """Each is what the scheduler makes of the pauses before it; its answer may be an epoch late."""
    mean, chosen = 0, []
    for row in rows:
        pause = int(row["pause_us"])
        if int(row["epoch"]) > 1:
            mean = (mean * (MEMORY - 1) + pause) // MEMORY if mean else pause
        chosen.append(min(max(mean * 100 // PERCENT, SHORTEST), LONGEST))
    for index in range(4, len(rows)):
        period = int(rows[index]["period_us"])
        expected = chosen[index - 2:index]
        assert any(abs(period - one) <= one // 50 for one in expected), f"epoch {index + 1}: {period} us, not {expected}"
