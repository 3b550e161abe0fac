"""The lab's own network: one namespace with three bridges, for guests, for replication, and for the lab's commands."""

from __future__ import annotations

from .shell import run

GUEST_BRIDGE = "guests"
CONTROL_BRIDGE = "control"
REPLICATION_BRIDGE = "replication"
# A guest may have as many interfaces; each has a network of its own, on the same bridge.
VIFS = 4
# Where what is neither host is found: the lab's commands, the power switch, etcd.
THIRD_PLACE = "10.78.0.254"
# Never up: what is sent here is lost.
_NOWHERE = "nowhere"


def address(number: int, vif: int = 0) -> str:
    """Of whoever has that number, in the network of guests' interfaces with that index."""
    return f"10.77.{vif}.{number}"


def address6(number: int, vif: int = 0) -> str:
    return f"fd77::{number}" if vif == 0 else f"fd77:0:0:{vif}::{number}"


_CLIENT = 254
CLIENT_ADDRESS = address(_CLIENT)
CLIENT_ADDRESS6 = address6(_CLIENT)


class Network:
    def __init__(self, name: str):
        self.namespace = name

    def up(self) -> None:
        self.down()
        run("ip", "netns", "add", self.namespace)
        self.ip("link", "set", "lo", "up")
        for bridge in (GUEST_BRIDGE, CONTROL_BRIDGE, REPLICATION_BRIDGE):
            self.ip("link", "add", bridge, "type", "bridge", "forward_delay", "0")
            self.ip("link", "set", bridge, "up")
        for vif in range(VIFS):
            self.ip("addr", "add", f"{address(_CLIENT, vif)}/24", "dev", GUEST_BRIDGE)
            self.ip("addr", "add", f"{address6(_CLIENT, vif)}/64", "dev", GUEST_BRIDGE, "nodad")
        self.ip("addr", "add", f"{THIRD_PLACE}/24", "dev", CONTROL_BRIDGE)
        self.ip("tuntap", "add", "dev", _NOWHERE, "mode", "tap")

    def down(self) -> None:
        run("ip", "netns", "del", self.namespace, check=False)

    def add_taps(self, host: str) -> tuple[str, ...]:
        """Fresh taps for a host: (guests, control, replication)."""
        bridges = (GUEST_BRIDGE, CONTROL_BRIDGE, REPLICATION_BRIDGE)
        names = tuple(f"{host}-{bridge}" for bridge in bridges)
        for tap, bridge in zip(names, bridges):
            self.ip("link", "del", tap, check=False)
            self.ip("tuntap", "add", "dev", tap, "mode", "tap")
            self.ip("link", "set", tap, "master", bridge)
            self.ip("link", "set", tap, "up")
        return names

    def set_link(self, host: str, up: bool) -> None:
        """Everything of a host, its guests' and its replication's; the control link stays."""
        for bridge in (GUEST_BRIDGE, REPLICATION_BRIDGE):
            self.ip("link", "set", f"{host}-{bridge}", "up" if up else "down")

    def set_replication(self, up: bool) -> None:
        """The link between the two hosts and nothing else: clients reach guests on both. Heals one-way cuts too."""
        for host in ("a", "b"):
            tap = f"{host}-{REPLICATION_BRIDGE}"
            self.ip("link", "set", tap, "up" if up else "down", check=False)  # a host that was never on has no tap
            if up:
                self._tc("qdisc", "del", "dev", tap, "ingress", check=False)

    def lose_replication_from(self, host: str) -> None:
        """One way only: what this host sends to the other is lost, what it is sent arrives."""
        tap = f"{host}-{REPLICATION_BRIDGE}"
        self._tc("qdisc", "add", "dev", tap, "ingress")
        # Every kernel with ingress filters has these two; not every one has a classifier and an action that just drop.
        self._tc("filter", "add", "dev", tap, "ingress", "protocol", "all", "u32", "match", "u32", "0", "0",
                 "action", "mirred", "egress", "redirect", "dev", _NOWHERE)

    def ip(self, *words: str, check: bool = True) -> None:
        run("ip", "-n", self.namespace, *words, check=check)

    def _tc(self, *words: str, check: bool = True) -> None:
        run("tc", "-n", self.namespace, *words, check=check)

    def inside(self, *command: str) -> list[str]:
        """A command line that runs in the lab's network."""
        return ["ip", "netns", "exec", self.namespace, *command]
