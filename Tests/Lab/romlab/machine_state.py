"""States of QEMU machines in files: memory, devices and disk, taken once and gone back to within moments."""

from __future__ import annotations

import json
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from .shell import LabError, TooSlow, run, wait_for

# For how long nothing must have been under way.
QUIET_SECONDS = 0.03
# Where Xen has itself (public/arch-x86/xen-x86_64.h): its interrupt table is there, a guest's own is not.
XEN_ADDRESSES = range(0xFFFF800000000000, 0xFFFF880000000000)


@dataclass(frozen=True)
class Machine:
    """A running QEMU, by its control socket and its disk."""
    control: Path
    disk: Path


class MachineState:
    """Of one machine, at one moment. Every machine that goes on from it has the same random numbers before it."""

    def __init__(self, folder: Path, name: str):
        self.memory = folder / f"{name}.memory"
        self._disk = folder / f"{name}.qcow2"

    @property
    def exists(self) -> bool:
        return self.memory.exists() and self._disk.exists()

    def lay_disk(self, disk: Path) -> None:
        """A disk as it was then."""
        run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", self._disk, disk)

    def copy_disk(self, disk: Path) -> None:
        shutil.copy(disk, self._disk)


def take(states: Iterable[tuple[MachineState, Machine]], has_traffic: Callable[[], bool] = lambda: False) -> None:
    """Of machines at one moment, as far as they can tell: none runs while another's is taken. They go on at the end of it.
    What is under way between them at that moment is lost: `has_traffic` says whether something was since it was last asked."""
    states = list(states)
    with ExitStack() as stack:
        controls = [stack.enter_context(_Control(machine.control)) for _, machine in states]
        try:
            _stop_quietly(controls, has_traffic)
            for (state, _), control in zip(states, controls):
                state.memory.parent.mkdir(parents=True, exist_ok=True)
                control.do("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
                control.do("migrate", uri=f"exec:cat >'{state.memory}'")
            for (state, machine), control in zip(states, controls):
                wait_for("the machine's memory to be written", lambda: _is_written(control), 120)
                state.copy_disk(machine.disk)
        finally:
            for control in controls:
                control.do("cont")


def go_on(machines: Iterable[Machine]) -> None:
    """Machines that were started from a state, when all of them have read it: at one moment again."""
    with ExitStack() as stack:
        controls = [stack.enter_context(_Control(machine.control)) for machine in machines]
        for control in controls:
            wait_for("the machine's memory to be read",
                     lambda: control.do("query-status")["status"] != "inmigrate", 120, 0.05)
        for control in controls:
            control.do("cont")


def _stop_quietly(controls: list["_Control"], has_traffic: Callable[[], bool]) -> None:
    """QEMU cannot go on from the inside of a guest of the machine's own: when a processor was there, or something under way,
    the machines run on for a moment, and are stopped again."""
    for _ in range(500):
        has_traffic()
        time.sleep(QUIET_SECONDS)
        if has_traffic():
            continue
        for control in controls:
            control.do("stop")
        if not has_traffic() and not any(control.is_in_guest() for control in controls):
            return
        for control in controls:
            control.do("cont")
    raise TooSlow("the machines never stand still outside of their guests with nothing under way between them")


def _is_written(machine: "_Control") -> bool:
    status = machine.do("query-migrate").get("status")
    if status == "failed":
        raise LabError("QEMU could not write the machine's memory")
    return status == "completed"


class _Control:
    """QEMU's monitor protocol: one command, one answer; events in between are none of ours."""

    def __init__(self, path: Path):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(60)
        wait_for(f"QEMU to open {path}", lambda: self._connects(path), 20, 0.02)
        self._lines = self._socket.makefile()
        self._lines.readline()
        self.do("qmp_capabilities")

    def _connects(self, path: Path) -> bool:
        try:
            self._socket.connect(str(path))
            return True
        except (FileNotFoundError, ConnectionRefusedError):
            return False

    def do(self, command: str, **arguments: object):
        self._socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
        while line := self._lines.readline():
            answer = json.loads(line)
            if "error" in answer:
                raise LabError(f"QEMU refused {command}: {answer['error'].get('desc')}")
            if "return" in answer:
                return answer["return"]
        raise LabError(f"QEMU ended at {command}")

    def is_in_guest(self) -> bool:
        """Whether the processor works for a guest of the hypervisor's, by whose interrupt table it has."""
        registers = self.do("human-monitor-command", **{"command-line": "info registers"})
        return int(re.search(r"IDT= *([0-9a-f]+)", registers)[1], 16) not in XEN_ADDRESSES

    def __enter__(self) -> "_Control":
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._socket.close()
