"""A QEMU machine's state in files: memory, devices and disk, taken once and gone back to within moments."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

from .shell import LabError, run, wait_for


class MachineState:
    """Of one machine, at one moment. Every machine that goes on from it has the same random numbers before it."""

    def __init__(self, folder: Path, name: str):
        self._memory = folder / f"{name}.memory"
        self._disk = folder / f"{name}.qcow2"

    @property
    def exists(self) -> bool:
        return self._memory.exists() and self._disk.exists()

    def take(self, control: Path, disk: Path) -> None:
        """Of the machine behind that control socket, which stands still at the end of it, and then goes on."""
        self._memory.parent.mkdir(parents=True, exist_ok=True)
        with _Control(control) as machine:
            machine.do("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
            machine.do("migrate", uri=f"exec:cat >'{self._memory}'")
            wait_for("the machine's memory to be written", lambda: self._is_written(machine), 120)
            shutil.copy(disk, self._disk)
            machine.do("cont")

    @staticmethod
    def _is_written(machine: "_Control") -> bool:
        status = machine.do("query-migrate").get("status")
        if status == "failed":
            raise LabError("QEMU could not write the machine's memory")
        return status == "completed"

    def lay_disk(self, disk: Path) -> None:
        """A disk as it was then."""
        run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", self._disk, disk)

    @property
    def options(self) -> list[str]:
        """For a QEMU that is to go on from here."""
        return ["-incoming", f"exec:cat '{self._memory}'"]


class _Control:
    """QEMU's monitor protocol: one command, one answer; events in between are none of ours."""

    def __init__(self, path: Path):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(60)
        self._socket.connect(str(path))
        self._lines = self._socket.makefile()
        self._lines.readline()
        self.do("qmp_capabilities")

    def do(self, command: str, **arguments: object) -> dict:
        self._socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
        while line := self._lines.readline():
            answer = json.loads(line)
            if "error" in answer:
                raise LabError(f"QEMU refused {command}: {answer['error'].get('desc')}")
            if "return" in answer:
                return answer["return"]
        raise LabError(f"QEMU ended at {command}")

    def __enter__(self) -> "_Control":
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._socket.close()
