"""`make demo`: the story for a person, from two empty hosts to a guest that has survived a power cut."""

from __future__ import annotations

import time
from statistics import mean

from .guest import Guest, Prober
from .lab import Lab
from .protection import watch_failover
from .shell import TooSlow, say
from .stream import Stream
from .table import table

PROTECTED_SECONDS = 20


def run(lab: Lab) -> None:
    lab.scenario = "demo"
    lab.up()
    guest = lab.pvh
    say("host a: xl create guest")
    lab.create(guest, lab.a)
    for host in lab.hosts:
        lab.install_settings(host)
    tell(lab, guest)


def tell(lab: Lab, guest: Guest) -> None:
    """The story of a guest that runs on host a."""
    say(f"the guest runs on host a and answers at {guest.address}: its counter is {guest.counter()}")
    say("host a: xl remus guest hostb")
    protection = lab.start_protection(guest)
    _wait_protected(protection)
    with Prober(guest) as prober, Stream(guest) as stream:
        say(f"a client opens a TCP connection to the guest, from its port {stream.port}")
        _show_protected(protection, prober)
        say("host a: romulus top")
        print("\n" + lab.a.run("romulus top -n 1").stdout, flush=True)
        port, answered = stream.port, len(stream.echoed)
        say("pulling host a's plug (kill -9 of its QEMU)")
        moment = lab.a.power_cut()
        failover = watch_failover(protection, prober, moment)
        stream.assert_consistent()
        same = "yes" if stream.port == port else "no"
        sent, echoed, silence = len(stream.sent), len(stream.echoed), stream.silence(moment)
    say(f"host b runs the guest: it answers again after {failover.downtime:.2f} s, its memory is {failover.check}")
    say(f"host b says: {lab.b.syslog('failover: ')[-1].split('romulus: ')[-1]}")

    say(f"the open TCP connection has survived: nothing lost, nothing doubled, silent for {silence:.2f} s")

    # The first epoch is the whole guest: it says nothing about the others.
    epochs = [line for line in protection.follower.epochs if line.epoch > 1]
    print("\n" + table([
        ("epochs acknowledged before the cut", epochs[-1].epoch),
        ("pages per epoch (mean)", round(mean(line.pages for line in epochs))),
        ("pause per epoch (mean)", f"{mean(line.pause for line in epochs) / 1000:.0f} ms"),
        ("epoch that the guest went on from", failover.epoch),
        ("detected after", f"{failover.detected_ms} ms"),
        ("guest unreachable for", f"{failover.downtime:.2f} s"),
        ("counter before the cut", failover.before.counter),
        ("counter after it", failover.after.counter),
        ("client's connection still the same", same),
        ("messages answered on it before the cut", answered),
        ("messages sent on it in all", sent),
        ("messages answered in all", echoed),
    ]) + "\n\n    Times are those of an emulated machine: real ones are shorter.\n", flush=True)


def _wait_protected(protection) -> None:
    """The first copy takes half a minute here: show that it moves."""
    while True:
        try:
            protection.wait_protected(5)
            say("the guest is protected: host b has acknowledged its first checkpoint")
            return
        except TooSlow:
            if protection.has_ended:
                raise
            progress = [line for line in protection.text.replace("\r", "\n").splitlines() if "progress" in line]
            say(f"first copy: {progress[-1].removeprefix('xc: progress: ') if progress else 'under way'}")


def _show_protected(protection, prober: Prober) -> None:
    begun = time.monotonic()
    while time.monotonic() - begun < PROTECTED_SECONDS:
        time.sleep(4)
        epochs = protection.follower.epochs
        if epochs and prober.replies:
            last = epochs[-1]
            say(f"epoch {last.epoch}: {last.pages} pages, paused {last.pause / 1000:.0f} ms, acknowledged"
                f" {last.acknowledged / 1000:.0f} ms later; the guest's counter is {prober.replies[-1].counter}")
