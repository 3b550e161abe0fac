"""Plugins around libxl's three steps, and as the arbiter: the link is cut, and the copy that they name goes on."""

import time

from romlab.catalogue import BACKUP_GONE, PRIMARY_GONE, asked, destroyed, discarded, failover, frozen_until, goes_on, suspected
from romlab.checks import assert_goes_on, assert_stays, wait_gone, wait_one_copy
from romlab.guest import Prober
from romlab.packages import REPOSITORY
from romlab.plugins import PLUGINS, assert_none_given_up, install
from romlab.shell import say, wait_for
from romlab.stream import Stream

LONGEST_SECONDS = 450

CONTRARY = REPOSITORY / "Tests/Plugins/contrary.c"
STEPS = ("suspend", "checkpoint", "postcopy")
CALLS = "/tmp/plugin.calls"
# What a host's arbiter says, when it is asked.
SAID = "/tmp/plugin.verdict"
PRIMARY, BACKUP = "1", "2"
GRANTED, REFUSED = "1", "2"
PATIENCE_MS = 300
VERDICT = r"the test says \d of [0-9a-f-]+"
EXPECTS = (
    frozen_until(BACKUP_GONE, "plugin"), suspected(PRIMARY_GONE), asked(PRIMARY_GONE, "plugin"),
    failover(f"{PRIMARY_GONE}; {VERDICT}"), destroyed(BACKUP_GONE, VERDICT),
    goes_on(BACKUP_GONE, f"its replica will not run: {VERDICT}"),
    discarded(f"{PRIMARY_GONE}, and the arbiter refused: {VERDICT}"))


def run(lab):
    guest = lab.guest_on(lab.pvh, lab.a)
    install(lab, CONTRARY, *STEPS, "suspect", "arbitrate")
    for host in lab.hosts:
        plugins = [(step, "pass") for step in STEPS] if host is lab.a else [("suspect", f"{PATIENCE_MS}-once")]
        plugins.append(("arbitrate", SAID))
        lab.install_settings(
            host, arbiter="plugin", plugin_timeout_ms=1000,
            plugin=[f"{PLUGINS}/{callback}.so {CALLS} {callback} {how}" for callback, how in plugins])
        host.run(f"echo {GRANTED} >{SAID}")
    tried = lab.a.run("romulus test").stdout
    assert "the plugin contrary is an arbiter" in tried and "problem" not in tried, tried
    for host in lab.hosts:
        host.run(f"rm -f {CALLS}")
    protection = lab.protect(guest)
    protection.wait_epochs(2)
    lab.keep_run("plugins", protection)
    cut_the_link(lab, guest, protection, "a")
    cut_the_link(lab, guest, lab.back_to("plugins"), "b")


def cut_the_link(lab, guest, protection, winner):
    for host in lab.hosts:
        host.run(f"echo {GRANTED if host.name == winner else REFUSED} >{SAID}")
    with Stream(guest) as stream, Prober(guest) as prober:
        protection.wait_epochs(2)
        cut = time.monotonic()
        lab.network.set_replication(False)
        loser = lab.b if winner == "a" else lab.a
        wait_for("the copy that was refused to be gone", lambda: not loser.domains(), 60, 0.5)
        assert wait_one_copy(lab, guest, 30) == winner
        say(f"  {winner} has it {time.monotonic() - cut:.2f} s after the cut")
        stream.assert_consistent()
        assert_stays(lab, guest, winner, 5)
        prober.assert_never_ahead()
        lab.network.set_replication(True)
        protection.wait_end(60)
        wait_gone(lab.b, "guest--incoming")
        assert_goes_on(lab, guest, winner)
        stream.assert_consistent()

    on_primary, on_backup = calls(lab.a), calls(lab.b)
    assert_wrapped(on_primary, protection)
    questions = [(side, run) for word, side, run, _ in on_primary + on_backup if word == "arbitrate"]
    assert [side for side, _ in questions] == [PRIMARY, BACKUP], f"not asked once on each side: {questions}"
    assert len({run for _, run in questions}) == 1, f"not asked about the same run: {questions}"
    # An emulated primary may have been silent before, and come back.
    suspected = [(int(call[1]), int(call[2])) for call in on_backup if call[0] == "suspect"]
    (asked, silence), (asked_again, silence_then) = suspected[-2:]
    assert (asked, asked_again) == (0, 1) and silence_then >= silence + PATIENCE_MS, f"asked, after ms: {suspected}"
    assert_none_given_up(lab)


def calls(host):
    """What the plugins have noted on that host: a word, a number, a result, and how."""
    return [line.split() for line in host.run(f"cat {CALLS}").stdout.splitlines()]


def assert_wrapped(called, protection):
    """Each step of each committed epoch came to its plugin, and libxl's own succeeded within it."""
    committed = protection.follower.epochs[-1].epoch
    for step in STEPS:
        epochs = [int(call[1]) for call in called if call[0] == step]
        assert epochs[:committed] == list(range(1, committed + 1)), f"{step} was called for {epochs}, of {committed}"
    results = [call[2] for call in called if call[0] == "next" and int(call[1]) <= committed]
    assert results == ["1"] * len(STEPS) * committed, f"libxl's steps returned {results}"
