"""Lines that a host writes, with the moment at which each reached the lab."""

from __future__ import annotations

import time

from .host import Host
from .shell import Stoppable


class LineFollower(Stoppable):
    """What a command on a host prints, line by line: after a power cut, what arrived before is all that is known."""

    def __init__(self, host: Host, command: str):
        self.lines: list[tuple[float, str]] = []
        self._unfinished = b""
        self._running = host.start(command, self._take)

    def _take(self, text: bytes) -> None:
        *lines, self._unfinished = (self._unfinished + text).split(b"\n")
        now = time.monotonic()
        self.lines.extend((now, line.decode(errors="replace")) for line in lines)

    @property
    def has_ended(self) -> bool:
        return self._running.status is not None

    def first(self, word: str, after: float = 0) -> float | None:
        """When the first line with that word arrived."""
        return next((moment for moment, line in list(self.lines) if moment >= after and word in line), None)

    def stop(self) -> None:
        self._running.stop()
