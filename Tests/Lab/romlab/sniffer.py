"""What a guest's copies really send: frames with the guest's MAC, told apart by the host that they come from."""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from dataclasses import dataclass

from .guest import Guest, make_in_namespace
from .network import GUEST_BRIDGE, REPLICATION_BRIDGE, Network
from .shell import LabError, Stoppable, wait_for

_ETH_P_ALL = 3
_SO_TIMESTAMPNS = 35
_ARP, _RARP, _IPV6 = 0x0806, 0x8035, 0x86DD


@dataclass(frozen=True)
class Frame:
    """The beginning of a frame, with the moment at which the lab's kernel took it from the host."""
    moment: float
    text: bytes

    @property
    def kind(self) -> int:
        return int.from_bytes(self.text[12:14], "big")

    @property
    def announces(self) -> bool:
        """Tells the network where the guest is, unasked: gratuitous ARP, RARP, or an unsolicited neighbour
        advertisement."""
        body = self.text[14:]
        if self.kind == _ARP:
            return body[14:18] == body[24:28]
        if self.kind == _IPV6:
            return len(body) > 44 and body[6] == socket.IPPROTO_ICMPV6 and body[40] == 136 and not body[44] & 0x40
        return self.kind == _RARP

    def __str__(self) -> str:
        return f"{self.kind:04x} {self.text[14:54].hex()}"


def _listening(network: Network, interface: str) -> socket.socket:
    """Hears each frame at that interface, with the moment at which the kernel took it."""
    def make() -> socket.socket:
        one = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # hears nothing before it is bound
        one.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        one.bind((interface, _ETH_P_ALL))
        one.setblocking(False)
        return one
    return make_in_namespace(network, make)


class Traffic(Stoppable):
    """Whether anything goes over the link between the hosts."""

    def __init__(self, network: Network):
        self._socket = _listening(network, REPLICATION_BRIDGE)

    def has_passed(self) -> bool:
        """Since this was last asked."""
        passed = False
        while True:
            try:
                self._socket.recv(1)
                passed = True
            except BlockingIOError:
                return passed

    def stop(self) -> None:
        self._socket.close()


class Sniffer(Stoppable):
    """Listens at both hosts' taps until it is stopped. A host that is started anew has a new tap, for a new sniffer."""

    def __init__(self, guest: Guest):
        self._mac = guest.mac
        self._frames: dict[str, list[Frame]] = {"a": [], "b": []}
        self._hosts = {_listening(guest.network, f"{host}-{GUEST_BRIDGE}"): host for host in self._frames}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while not self._stop.is_set():
            for one in select.select(list(self._hosts), [], [], 0.2)[0]:
                try:
                    text, extra, _, address = one.recvmsg(128, 64)
                except OSError:
                    continue  # its tap went down: what comes up again is heard again
                # What the lab itself sends to the host is heard too, as outgoing.
                if text[6:12] == self._mac and address[2] != socket.PACKET_OUTGOING:
                    self._frames[self._hosts[one]].append(Frame(_moment(extra), text))

    def frames_from(self, host: str, after: float = 0) -> list[Frame]:
        return [frame for frame in list(self._frames[host]) if frame.moment > after]

    def wait_announced(self, host: str, after: float, timeout: float = 20) -> Frame:
        """The first announcement of the copy on that host."""
        def found() -> Frame | None:
            return next((frame for frame in self.frames_from(host, after) if frame.announces), None)
        return wait_for(f"the copy on host {host} to announce itself", found, timeout, 0.02)

    def assert_silent(self, host: str, after: float) -> None:
        """No frame of the copy on that host since."""
        frames = self.frames_from(host, after)
        if frames:
            raise LabError(f"{len(frames)} frames of the copy on host {host} came out, the first"
                           f" {(frames[0].moment - after) * 1000:.0f} ms too late: {frames[0]}")

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        for one in self._hosts:
            one.close()


def _moment(extra: list) -> float:
    """The kernel's time stamp, by the lab's monotonic clock: this thread may be late."""
    age = 0.0
    for level, kind, data in extra:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
            seconds, nanoseconds = struct.unpack("qq", data[:16])
            age = time.time() - seconds - nanoseconds / 1e9
    return time.monotonic() - age
