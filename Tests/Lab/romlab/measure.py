"""`make measure`: stock Remus and Romulus in one run on the same two machines, as ratios.

Absolute times mean nothing under emulation. Pauses are what the guest itself measured with its TSC.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from statistics import mean, median

from .follow import LineFollower
from .guest import Pauses, Prober
from .host import Host
from .lab import Lab
from .protection import FAILOVER_LINE, Protection, watch_failover
from .shell import say, wait_for
from .stream import Latency, Stream
from .table import table

WINDOW_SECONDS = 20
INTERVALS = (200, 50)
LOADS = ("0", "max")
STOCK = "stock"
# Romulus with the stock engine and with its own.
MODES = (STOCK, "stock engine", "native")
FAILOVER_STEPS = ("detected", "libxl's end closed", "restored", "renamed and unpaused", "first reply")
PARTS = ("suspend", "log", "copy", "state", "hold", "resume")


@dataclass(frozen=True)
class Sample:
    mode: str
    interval: int
    load: str
    pauses: Pauses
    pages: float
    # Of dom0 on both hosts, per second.
    cpu: float
    # Of Romulus, in milliseconds, as PARTS.
    parts: tuple[float, ...]
    link_bytes: float
    stream_bytes: float
    # From xl's order to suspend until the guest takes it, and from there until it stands still, by xenstored's log.
    order: tuple[float, float]

    @property
    def rate(self) -> float:
        return self.pauses.count / WINDOW_SECONDS

    @property
    def ours(self) -> float:
        """From the guest's suspension until it is asked to go on."""
        return sum(self.parts[1:5])


def run(lab: Lab, pauses_only: bool = False) -> None:
    lab.scenario = "measure"
    lab.up()
    _measure_pauses(lab)
    if not pauses_only:
        _print_latency(lab)
        _print_failover(lab)


def _measure_pauses(lab: Lab) -> None:
    samples = [sample for mode in MODES for interval in INTERVALS for sample in _samples(lab, mode, interval)]
    _print_pauses(samples)
    _print_parts(samples)
    _print_suspensions(samples)


def _samples(lab: Lab, mode: str, interval: int) -> list[Sample]:
    for host in lab.hosts:
        host.run("romulus-activate")
    guest = lab.guest_on(lab.pvh, lab.a)
    for host in lab.hosts:
        if mode == STOCK:
            host.run("romulus-deactivate")
        else:
            lab.install_settings(host, engine="stock" if mode == "stock engine" else "native")
    say(f"{mode}, -i {interval}: first copy")
    protection = lab.start_protection(guest, "-F", "-n", "-d", "-i", str(interval))
    if mode == STOCK:
        protection.wait_text("Checkpointed save", 180)
    else:
        protection.wait_protected(180)
    found = []
    # What the guest measures of a pause is to a tick.
    guest.ask("tick 4", 30)
    for load in LOADS:
        guest.ask(f"dirty {load}")
        time.sleep(4)
        seen, pages_seen, cpu = len(protection.follower.epochs), len(_stock_pages(protection)), _cpu(lab)
        guest.ask("reset", 30)
        time.sleep(WINDOW_SECONDS)
        pauses, cpu = guest.pauses(), _cpu(lab) - cpu
        found.append(_sample(mode, interval, load, pauses, cpu / WINDOW_SECONDS,
                             protection.follower.epochs[seen:], _stock_pages(protection)[pages_seen:],
                             _orders(lab.a)[-pauses.count:]))
        say(f"{mode}, -i {interval}, dirty {load}: {pauses.count} checkpoints in {WINDOW_SECONDS} s,"
            f" mean pause {pauses.mean / 1000:.0f} ms, {found[-1].pages:.0f} pages each")
        guest.ask("dirty 0", 30)
    lab.reset()
    return found


