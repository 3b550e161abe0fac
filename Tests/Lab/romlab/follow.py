"""Lines that a host writes, with the moment at which each reached the lab."""

from __future__ import annotations

import subprocess
import threading
import time

from .host import Host
from .shell import Stoppable


class LineFollower(Stoppable):
    """What a command on a host prints, line by line: after a power cut, what arrived before is all that is known."""

    def __init__(self, host: Host, command: str):
        self.lines: list[tuple[float, str]] = []
        self._process = subprocess.Popen(
            host.through_door(command), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
            text=True, errors="replace", start_new_session=True)
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        for line in self._process.stdout:
            self.lines.append((time.monotonic(), line.rstrip("\n")))

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def first(self, word: str, after: float = 0) -> float | None:
        """When the first line with that word arrived."""
        return next((moment for moment, line in list(self.lines) if moment >= after and word in line), None)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join()
