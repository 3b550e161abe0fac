"""Commands on a host through the lab's agent there (agent/agent.c): no login, and no process on this side."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from .guest import make_in_namespace
from .network import Network
from .shell import Stoppable

PORT = 7100
_MARK = b"\0status\0"
# Of a call that has no end: the host lost its power, or the connection broke.
BROKEN = 255


class Call:
    """One script on a host. Closing it kills the script, but for what has a session of its own."""

    def __init__(self, network: Network, address: str, script: str, given: bytes = b"", timeout: float = 30):
        self._socket = make_in_namespace(network, lambda: socket.create_connection((address, PORT), timeout))
        text = script.encode()
        self._socket.sendall(b"%d %d\n" % (len(text), len(given)) + text + given)
        self._last = b""
        # None until the script has ended.
        self.status: int | None = None

    def read(self, timeout: float) -> bytes | None:
        """What the script has printed since; None where there was nothing in that time. Nothing and a status: its end."""
        if not select.select([self._socket], [], [], timeout)[0]:
            return None
        try:
            text = self._socket.recv(1 << 16)
        except OSError:
            text = b""
        held = self._last + text
        if text:
            # What may be the mark's beginning is not yet handed over.
            end = len(held) - len(_MARK) - 1
            mark = held.find(_MARK[:1], max(end, 0))
            self._last = held[mark:] if mark >= 0 else b""
            return held[:mark] if mark >= 0 else held
        mark, status = held[:-1], held[-1:]
        if mark == _MARK:
            self.status = status[0]
            return b""
        self.status = BROKEN
        return held

    def close(self) -> None:
        self._socket.close()


class Running(Stoppable):
    """A script that goes on in the background: what it prints goes to `take`, piece by piece, on a thread of its own."""

    def __init__(self, call: Call, take: Callable[[bytes], object], is_there: Callable[[], bool]):
        self._call = call
        self._take = take
        self._is_there = is_there
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while self._call.status is None and not self._stop.is_set():
            text = self._call.read(0.5)
            if text:
                self._take(text)
            if text is None and not self._is_there():
                self._call.status = BROKEN
        self._call.close()

    @property
    def status(self) -> int | None:
        return self._call.status

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


def to_end(call: Call, timeout: float, is_there: Callable[[], bool]) -> tuple[int, bytes]:
    """Status and output. Raises TimeoutError."""
    deadline = time.monotonic() + timeout
    output = []
    try:
        while call.status is None:
            text = call.read(max(0.0, min(0.5, deadline - time.monotonic())))
            if text:
                output.append(text)
            if call.status is None and time.monotonic() >= deadline:
                raise TimeoutError
            if text is None and not is_there():
                return BROKEN, b"".join(output)
    finally:
        call.close()
    return call.status, b"".join(output)


def appending(file: Path) -> Callable[[bytes], object]:
    """Takes what comes into a new file, at once."""
    output = open(file, "wb", buffering=0)
    return output.write