def _sample(mode, interval, load, pauses, cpu, epochs, stock_pages, orders) -> Sample:
    order = (mean(taken for taken, _ in orders), mean(done for _, done in orders))
    if mode == STOCK:
        pages = mean(stock_pages)
        return Sample(mode, interval, load, pauses, pages, cpu, (), pages * 4104, pages * 4104, order)
    parts = tuple(mean(getattr(line, part) for line in epochs) / 1000 for part in PARTS)
    return Sample(mode, interval, load, pauses, mean(line.pages for line in epochs), cpu, parts,
                  mean(line.link_bytes for line in epochs), mean(line.bytes for line in epochs), order)


def _orders(host: Host) -> list[tuple[float, float]]:
    """Of each suspension, in milliseconds: how long the guest took to take the order, and then to stand still."""
    found: list[tuple[float, float]] = []
    given = taken = None
    for line in host.run("grep -E 'control/shutdown|@releaseDomain' /var/log/xen/xenstored-access.log").stdout.splitlines():
        stamp = re.match(r"\[\d+T(\d+):(\d+):([\d.]+)Z\]", line)
        if not stamp:
            continue
        moment = (int(stamp[1]) * 3600 + int(stamp[2]) * 60 + float(stamp[3])) * 1000
        if re.search(r" A\S+ +write .*control/shutdown suspend", line):
            given, taken = moment, None
        elif given is not None and re.search(r" D\S+ +write +control/shutdown", line):
            taken = moment
        elif taken is not None and "w event   @releaseDomain domlist" in line:
            found.append((taken - given, moment - taken))
            given = taken = None
    return found


def _stock_pages(protection: Protection) -> list[int]:
    """The pages of each checkpoint so far, as libxc's own progress lines tell them."""
    return [int(number) for number in re.findall(r"Checkpointed save: (\d+)/\1", protection.text)]


def _cpu(lab: Lab) -> float:
    """Seconds that both hosts' dom0 has used."""
    return sum(float(host.run("xl list 0 | tail -n 1").stdout.split()[-1]) for host in lab.hosts)


def _print_pauses(samples: list[Sample]) -> None:
    rows = []
    for sample in samples:
        stock = next(one for one in samples
                     if (one.mode, one.interval, one.load) == (STOCK, sample.interval, sample.load))
        rows.append((
            f"-i {sample.interval}, dirty {sample.load}, {sample.mode}", f"{sample.pauses.mean / 1000:.0f}",
            f"{sample.pauses.mean / stock.pauses.mean:.2f}", f"{sample.rate:.2f}", f"{sample.rate / stock.rate:.2f}",
            f"{sample.pages:.0f}", f"{sample.link_bytes / 1024:.0f}", f"{sample.link_bytes / sample.stream_bytes:.2f}",
            f"{sample.cpu:.2f}", f"{sample.cpu / sample.rate / max(sample.pages, 1) * 1e6:.0f}"))
    print("\nPauses by the guest's TSC (mean), checkpoints, what they carry, and dom0's CPU time on both hosts\n\n"
          + table(sorted(rows), ("run", "pause, ms", "to stock", "per s", "to stock", "pages", "KiB on the link",
                                 "to stream", "CPU, s/s", "CPU, us/page")) + "\n", flush=True)


def _print_parts(samples: list[Sample]) -> None:
    rows = []
    for sample in samples:
        if sample.parts:
            rows.append((f"-i {sample.interval}, dirty {sample.load}, {sample.mode}",
                         *(f"{part:.1f}" for part in sample.parts), f"{sample.ours:.1f}", f"{sum(sample.parts):.0f}",
                         f"{sample.pages:.0f}"))
    print("Where a pause goes with Romulus (ms, mean); the stock engine's whole copying is under `copy'\n\n"
          + table(sorted(rows), ("run", *PARTS, "ours", "pause", "pages")) + "\n", flush=True)


