"""The lab as a whole: a network, two hosts, and the guests that run on them."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import images, machine_state, packages
from .audit import Audit
from .etcd import Etcd
from .follow import LineFollower
from .guest import Guest
from .guest_config import GuestConfig, as_setting
from .host import BACKUP_XL, KEPT, PRIMARY_XL, Host, emulator_doubt
from .machine_state import MachineState
from .network import Network
from .protection import Protection
from .shell import LabError, TooSlow, say, wait_for
from .sniffer import Traffic
from .timetable import Timetable

STATE = Path(os.environ.get("ROMULUS_LAB_STATE", "/run/romulus-lab"))
LOGS = Path(os.environ.get("ROMULUS_LAB_LOGS", "/var/tmp/romulus-lab"))
# A host that cannot bear it this often has another reason.
MOST_RETURNS = 4
# States that are kept: of a host as it was booted; of host a with the guest; of both with the guest protected. And those that
# scenarios keep for themselves.
CLEAN = "clean"
WITH_GUEST = "guest"
PROTECTED = "protected"


class Lab:
    def __init__(self, boots: bool = True) -> None:
        """`boots` is false for commands that only look after hosts that are there: they need no images and no logs."""
        STATE.mkdir(parents=True, exist_ok=True)
        # One command at a time: the hosts' disks and taps are shared.
        self._lock = open(STATE / "lock", "w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LabError(f"another lab command is running ({STATE}/lock)") from error
        os.set_inheritable(self._lock.fileno(), False)
        # As the state directory is called: a lab with its own state touches no other one's network.
        self.network = Network(STATE.name)
        self.images = images.prepare() if boots else images.Images(images.CACHE)
        self.logs = LOGS / time.strftime("%Y%m%d-%H%M%S")
        if boots:
            self.logs.mkdir(parents=True, exist_ok=True)
        self.a = Host("a", STATE, self.network, self.images)
        self.b = Host("b", STATE, self.network, self.images)
        self.hosts = (self.a, self.b)
        self.etcd = Etcd(STATE, self.network)
        self.pvh = self.guest("pvh", "guest", 100)
        self.pv = self.guest("pv", "pvguest", 101)
        self.hvm = self.guest("hvm", "hvmguest", 102, memory_mib=192)
        self._keeps = False
        self.scenario = "lab"
        self.timetable = Timetable()
        self.protections: list[Protection] = []
        # By the name under which they were kept.
        self._runs: dict[str, Protection] = {}
        # How often one did not outlive that the hosts went back to it.
        self.lost_returns = 0
        self.followers: list[LineFollower] = []
        self.audit = Audit(self)
        for host in self.hosts:
            host.adopt()

    # -- up and down ---------------------------------------------------------------------------------------------

    def up(self, with_romulus: bool = True) -> None:
        """Both hosts booted, reachable from each other, with Romulus installed and active."""
        if with_romulus:
            say("making the Debian packages")
            packages.make()
        self.network.up()
        shutil.rmtree(KEPT / STATE.name, ignore_errors=True)
        doubt = emulator_doubt()
        if doubt:
            say(doubt)
        say("booting two Xen hosts")
        for host in self.hosts:
            host.power_on(self.logs)
        self._on_each(self.hosts, Host.wait_ready)
        if with_romulus:
            self.install_romulus(*self.hosts)
        say("both hosts are up")

    def keep(self) -> None:
        """Keeps the hosts as they are, clean: scenarios go back to that within seconds instead of booting anew. Other states
        are kept when they are first there."""
        for host in self.hosts:
            machine_state.take([(host.kept(CLEAN), host.machine)])
        self._keeps = True

    def restart(self, *hosts: Host, states: dict[Host, str] | None = None) -> None:
        """Hosts as new, or as they were in that state, whatever a scenario did to them: at one moment."""
        if not hosts:
            return
        with self.timetable.spends("audit"):
            self.audit.gather(hosts)
        with self.timetable.spends("reset"):
            kept = {host: host.kept((states or {}).get(host, CLEAN)) for host in hosts}
            for host in hosts:
                if host.is_on():
                    self.network.set_link(host.name, True)
            self._start(kept)

            def begin(host: Host) -> None:
                host.wait_ready()
                host.set_clock()
            self._on_each(hosts, begin)
            self.install_romulus(*[host for host in hosts if not kept[host].exists])

    def down(self) -> None:
        self.leave()
        for host in self.hosts:
            host.power_cut()
        self.etcd.stop()
        self.network.down()
        shutil.rmtree(KEPT / STATE.name, ignore_errors=True)
        for left in STATE.glob("*"):
            if left.name != "lock":
                shutil.rmtree(left) if left.is_dir() else left.unlink()

    def install_romulus(self, *hosts: Host) -> None:
        """The packages put the launcher in xl's place themselves."""
        def install(host: Host) -> None:
            packages.put(host)
            packages.install(host)
        self._on_each(hosts, install)

    @staticmethod
    def _on_each(hosts: Iterable[Host], work: Callable[[Host], object]) -> list:
        """At once on all: each has a processor to keep busy."""
        with ThreadPoolExecutor() as pool:
            return list(pool.map(work, hosts))

    # -- between scenarios ---------------------------------------------------------------------------------------

    def open_audit(self) -> None:
        with self.timetable.spends("audit"):
            self.audit.open()

    def end_sessions(self) -> None:
        """What follows the commands that were left running on the hosts."""
        for protection in self.protections:
            protection.stop()
        for follower in self.followers:
            follower.stop()
        self.protections = []
        self.followers = []

    def leave(self) -> None:
        """Leaves the hosts as they are, with nothing of this command behind."""
        self.end_sessions()

    def reset(self) -> None:
        """Hosts as a scenario expects them: on, connected, no domain but dom0, Romulus active, settings at default."""
        with self.timetable.spends("reset"):
            self.end_sessions()
            self._connect()
            self.open_audit()
            self.restart(*[host for host in self.hosts if not (host.is_on() and self._clean(host))])

    def _connect(self) -> None:
        for host in self.hosts:
            if host.is_on():
                host.set_frozen(False)
                self.network.set_link(host.name, True)
        self.network.set_replication(True)

    def guest_on(self, guest: Guest, host: Host) -> Guest:
        """The guest alone in the lab, answering. One that an earlier scenario has left so is taken as it is: then
        nothing was cleaned up for the run that follows."""
        with self.timetable.spends("reset"):
            self.end_sessions()
            if not self._is_alone(guest, host):
                if guest is self.pvh and host.kept(WITH_GUEST).exists:
                    self._connect()
                    self.restart(*self.hosts, states={host: WITH_GUEST})
                    wait_for(f"guest {guest.name} to answer", guest.answers, 30, 0.3)
                else:
                    self.reset()
                    self.create(guest, host)
                    if self._keeps and guest is self.pvh and host is self.a:
                        machine_state.take([(host.kept(WITH_GUEST), host.machine)])
            guest.ask("dirty 0")
            def begin(one: Host) -> None:
                one.set_clock()
                self.install_settings(one)
            self._on_each(self.hosts, begin)
            self.open_audit()
        return guest

    def protected(self) -> tuple[Guest, Protection]:
        """The guest on host a, just protected by host b with every setting at its default."""
        if PROTECTED in self._runs:
            return self.pvh, self.back_to(PROTECTED)
        protection = self.protect(self.guest_on(self.pvh, self.a))
        protection.wait_epochs(2)
        return self.pvh, self.keep_run(PROTECTED, protection)

    def keep_run(self, name: str, protection: Protection) -> Protection:
        """Both hosts as they are with this run under way, to go back to: a first copy for many ends. The guest is paused in that
        state: hosts that come back have enough to do with the run's signs of life."""
        guest, primary = protection.guest, protection.primary
        if protection.has_frozen:
            # Whoever goes back to it could not tell that freeze from one of the return.
            raise TooSlow(f"a run that was to be kept was frozen before:\n{protection.tail()}")
        with self.timetable.spends("reset"):
            primary.run(f"{primary.xl} pause {guest.name}")
            # The epoch under way has reached the backup by then, and the next waits for the guest.
            time.sleep(1)
            with Traffic(self.network) as traffic:
                machine_state.take([(host.kept(name), host.machine) for host in self.hosts], traffic.has_passed)
            primary.run(f"{primary.xl} unpause {guest.name}")
            self._runs[name] = protection
        return protection

    def back_to(self, name: str) -> Protection:
        """The run that was kept under that name, as it was then. Hosts that come back are slow for a moment: now and then too
        slow for the run's timeouts, and then they go back once more."""
        with self.timetable.spends("reset"):
            for _ in range(MOST_RETURNS):
                with self.timetable.spends("audit"):
                    self.audit.gather(self.hosts)
                self.end_sessions()
                self._connect()
                self._start({host: host.kept(name) for host in self.hosts})
                time.sleep(1.5)
                kept = self._runs[name]
                kept.primary.run(f"{kept.primary.xl} unpause {kept.guest.name}", check=False)
                protection = Protection.under_way(self, kept)
                # Its hosts' clocks stay as they were then: libxl takes a leap for the end of its patience.
                if protection.is_alive():
                    self.open_audit()
                    self.audit.watch(protection)
                    return protection
                say(f"  the run did not outlive going back to it: {protection.tail()}")
                self.lost_returns += 1
        raise TooSlow(f"after {MOST_RETURNS} returns to `{name}' no run was alive")

    def _start(self, kept: dict[Host, MachineState]) -> None:
        """Each as it was then, and those go on together; from a fresh disk where there is no such state."""
        for host, state in kept.items():
            host.power_on(self.logs, state if state.exists else None)
        machine_state.go_on(host.machine for host, state in kept.items() if state.exists)

    def _is_alone(self, guest: Guest, host: Host) -> bool:
        try:
            if not all(one.is_on() for one in self.hosts):
                return False
            other = self.b if host is self.a else self.a
            here, there = self._on_each((host, other), Host.domains)
            if guest.name not in here or guest.name in there:
                return False
            # As an admin ends a run that the last scenario has left under way.
            self._on_each(self.hosts, lambda one: one.run(f"pkill -INT -f {PRIMARY_XL}", check=False))
            wait_for("xl remus to end", lambda: self._is_idle(other), 20)
            here, there = self._on_each((host, other), Host.domains)
            return list(here) == [guest.name] and not there and guest.answers()
        except LabError:
            return False

    def _is_idle(self, other: Host) -> bool:
        """No run is under way. Where a guest was taken over, its receiver stays as its keeper."""
        found = self._on_each(self.hosts, lambda one: one.run(
            f"pgrep -f {PRIMARY_XL}" + (f" || pgrep -f {BACKUP_XL}" if one is other else ""), check=False))
        return all(one.returncode == 1 for one in found)

    def _clean(self, host: Host) -> bool:
        """Whether the host came clean without a new boot."""
        try:
            host.run(
                "pkill -KILL -x romulus-guard; pkill -KILL -x xl; pkill -KILL -f '[l]ibxl-save-helper'; "
                "for id in $(xl list | sed -n '2,$s/^[^ ]* *\\([1-9][0-9]*\\) .*/\\1/p'); do xl destroy $id; done; "
                ": >/var/log/messages; romulus-activate >/dev/null", check=False)
            self.install_settings(host)
            return not host.domains()
        except LabError:
            return False

    def install_settings(self, host: Host, **settings: object) -> None:
        """romulus.conf with these keys (numbers, strings, lists of them), and a trace of every epoch; unless said
        otherwise with much time for what an emulated host does before its first checkpoint."""
        lines = ['epoch_log = "/tmp/epochs.csv"']
        settings = {**settings, "stock_detect_timeout_ms": settings.get("stock_detect_timeout_ms", 30000)}
        lines += [f"{key} = {as_setting(value)}" for key, value in settings.items()]
        host.write("/etc/xen/romulus.conf", "\n".join(lines))

    # -- guests --------------------------------------------------------------------------------------------------

    def guest(self, kind: str, name: str, number: int, **settings: object) -> Guest:
        """One that may be created, beside others with other names and numbers: see GuestConfig."""
        return Guest(self.network, GuestConfig(kind, name, number, **settings))

    def put_config(self, guest: Guest, host: Host) -> None:
        """For a command there that wants the file; `create` puts it there itself."""
        host.write(guest.config, str(guest.configuration))

    def create(self, guest: Guest, host: Host) -> None:
        """A guest that answers."""
        with self.timetable.spends("creation"):
            begun = time.monotonic()
            host.write(guest.config, str(guest.configuration), f"xl create {guest.config}", timeout=90)
            guest.creation_seconds = time.monotonic() - begun
            wait_for(f"guest {guest.name} to answer", guest.answers, 120, 0.3)

    def protect(
            self, guest: Guest, *options: str, xl: str = "xl", primary: Host | None = None,
            backup: Host | None = None) -> Protection:
        """`xl remus`, from host a to host b unless said otherwise, until it says that the guest is protected."""
        protection = self.start_protection(guest, *options, xl=xl, primary=primary, backup=backup).wait_protected()
        self.audit.watch(protection)
        return protection

    def start_protection(
            self, guest: Guest, *options: str, xl: str = "xl", primary: Host | None = None,
            backup: Host | None = None) -> Protection:
        with self.timetable.spends("first copy"):
            return Protection(self, guest, primary or self.a, backup or self.b, *options, xl=xl)

    def running_copies(self, name: str) -> list[str]:
        """On which hosts that are on a copy of the guest may be scheduled, whatever it is called there."""
        hosts = [host for host in self.hosts if host.is_on()]
        return [
            host.name for host, domains in zip(hosts, self._on_each(hosts, Host.domains)) for domain in domains.values()
            if domain.name in (name, f"{name}--incoming") and domain.runs]
