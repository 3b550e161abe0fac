"""The lab's own network: one namespace with a bridge for guests and replication, and one for the lab's commands."""

from __future__ import annotations

from .shell import run

REPLICATION_BRIDGE = "guests"
CONTROL_BRIDGE = "control"
CLIENT_ADDRESS = "10.77.0.254"


class Network:
    def __init__(self, name: str):
        self.namespace = name

    def up(self) -> None:
        self.down()
        run("ip", "netns", "add", self.namespace)
        self.ip("link", "set", "lo", "up")
        for bridge, address in ((REPLICATION_BRIDGE, CLIENT_ADDRESS), (CONTROL_BRIDGE, "10.78.0.254")):
            self.ip("link", "add", bridge, "type", "bridge", "forward_delay", "0")
            self.ip("addr", "add", f"{address}/24", "dev", bridge)
            self.ip("link", "set", bridge, "up")

    def down(self) -> None:
        run("ip", "netns", "del", self.namespace, check=False)

    def add_taps(self, host: str) -> tuple[str, str]:
        """Fresh taps for a host: (replication, control)."""
        names = (f"{host}-guests", f"{host}-control")
        for tap, bridge in zip(names, (REPLICATION_BRIDGE, CONTROL_BRIDGE)):
            self.ip("link", "del", tap, check=False)
            self.ip("tuntap", "add", "dev", tap, "mode", "tap")
            self.ip("link", "set", tap, "master", bridge)
            self.ip("link", "set", tap, "up")
        return names

    def set_link(self, host: str, up: bool) -> None:
        """The replication link of a host; the control link stays."""
        self.ip("link", "set", f"{host}-guests", "up" if up else "down")

    def ip(self, *words: str, check: bool = True) -> None:
        run("ip", "-n", self.namespace, *words, check=check)

    def inside(self, *command: str) -> list[str]:
        """A command line that runs in the lab's network."""
        return ["ip", "netns", "exec", self.namespace, *command]
