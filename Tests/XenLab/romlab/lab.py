"""The lab as a whole: a network, two hosts, and the guests that run on them."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import time
from pathlib import Path

from . import images
from .guest import Guest
from .host import Host
from .network import Network
from .shell import LabError, run, say, wait_for

STATE = Path(os.environ.get("ROMULUS_LAB_STATE", "/run/romulus-lab"))
LOGS = Path(os.environ.get("ROMULUS_LAB_LOGS", "/var/tmp/romulus-lab"))
REPOSITORY = Path(__file__).resolve().parents[3]


class Lab:
    def __init__(self) -> None:
        STATE.mkdir(parents=True, exist_ok=True)
        # One command at a time: the hosts' disks and taps are shared.
        self._lock = open(STATE / "lock", "w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LabError(f"another lab command is running ({STATE}/lock)") from error
        os.set_inheritable(self._lock.fileno(), False)
        self.network = Network("romulus-lab")
        self.images = images.prepare()
        self.logs = LOGS / time.strftime("%Y%m%d-%H%M%S")
        self.logs.mkdir(parents=True, exist_ok=True)
        self.a = Host("a", STATE, self.network, self.images)
        self.b = Host("b", STATE, self.network, self.images)
        self.hosts = (self.a, self.b)
        self.pvh = Guest(self.network, "guest", "/guest/pvh.cfg", "10.77.0.100")
        self.pv = Guest(self.network, "pvguest", "/guest/pv.cfg", "10.77.0.101")
        self.hvm = Guest(self.network, "hvmguest", "/guest/hvm.cfg", "10.77.0.102")
        self.staged = STATE / "stage"
        self.sessions: list[subprocess.Popen] = []
        for host in self.hosts:
            host.adopt()

    # -- up and down ---------------------------------------------------------------------------------------------

    def up(self, with_romulus: bool = True) -> None:
        """Both hosts booted, reachable from each other, with Romulus installed and active."""
        if with_romulus:
            self.stage()
        self.network.up()
        say("booting two Xen hosts")
        for host in self.hosts:
            host.power_on(self.logs)
        for host in self.hosts:
            self._settle(host, with_romulus)
        say("both hosts are up")

    def restart(self, *hosts: Host, with_romulus: bool = True) -> None:
        """Hosts as new: the quickest way back from whatever a scenario did to them."""
        for host in hosts:
            self.network.set_link(host.name, True) if host.is_on() else None
            host.power_on(self.logs)
        for host in hosts:
            self._settle(host, with_romulus)

    def down(self) -> None:
        self.end_sessions()
        for host in self.hosts:
            host.power_cut()
        self.network.down()
        for left in STATE.glob("*"):
            if left.name != "lock":
                shutil.rmtree(left) if left.is_dir() else left.unlink()

    def _settle(self, host: Host, with_romulus: bool) -> None:
        host.wait_ready()
        if with_romulus:
            self.install_romulus(host)

    # -- Romulus on the hosts ------------------------------------------------------------------------------------

    def stage(self) -> None:
        """What `make install` gives, once per command."""
        say("make install into a staging directory")
        shutil.rmtree(self.staged, ignore_errors=True)
        run("make", "-C", REPOSITORY, "install", f"DESTDIR={self.staged}", "PREFIX=/usr", timeout=1800)

    def install_romulus(self, *hosts: Host) -> None:
        for host in hosts:
            host.put_tree(self.staged)
            host.run("romulus-activate")

    # -- between scenarios ---------------------------------------------------------------------------------------

    def end_sessions(self) -> None:
        """The commands that were left running on the hosts, from this side."""
        for session in self.sessions:
            if session.poll() is None:
                session.kill()
            session.wait()
        self.sessions = []

    def reset(self) -> None:
        """Hosts that a scenario can start from: on, connected, no domain but dom0, Romulus active, settings at default."""
        self.end_sessions()
        dead = [host for host in self.hosts if not host.is_on() or not _is_usable(host)]
        self.restart(*dead)
        for host in self.hosts:
            self.network.set_link(host.name, True)
            if host not in dead:
                self._clean(host)

    def _clean(self, host: Host) -> None:
        host.run(
            "pkill -KILL -x xl; pkill -KILL -f libxl-save-helper; pkill -KILL -f 'sshd: root@notty$' -n; "
            "for id in $(xl list | sed -n '2,$s/^[^ ]* *\\([1-9][0-9]*\\) .*/\\1/p'); do xl destroy $id; done; "
            "rm -f /etc/xen/romulus.conf /tmp/*.csv; : >/var/log/messages; romulus-activate >/dev/null", check=False)
        self.install_settings(host)
        if host.domains():
            self.restart(host)

    def install_settings(self, host: Host, **settings: object) -> None:
        """romulus.conf with these keys, and a trace of every epoch."""
        lines = ['epoch_log = "/tmp/epochs.csv"']
        lines += [f"{key} = {value}" for key, value in settings.items()]
        host.write("/etc/xen/romulus.conf", "\n".join(lines))

    # -- guests --------------------------------------------------------------------------------------------------

    def create(self, guest: Guest, host: Host) -> None:
        """A guest that answers."""
        host.run(f"xl create {guest.config}", timeout=90)
        wait_for(f"guest {guest.name} to answer", guest.answers, 120, 0.3)


def _is_usable(host: Host) -> bool:
    try:
        return host.run("xl list >/dev/null", check=False, timeout=20).returncode == 0
    except LabError:
        return False
