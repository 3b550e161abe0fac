"""The guest as its clients see it: commands over TCP, and a stream of UDP probes that shows when it answers."""

from __future__ import annotations

import copy
import ctypes
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Self

from . import network as networks
from .guest_config import GuestConfig
from .network import Network
from .shell import LabError, Stoppable, TooSlow

PORT = 7000
_CLONE_NEWNET = 0x40000000


def make_in_namespace(network: Network, make: Callable[[], socket.socket]) -> socket.socket:
    """A socket belongs to the namespace that its thread was in when it was made, whoever uses it later."""
    result: list = []

    def work() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/run/netns/{network.namespace}", "rb") as namespace:
            if libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                result.append(OSError(ctypes.get_errno(), "setns"))
                return
        try:
            result.append(make())
        except OSError as error:
            result.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if isinstance(result[0], OSError):
        raise result[0]
    return result[0]


class Guest:
    """A guest by its configuration, at the addresses of its first interface unless `at` says otherwise."""

    def __init__(self, network: Network, configuration: GuestConfig):
        self.network = network
        self.configuration = configuration
        self.name = configuration.name
        self.memory_mib = configuration.memory_mib
        # Its file, on a host that it was created on or put on.
        self.config = configuration.path
        # What `xl create` took of late: how fast the machine is.
        self.creation_seconds = 0.0
        self.vif = 0

    def with_(self, **changes: object) -> "Guest":
        """A variant, which is to be created itself."""
        return Guest(self.network, replace(self.configuration, **changes))

    def at(self, vif: int) -> Self:
        """The same guest as clients of another interface see it."""
        one = copy.copy(self)
        one.vif = vif
        return one

    @property
    def at_all(self) -> list[Self]:
        """At each of its interfaces."""
        return [self.at(vif) for vif in range(self.configuration.vifs)]

    @property
    def address(self) -> str:
        return networks.address(self.configuration.number, self.vif)

    @property
    def address6(self) -> str:
        return networks.address6(self.configuration.number, self.vif)

    @property
    def mac(self) -> bytes:
        return self.configuration.mac(self.vif)

    def address_in(self, family: int) -> str:
        return self.address6 if family == socket.AF_INET6 else self.address

    def ask(self, command: str, timeout: float = 10, family: int = socket.AF_INET) -> str:
        """One command, one line of answer."""
        with self._told(command, timeout, family) as connection:
            answer = connection.makefile().readline().strip()
        if not answer:
            raise LabError(f"guest {self.name} gave no answer to `{command}`")
        return answer

    def tell(self, command: str) -> None:
        """One command that the guest will not answer; that it has come is not known here."""
        with self._told(command, 30, socket.AF_INET):
            pass

    @contextmanager
    def _told(self, command: str, timeout: float, family: int) -> Iterator[socket.socket]:
        """The connection on which the command was sent."""
        address = (self.address_in(family), PORT)
        try:
            with make_in_namespace(self.network, lambda: socket.create_connection(address, timeout)) as connection:
                connection.sendall(command.encode() + b"\n")
                yield connection
        except TimeoutError as error:
            raise TooSlow(f"guest {self.name} gave no answer to `{command}` within {timeout:.0f} s") from error

    def counter(self) -> int:
        return int(self.ask("counter"))

    def pauses(self) -> "Pauses":
        count, mean, median, most = map(int, self.ask("pauses", 30).split())
        return Pauses(count, mean, median, most)

    def answers(self, timeout: float = 2) -> bool:
        try:
            self.ask("counter", timeout)
            return True
        except (OSError, LabError):
            return False


@dataclass(frozen=True)
class Pauses:
    """Suspensions that the guest itself measured, in microseconds."""
    count: int
    mean: int
    median: int
    most: int


@dataclass(frozen=True)
class Reply:
    """Of one probe. The counter is the guest's own: how far the copy that answered had come."""
    sent: float
    received: float
    counter: int

    @property
    def took(self) -> float:
        return self.received - self.sent


class Prober(Stoppable):
    """Sends a datagram every 20 ms, or as said, and keeps the replies, until it is stopped."""

    def __init__(self, guest: Guest, family: int = socket.AF_INET, interval: float = 0.02):
        self.interval = interval
        self.replies: list[Reply] = []
        self._socket = make_in_namespace(guest.network, lambda: socket.socket(family, socket.SOCK_DGRAM))
        self._socket.setblocking(False)
        self._address = (guest.address_in(family), PORT)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        next_send = time.monotonic()
        while not self._stop.is_set():
            now = time.monotonic()
            if now >= next_send:
                try:
                    self._socket.sendto(repr(now).encode(), self._address)
                except OSError:
                    pass  # no route while a link is down, or a full queue: the next one tells
                next_send = now + self.interval
            if select.select([self._socket], [], [], max(0.0, next_send - time.monotonic()))[0]:
                self._receive()

    def _receive(self) -> None:
        try:
            sent, counter = self._socket.recv(256).split()
        except (OSError, ValueError):
            return
        self.replies.append(Reply(float(sent), time.monotonic(), int(counter)))

    def last_before(self, moment: float) -> Reply:
        known = [reply for reply in self.replies if reply.received <= moment]
        if not known:
            raise LabError("the guest answered no probe before the fault")
        return known[-1]

    def wait_first_after(self, moment: float, timeout: float) -> Reply:
        """The first reply to a probe that was sent after `moment`."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            later = [one for one in self.replies if one.sent > moment]
            if later:
                return later[0]
            time.sleep(0.01)
        raise LabError(f"the guest answered no probe within {timeout:.0f} s")

    def assert_never_ahead(self) -> None:
        """No reply that was seen outside is ahead of the guest that goes on: replies come in the order in which they
        were sent, and so the counter goes back only where a copy goes on from before what another one has told."""
        highest = 0
        for reply in list(self.replies):
            if reply.counter < highest:
                raise LabError(
                    f"the guest that goes on answered with counter {reply.counter}, but {highest} was seen outside")
            highest = reply.counter

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()
