"""One open TCP connection to the guest, as a client has it: whether it survives, and what it can tell of the guest."""

from __future__ import annotations

import re
import select
import socket
import threading
import time
from dataclasses import dataclass
from statistics import median, quantiles

from .guest import Guest, make_in_namespace
from .shell import LabError, Stoppable, wait_for

PORT = 7001


@dataclass(frozen=True)
class Latency:
    """In milliseconds."""
    median: float
    p95: float
    count: int

    @staticmethod
    def of(seconds: list[float]) -> "Latency":
        if len(seconds) < 2:
            raise LabError(f"{len(seconds)} answers are too few to tell a latency")
        return Latency(median(seconds) * 1000, quantiles(seconds, n=20)[-1] * 1000, len(seconds))


class Stream(Stoppable):
    """Sends `c 1`, `c 2`, … every 20 ms, or as said, without waiting for answers, and keeps what the guest says, until
    stopped."""

    def __init__(self, guest: Guest, family: int = socket.AF_INET, interval: float = 0.02):
        self.interval = interval
        self.guest = guest
        # When each n was sent, and when it was echoed; n counts from 1.
        self.sent: list[float] = []
        self.echoed: list[float] = []
        # The highest number of the guest's own that has arrived, and the highest counter.
        self.heard = 0
        self.counter = 0
        self.heard_at: list[float] = []
        # What must never be seen: a gap, a duplicate, a counter that goes back, the end of the connection.
        self.problems: list[str] = []
        self._unsent = b""
        self._unread = b""
        address = (guest.address_in(family), PORT)
        self._socket = make_in_namespace(guest.network, lambda: socket.create_connection(address, 10))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(False)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    # -- the connection ------------------------------------------------------------------------------------------

    def _work(self) -> None:
        next_send = time.monotonic()
        try:
            while not self._stop.is_set():
                now = time.monotonic()
                if now >= next_send:
                    self.sent.append(now)
                    self._unsent += f"c {len(self.sent)}\n".encode()
                    next_send = max(next_send + self.interval, now)
                    self._send()
                if select.select([self._socket], [], [], max(0.0, next_send - time.monotonic()))[0]:
                    self._receive()
        except OSError as error:
            self.problems.append(f"the connection broke: {error}")

    def _send(self) -> None:
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent):]
        except BlockingIOError:
            pass  # full, as while the guest is away: the next turn sends it

    def _receive(self) -> None:
        text = self._socket.recv(65536)
        if not text:
            raise ConnectionError("the guest ended it")
        *lines, self._unread = (self._unread + text).split(b"\n")
        now = time.monotonic()
        for line in lines:
            self._take(line.decode(errors="replace"), now)

    def _take(self, line: str, now: float) -> None:
        match = re.fullmatch(r"([eg]) (\d+) (\d+)", line)
        if match is None:
            self.problems.append(f"the guest said {line!r}")
            return
        one, other = int(match[2]), int(match[3])
        number = other if match[1] == "e" else one
        if number != self.heard + 1:
            self.problems.append(f"the guest's message {number} came after its {self.heard}")
        self.heard = number
        self.heard_at.append(now)
        if match[1] == "e":
            if one != len(self.echoed) + 1:
                self.problems.append(f"the guest answered {one} after {len(self.echoed)}")
            self.echoed.append(now)
        else:
            if other < self.counter:
                self.problems.append(f"the guest's counter went back from {self.counter} to {other}")
            self.counter = max(self.counter, other)

    @property
    def port(self) -> int:
        """The client's own: as long as it is the same, so is the connection."""
        return self._socket.getsockname()[1]

    # -- what must hold ------------------------------------------------------------------------------------------

    def wait_moves(self, timeout: float = 20) -> None:
        """What is sent from now on is answered, and the guest says something on its own: both directions move."""
        n, counter = len(self.sent) + 1, self.counter

        def moves() -> bool:
            self._assert_unbroken()
            return len(self.echoed) > n and self.counter > counter
        wait_for(f"the open connection to go on ({self})", moves, timeout, 0.05)

    def assert_consistent(self, timeout: float = 20) -> None:
        """Nothing that the client has received is unknown to the guest, nothing was lost, doubled or invented, and the
        connection goes on."""
        self._assert_known()
        self.wait_moves(timeout)
        self._assert_known()
        self._assert_unbroken()

    def _assert_known(self) -> None:
        self._assert_unbroken()
        echoed, heard = len(self.echoed), self.heard
        answer = self.guest.ask("stream")
        if answer.startswith("BAD"):
            raise LabError(f"the guest misses what the client has sent: {answer}")
        received, said = map(int, answer.split())
        if received < echoed or said < heard:
            raise LabError(f"the client has answers to {echoed} and the guest's message {heard}, but the guest knows"
                           f" only of {received} and {said}")

    def _assert_unbroken(self) -> None:
        if self.problems:
            raise LabError(f"the open connection: {self.problems[0]} ({self})")

    def latency(self, after: float = 0) -> Latency:
        """From `c <n>` to `e <n>`, of what was sent after that moment and has been answered."""
        return Latency.of([
            echoed - sent for sent, echoed in zip(list(self.sent), list(self.echoed)) if sent >= after])

    def silence(self, after: float) -> float:
        """The longest time without a word from the guest, from that moment on."""
        moments = [after, *(moment for moment in list(self.heard_at) if moment > after), time.monotonic()]
        return max(later - earlier for earlier, later in zip(moments, moments[1:]))

    def __str__(self) -> str:
        return f"{len(self.sent)} sent, {len(self.echoed)} answered, {self.heard} heard"

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()
