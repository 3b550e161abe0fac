"""One question, one answer, by every protocol that a guest's kernel or program answers: how long each is held."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable

from .guest import PORT, Guest, make_in_namespace
from .network import CLIENT_ADDRESS, CLIENT_ADDRESS6, GUEST_BRIDGE
from .shell import LabError

_ARP = 0x0806
_TIMEOUT = 10


def round_trips(guest: Guest, kind: str, count: int) -> list[float]:
    """Seconds from question to answer. Each question follows an answer, which leaves a protected guest when an epoch is
    committed: its own answer has the whole next epoch before it."""
    make, ask, answers = KINDS[kind]
    found = []
    with make_in_namespace(guest.network, lambda: make(guest)) as one:
        for number in range(count + 1):
            begun = time.monotonic()
            ask(one, guest, number)
            found.append(_wait(one, lambda text: answers(text, guest, number), kind) - begun)
    # The first one follows nothing.
    return found[1:]


def _wait(one: socket.socket, is_answer: Callable[[bytes], bool], kind: str) -> float:
    deadline = time.monotonic() + _TIMEOUT
    while (left := deadline - time.monotonic()) > 0:
        one.settimeout(left)
        try:
            if is_answer(one.recv(2048)):
                return time.monotonic()
        except TimeoutError:
            break
    raise LabError(f"the guest did not answer by {kind} within {_TIMEOUT} s")


# -- UDP -------------------------------------------------------------------------------------------------------------


def _udp(family: int) -> tuple:
    return (lambda guest: socket.socket(family, socket.SOCK_DGRAM),
            lambda one, guest, number: one.sendto(f"q{number}".encode(), (guest.address_in(family), PORT)),
            lambda text, guest, number: text.split()[:1] == [f"q{number}".encode()])


# -- ICMP: its identifier tells these from anybody else's ------------------------------------------------------------

_IDENTIFIER = 0x5237


def _checksum(text: bytes) -> int:
    total = sum(struct.unpack(f"!{len(text) // 2}H", text))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def _ping(one: socket.socket, guest: Guest, number: int) -> None:
    text = struct.pack("!BBHHH", 8, 0, 0, _IDENTIFIER, number)
    one.sendto(text[:2] + struct.pack("!H", _checksum(text)) + text[4:], (guest.address, 0))


def _is_pong(text: bytes, guest: Guest, number: int) -> bool:
    return text[20] == 0 and text[24:28] == struct.pack("!HH", _IDENTIFIER, number)


def _ping6(one: socket.socket, guest: Guest, number: int) -> None:
    one.sendto(struct.pack("!BBHHH", 128, 0, 0, _IDENTIFIER, number), (guest.address6, 0))


def _is_pong6(text: bytes, guest: Guest, number: int) -> bool:
    return text[0] == 129 and text[4:8] == struct.pack("!HH", _IDENTIFIER, number)


# -- who has this address: ARP, and its like in IPv6 -----------------------------------------------------------------


def _bound(interface: str) -> socket.socket:
    one = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    one.bind((interface, _ARP))
    return one


def _who_has(one: socket.socket, guest: Guest, number: int) -> None:
    mac = one.getsockname()[4]
    one.send(b"\xff" * 6 + mac + struct.pack("!HHHBBH", _ARP, 1, 0x0800, 6, 4, 1) + mac
             + socket.inet_aton(CLIENT_ADDRESS) + bytes(6) + socket.inet_aton(guest.address))


def _is_at(text: bytes, guest: Guest, number: int) -> bool:
    return text[20:22] == b"\0\2" and text[28:32] == socket.inet_aton(guest.address)


def _icmp6(hops: int | None = None) -> socket.socket:
    one = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    one.bind((CLIENT_ADDRESS6, 0))
    if hops:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, hops)
    return one


def _solicit(one: socket.socket, guest: Guest, number: int) -> None:
    text = struct.pack("!BBHI", 135, 0, 0, 0) + socket.inet_pton(socket.AF_INET6, guest.address6)
    one.sendto(text, (guest.address6, 0))


def _is_advertised(text: bytes, guest: Guest, number: int) -> bool:
    return text[0] == 136 and text[8:24] == socket.inet_pton(socket.AF_INET6, guest.address6)


KINDS: dict[str, tuple] = {
    "UDP over IPv4": _udp(socket.AF_INET),
    "UDP over IPv6": _udp(socket.AF_INET6),
    "ICMP": (lambda guest: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP), _ping, _is_pong),
    "ICMPv6": (lambda guest: _icmp6(), _ping6, _is_pong6),
    "ARP": (lambda guest: _bound(GUEST_BRIDGE), _who_has, _is_at),
    "neighbour solicitation": (lambda guest: _icmp6(255), _solicit, _is_advertised),
}