def _print_suspensions(samples: list[Sample]) -> None:
    rows = []
    for sample in samples:
        if sample.parts:
            whole = sample.parts[0]
            rows.append((f"-i {sample.interval}, dirty {sample.load}, {sample.mode}", f"{sample.order[0]:.0f}",
                         f"{sample.order[1]:.0f}", f"{whole - sum(sample.order):.0f}", f"{whole:.0f}"))
    print("Where a suspension goes (ms, mean): the guest takes the order, stands still; the rest is between helper, xl and"
          " xenstored\n\n" + table(sorted(rows), ("run", "taken", "still", "the rest", "suspend")) + "\n", flush=True)


def _print_latency(lab: Lab) -> None:
    rows = []
    for interval in INTERVALS:
        without, held = (_latency(lab, interval, *options) for options in (("-F", "-n"), ()))
        rows.append((
            f"-i {interval}", f"{without.median:.0f}", f"{held.median:.0f}", f"{held.median - without.median:.0f}",
            f"{without.p95:.0f}", f"{held.p95:.0f}", f"{held.p95 - without.p95:.0f}"))
    print("\nWhat a client waits for an answer on an open TCP connection (ms)\n\n" + table(rows, (
        "run", "median, -n", "buffer", "difference", "95 %, -n", "buffer", "difference")) + "\n", flush=True)


def _latency(lab: Lab, interval: int, *options: str) -> Latency:
    """Of the open connection while the guest is protected."""
    guest = lab.guest_on(lab.pvh, lab.a)
    for host in lab.hosts:
        host.run("romulus-activate")
    protection = lab.protect(guest, "-i", str(interval), *options)
    protection.wait_epochs(3)
    with Stream(guest) as stream:
        time.sleep(WINDOW_SECONDS)
        # What is still held at the end has not been answered: it would count as nothing at all.
        stream.wait_moves()
        found = stream.latency()
    say(f"-i {interval}{' -n' if '-n' in options else ''}: {found.count} answers, median {found.median:.0f} ms")
    return found


def _print_failover(lab: Lab, repeats: int = 3) -> None:
    found: list[list[float]] = []
    for _ in range(repeats):
        found.append(_failover_steps(lab))
    rows = [(name, *(f"{steps[index]:.0f}" for steps in found), f"{median(steps[index] for steps in found):.0f}")
            for index, name in enumerate(FAILOVER_STEPS)]
    print("Where a failover goes (ms after the power cut)\n\n" + table(rows, (
        "until", *(f"run {number + 1}" for number in range(repeats)), "median")) + "\n", flush=True)


def _failover_steps(lab: Lab) -> list[float]:
    for host in lab.hosts:
        if host.is_on():
            host.run("romulus-activate")
    return failover_steps(lab, lab.protect(lab.guest_on(lab.pvh, lab.a)))


def failover_steps(lab: Lab, protection: Protection) -> list[float]:
    """Milliseconds from a power cut of host a until each of FAILOVER_STEPS."""
    incoming = lab.b.domains()["guest--incoming"].id
    with Prober(protection.guest) as prober, LineFollower(lab.b, f"xenstore-watch /local/domain/{incoming}/name") as names, \
            LineFollower(lab.b, "tail -n 1 -f /var/log/messages") as messages:
        # A watch fires once at its registration, and tail shows a line: from then on both are there.
        wait_for("the backup's followers", lambda: names.lines and messages.lines, 30)
        protection.wait_epochs(5)
        moment = lab.a.power_cut()
        failover = watch_failover(protection, prober, moment)
        restored = wait_for("the failover line", lambda: messages.first("failover: ", moment), 10)
        renamed = wait_for("the new name", lambda: names.first("name", moment), 10)
        line = next(text for _, text in messages.lines if "failover: " in text)
    assert FAILOVER_LINE.search(line)
    restored_at = (restored - moment) * 1000
    closed_at = restored_at - failover.restored_ms
    return [closed_at - failover.closed_ms, closed_at, restored_at, (renamed - moment) * 1000, failover.downtime * 1000]
