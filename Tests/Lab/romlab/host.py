"""One Xen host: a QEMU machine in software emulation that boots Debian's hypervisor and dom0."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from . import agent, releases
from .images import Images
from .machine_state import Machine, MachineState
from .network import Network
from .shell import LabError, TooSlow, end_process, lives, run, wait_for

INDEX = {"a": 1, "b": 2}
# Some 300 MB for each machine and state: more than /run has on many machines.
KEPT = Path("/var/tmp/romulus-lab-kept")
MEMORY_MIB = 1536
DOM0_MIB = 768
XEN_OPTIONS = (
    f"dom0_mem={DOM0_MIB}M,max:{DOM0_MIB}M dom0_max_vcpus=1 com1=115200,8n1 console=com1 noreboot spec-ctrl=no xpti=0"
    " pv-l1tf=0 watchdog=0 loglvl=all guest_loglvl=all")
# Safety and accounting on every page and system call take a tenth of an emulated host's time.
KERNEL_OPTIONS = (
    "root=/dev/vda console=hvc0 quiet nokaslr mitigations=off init_on_alloc=0 cgroup_disable=memory psi=0"
    " hardened_usercopy=off randomize_kstack_offset=off lsm=")
# What a domain is called that has no name yet, or no more.
NAMELESS = "(null)"
# Whose command lines, for pgrep and pkill -f, quoted for a shell.
PRIMARY_XL = "'^/usr/lib/xen.*/xl remus'"
BACKUP_XL = "'^/usr/lib/xen.*/xl migrate-receive'"
SSH = [
    "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o",
    "ConnectTimeout=5", "-o", "ControlMaster=no", "-o", "ControlPath=none"]


class Host:
    def __init__(self, name: str, state: Path, network: Network, images: Images):
        self.name = name
        self.address = f"10.78.0.{INDEX[name]}"
        self.state = state
        self.network = network
        self.images = images
        # Behind the launcher and Debian's wrapper: two scripts fewer for what is asked most often.
        self.xl = releases.wanted().xl
        self.pid: int | None = None
        self.generation = 0
        # The power switch pulls plugs too, from a thread of its own.
        self._plug = threading.Lock()

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

    @property
    def machine(self) -> Machine:
        return Machine(self.control, self.disk)

    def kept(self, name: str) -> MachineState:
        """The machine's state of that name, to go back to."""
        return MachineState(KEPT / self.state.name, f"{self.name}-{name}")

    def power_on(self, logs: Path, kept: MachineState | None = None) -> None:
        """Starts the machine on a fresh disk; or reads a kept state, from which `machine_state.go_on` lets it go on.
        `wait_ready` waits for it."""
        self.power_cut()
        self.generation += 1
        self.disk.unlink(missing_ok=True)  # a QEMU that is still dying may hold the old one's lock
        self.control.unlink(missing_ok=True)
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
        with open(logs / f"qemu-{self.name}-{self.generation}.log", "wb") as output, ExitStack() as stack:
            inherited = []
            if kept is not None:
                memory = stack.enter_context(open(kept.memory, "rb"))
                inherited = [memory.fileno()]
                command += ["-S", "-incoming", f"fd:{memory.fileno()}"]
            process = subprocess.Popen(
                self.network.inside(*command), stdout=output, stderr=output, stdin=subprocess.DEVNULL,
                start_new_session=True, pass_fds=inherited)
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
            self.pid = None
            self.pid_file.unlink(missing_ok=True)
            return moment

    def set_frozen(self, frozen: bool) -> None:
        os.kill(self.pid, signal.SIGSTOP if frozen else signal.SIGCONT)

    def wait_ready(self, timeout: float = 120) -> None:
        def ready() -> bool:
            if not self.is_on():
                raise LabError(f"host {self.name}'s QEMU ended; see {self.console}")
            return self.call(f"{self.xl} list >/dev/null && test -e /run/xenstored.pid -o -e /run/xen/xenstored.pid",
                             timeout=20)[0] == 0
        wait_for(f"host {self.name} to boot (its console: {self.console})", ready, timeout, 0.5)

    def set_clock(self, ahead: float = 0) -> None:
        """A host that goes back to a kept state has that state's clock."""
        self.run(f"date -s @{time.time() + ahead:.3f}")

    # -- commands ------------------------------------------------------------------------------------------------

    def ssh(self, command: str, *options: str) -> list[str]:
        """For a person's shell; the lab's own commands go through its agent."""
        return self.network.inside("ssh", *options, "-i", str(self.images.key), *SSH, f"root@{self.address}", command)

    def _call(self, script: str, given: bytes = b"", timeout: float = 30) -> tuple[agent.Call, Callable[[], bool]]:
        """The call, and whether the machine that it was made to is still there."""
        generation = self.generation
        return (agent.Call(self.network, self.address, script, given, timeout),
                lambda: self.generation == generation and self.is_on())

    def call(self, script: str, given: bytes = b"", timeout: float = 60) -> tuple[int, bytes]:
        """A script to its end: status and output. One that could not be begun has the status of a broken call."""
        try:
            call, is_there = self._call(script, given, min(timeout, 30))
        except OSError as error:
            return agent.BROKEN, f"host {self.name} is not reached: {error}".encode()
        try:
            return agent.to_end(call, timeout, is_there)
        except TimeoutError as error:
            raise TooSlow(f"host {self.name}: `{script}` took more than {timeout} s") from error

    def run(self, command: str, check: bool = True, timeout: float = 60, given: bytes = b"") -> subprocess.CompletedProcess:
        """A command to its end, with that input."""
        status, output = self.call(command, given, timeout)
        text = output.decode(errors="replace")
        if check and status != 0:
            tail = "\n".join(text.splitlines()[-15:])
            raise LabError(f"host {self.name}: `{command}` exited with {status}:\n{tail}")
        return subprocess.CompletedProcess(command, status, text)

    def start(self, command: str, take: Callable[[bytes], object]) -> agent.Running:
        """A command that goes on in the background; what it prints is handed over as it comes."""
        try:
            call, is_there = self._call(command)
        except OSError as error:
            raise TooSlow(f"host {self.name} is not reached: {error}") from error
        return agent.Running(call, take, is_there)

    def write(self, path: str, text: str, then: str = "true", timeout: float = 60) -> None:
        """A file, and what is to be done when it is there, in one command."""
        self.run(f"cat >{shlex.quote(path)} && {then}", timeout=timeout, given=f"{text}\n".encode())

    def fetch(self, path: str) -> bytes:
        status, content = self.call(f"cat {shlex.quote(path)}")
        if status != 0:
            raise LabError(f"host {self.name}: {path} cannot be read")
        return content

    def put(self, file: Path, path: str) -> None:
        """Copies a file there, with its mode."""
        self.run(f"cat >{path} && chmod {file.stat().st_mode & 0o777:o} {path}", given=file.read_bytes())

    def put_archive(self, folder: Path, names: list[str], where: str) -> None:
        """Files, in one archive, unpacked there."""
        archive = subprocess.run(
            ["tar", "-C", str(folder), "-cf", "-", *names], stdout=subprocess.PIPE, check=True).stdout
        self.run(f"mkdir -p {where} && tar -C {where} --no-same-owner -xf -", given=archive)

    # -- Xen -----------------------------------------------------------------------------------------------------

    def domains(self) -> dict[str, "DomainLine"]:
        """What `xl list` says, without dom0; from the agent, which needs no process for it."""
        found = {}
        for line in self.run("lab-domains").stdout.splitlines():
            match = re.match(r"(\S+)\s+(\d+)\s+\d+\s+\d+\s+(\S+)", line)
            if match and match[1] != "Domain-0":
                found[match[1]] = DomainLine(match[1], int(match[2]), match[3])
        return found

    def syslog(self, pattern: str = "romulus") -> list[str]:
        return self.run(f"grep -a {shlex.quote(pattern)} /var/log/messages || true").stdout.splitlines()


def emulator_doubt() -> str | None:
    """What speaks against this machine's QEMU. Since 9.1 (10.0.2 was tried) it asks whether a nested guest's reading of CR2, CR3 or
    CR4 is intercepted as if it were CR0 that is read: Xen, which sets an intercept for that one, answers in its place, with 0."""
    said = run("qemu-system-x86_64", "--version").stdout
    version = re.search(r"version (\d+)\.(\d+)", said)
    if version is None or (int(version[1]), int(version[2])) < (9, 1):
        return None
    return (f"{said.splitlines()[0]}: from 9.1 on QEMU may take a guest's read of CR2 for one of CR0: if no guest ever answers,"
            " use the QEMU of Debian 12")


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
