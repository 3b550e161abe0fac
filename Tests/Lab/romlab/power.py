"""A power switch as a rack has one: whoever reaches it over the network may ask for an outlet, or turn it off."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

from .guest import make_in_namespace
from .network import THIRD_PLACE
from .shell import Stoppable

if TYPE_CHECKING:
    from .lab import Lab

PORT = 7800


class PowerSwitch(Stoppable):
    """One line per connection: `status a` -> `on` or `off`; `off a` -> `off` when that host has no power any more.

    It serves one connection after the other, and talks to its client before it acts, as real ones do at their login: a
    host that has lost its power in the meantime is not heard. So of two hosts that fence each other one wins.
    """

    def __init__(self, lab: "Lab"):
        self.requests: list[str] = []
        self._hosts = {host.name: host for host in lab.hosts}
        self._outlets = {host.address: host for host in lab.hosts}
        self._socket = make_in_namespace(lab.network, lambda: socket.create_server((THIRD_PLACE, PORT), backlog=8))
        self._socket.settimeout(0.2)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                connection, (address, _) = self._socket.accept()
            except TimeoutError:
                continue
            with connection:
                try:
                    connection.settimeout(3)
                    line = connection.makefile().readline(64)
                    asking = self._outlets.get(address)
                    if asking is None or asking.is_on():
                        connection.sendall(self._obey(line.split()).encode() + b"\n")
                except (OSError, ValueError):
                    pass  # a client that went away, or has no text to say: the next one

    def _obey(self, words: list[str]) -> str:
        if len(words) != 2 or words[0] not in ("status", "off") or words[1] not in self._hosts:
            return "error"
        host = self._hosts[words[1]]
        self.requests.append(" ".join(words))
        if words[0] == "off":
            host.power_cut()
        return "on" if host.is_on() else "off"

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()
