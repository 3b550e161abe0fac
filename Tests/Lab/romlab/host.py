"""One Xen host: a QEMU machine in software emulation that boots Debian's hypervisor and dom0."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import threading
import time
from pathlib import Path

from .images import Images
from .machine_state import MachineState
from .network import Network
from .shell import LabError, TooSlow, end_process, lives, run, wait_for

INDEX = {"a": 1, "b": 2}
MEMORY_MIB = 1536
DOM0_MIB = 768
XEN_OPTIONS = (
    f"dom0_mem={DOM0_MIB}M,max:{DOM0_MIB}M dom0_max_vcpus=1 com1=115200,8n1 console=com1 noreboot spec-ctrl=no xpti=0"
    " pv-l1tf=0 watchdog=0 loglvl=all guest_loglvl=all")
# Safety and accounting on every page and system call take a tenth of an emulated host's time.
KERNEL_OPTIONS = (
    "root=/dev/vda console=hvc0 quiet nokaslr mitigations=off init_on_alloc=0 cgroup_disable=memory psi=0"
    " hardened_usercopy=off randomize_kstack_offset=off lsm=")
SSH = [
    "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o",
    "ConnectTimeout=5", "-o", "ControlMaster=no", "-o", "ControlPath=none"]
# For what is not tried again: while an emulated host is busy, a login takes its time.
PATIENTLY = ("-o", "ConnectTimeout=30")


class Host:
    def __init__(self, name: str, state: Path, network: Network, images: Images):
        self.name = name
        self.address = f"10.78.0.{INDEX[name]}"
        self.state = state
        self.network = network
        self.images = images
        self.pid: int | None = None
        self.generation = 0
        # The power switch pulls plugs too, from a thread of its own.
        self._plug = threading.Lock()
        # An ssh connection for all commands: on an emulated host a new one takes seconds.
        self._door: subprocess.Popen | None = None

    # -- power ---------------------------------------------------------------------------------------------------

    @property
    def pid_file(self) -> Path:
        return self.state / f"{self.name}.pid"

    @property
    def disk(self) -> Path:
        return self.state / f"{self.name}.qcow2"

    @property
    def control(self) -> Path:
        return self.state / f"{self.name}.control"

    def keep(self, name: str) -> None:
        """The machine's present state, to go back to."""
        self.kept(name).take(self.control, self.disk)

    def kept(self, name: str) -> MachineState:
        return MachineState(self.state / "kept", f"{self.name}-{name}")

    def power_on(self, logs: Path, kept: MachineState | None = None) -> None:
        """Starts the machine on a fresh disk, or where it was then; `wait_ready` waits for it."""
        self.power_cut()
        self.generation += 1
        self.disk.unlink(missing_ok=True)  # a QEMU that is still dying may hold the old one's lock
        if kept is None:
            run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", self.images.root, self.disk)
        else:
            kept.lay_disk(self.disk)
        guests, control, replication = self.network.add_taps(self.name)
        index = INDEX[self.name]
        dom0 = f"{KERNEL_OPTIONS} lab.host={self.name} lab.index={index}"
        self.console = logs / f"console-{self.name}-{self.generation}.log"
        command = [
            "qemu-system-x86_64", "-M", "pc", "-accel", "tcg,thread=single", "-cpu", "qemu64,+svm,+npt", "-smp", "1",
            "-m", str(MEMORY_MIB), "-nodefaults", "-display", "none", "-no-reboot", "-serial", f"file:{self.console}",
            "-qmp", f"unix:{self.control},server=on,wait=off", "-kernel", str(self.images.xen), "-append", XEN_OPTIONS, "-initrd",
            f"{self.images.kernel} {dom0},{self.images.initrd}", "-drive",
            f"file={self.disk},if=virtio,cache=unsafe,format=qcow2", "-netdev",
            f"tap,id=guests,ifname={guests},script=no,downscript=no", "-device",
            f"virtio-net-pci,netdev=guests,mac=52:54:00:77:00:0{index}", "-netdev",
            f"tap,id=control,ifname={control},script=no,downscript=no", "-device",
            f"virtio-net-pci,netdev=control,mac=52:54:00:78:00:0{index}", "-netdev",
            f"tap,id=replication,ifname={replication},script=no,downscript=no", "-device",
            f"virtio-net-pci,netdev=replication,mac=52:54:00:79:00:0{index}"]
        command += kept.options if kept else []
        with open(logs / f"qemu-{self.name}-{self.generation}.log", "wb") as output:
            process = subprocess.Popen(
                self.network.inside(*command), stdout=output, stderr=output, stdin=subprocess.DEVNULL,
                start_new_session=True)
        self.pid = process.pid
        self.pid_file.write_text(str(process.pid))

    def adopt(self) -> None:
        """Takes over a machine that an earlier command has started."""
        if self.pid_file.exists():
            pid = int(self.pid_file.read_text())
            self.pid = pid if self._is_ours(pid) else None

    def _is_ours(self, pid: int) -> bool:
        """A left-over pid file may name a process of somebody else by now; ours has this state's disk on its line."""
        try:
            return f"file={self.disk}," in Path(f"/proc/{pid}/cmdline").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return False

    def is_on(self) -> bool:
        pid = self.pid
        return pid is not None and lives(pid)

    def power_cut(self) -> float:
        """Pulls the plug. The moment, by the lab's monotonic clock."""
        with self._plug:
            moment = time.monotonic()
            if self.pid is not None:
                end_process(self.pid, f"QEMU of host {self.name}")
            self.close_door()
            self.pid = None
            self.pid_file.unlink(missing_ok=True)
            return moment

    def set_frozen(self, frozen: bool) -> None:
        os.kill(self.pid, signal.SIGSTOP if frozen else signal.SIGCONT)

    def wait_ready(self, timeout: float = 120) -> None:
        def ready() -> bool:
            if not self.is_on():
                raise LabError(f"host {self.name}'s QEMU ended; see {self.console}")
            return run(*self.ssh("xl list >/dev/null && test -e /run/xenstored.pid -o -e /run/xen/xenstored.pid"),
                       check=False, timeout=20).returncode == 0
        wait_for(f"host {self.name} to boot (its console: {self.console})", ready, timeout, 0.5)

    def set_clock(self, ahead: float = 0) -> None:
        """A host that goes back to a kept state has that state's clock. The time leaves when a shell is there and waits for
        it, which may take seconds."""
        shell = subprocess.Popen(
            self.through_door("echo ready; read now; date -s @$now"), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True)
        try:
            if shell.stdout.readline() == "ready\n":
                shell.communicate(f"{time.time() + ahead:.3f}\n", timeout=60)
            if shell.returncode != 0:
                raise LabError(f"host {self.name} does not take the time")
        finally:
            shell.kill()
            shell.wait()

    # -- commands ------------------------------------------------------------------------------------------------

    def ssh(self, command: str, *options: str) -> list[str]:
        # Of an option that is given twice ssh takes the first.
        return self.network.inside("ssh", *options, "-i", str(self.images.key), *SSH, f"root@{self.address}", command)

    @property
    def _door_path(self) -> Path:
        return self.state / f"{self.name}.ssh"

    def _open_door(self) -> subprocess.Popen | None:
        with self._plug:
            if self.pid is not None and (self._door is None or self._door.poll() is not None):
                self._door_path.unlink(missing_ok=True)
                self._door = subprocess.Popen(
                    self.ssh("", "-N", "-M", "-S", str(self._door_path), *PATIENTLY)[:-1], stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
            return self._door

    def through_door(self, command: str) -> list[str]:
        """Where there is no door, ssh makes a connection of its own."""
        door = self._open_door()
        deadline = time.monotonic() + 30
        while door and door.poll() is None and not self._door_path.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.ssh(command, "-S", str(self._door_path), *PATIENTLY)

    def close_door(self) -> None:
        if self._door is not None:
            self._door.kill()
            self._door.wait()
        self._door = None
        self._door_path.unlink(missing_ok=True)

    def run(self, command: str, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess:
        """A command to its end."""
        try:
            return run(*self.through_door(command), check=check, timeout=timeout)
        except subprocess.TimeoutExpired as error:
            raise TooSlow(f"host {self.name}: `{command}` took more than {timeout} s") from error

    def spawn(self, command: str, log: Path) -> subprocess.Popen:
        """A command that goes on in the background, its output in `log`."""
        with open(log, "wb") as output:
            return subprocess.Popen(
                self.through_door(command), stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                start_new_session=True)

    def write(self, path: str, text: str) -> None:
        self.run(f"cat >{shlex.quote(path)} <<'LAB-END'\n{text}\nLAB-END")

    def fetch(self, path: str) -> bytes:
        return subprocess.run(self.through_door(f"cat {path}"), stdout=subprocess.PIPE, check=True, timeout=60).stdout

    def put(self, file: Path, path: str) -> None:
        """Copies a file there, with its mode."""
        with open(file, "rb") as content:
            run(*self.through_door(f"cat >{path} && chmod {file.stat().st_mode & 0o777:o} {path}"), stdin=content)

    # -- Xen -----------------------------------------------------------------------------------------------------

    def domains(self) -> dict[str, "DomainLine"]:
        """What `xl list` says, without dom0."""
        found = {}
        for line in self.run("xl list").stdout.splitlines()[1:]:
            match = re.match(r"(\S+)\s+(\d+)\s+\d+\s+\d+\s+(\S+)", line)
            if match and match[1] != "Domain-0":
                found[match[1]] = DomainLine(match[1], int(match[2]), match[3])
        return found

    def syslog(self, pattern: str = "romulus") -> list[str]:
        return self.run(f"grep -a {shlex.quote(pattern)} /var/log/messages || true").stdout.splitlines()


class DomainLine:
    """A line of `xl list`: the state is six letters or dashes (running, blocked, paused, shutdown, crashed, dying)."""

    def __init__(self, name: str, identifier: int, state: str):
        self.name = name
        self.id = identifier
        self.state = state

    @property
    def runs(self) -> bool:
        """May be scheduled: neither paused nor suspended nor dead."""
        return not any(letter in self.state for letter in "pscd")

    @property
    def is_paused(self) -> bool:
        return "p" in self.state

    def __repr__(self) -> str:
        return f"{self.name}({self.id}, {self.state})"
