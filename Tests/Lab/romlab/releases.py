"""The Debian release that hosts and guests are made of: all that differs between two of them."""

from __future__ import annotations

import os
from dataclasses import dataclass

from .shell import LabError


@dataclass(frozen=True)
class Release:
    suite: str
    # As its packages are called.
    xen: str
    # Whose dependency is the kernel, and how that one begins.
    kernel: str
    kernel_prefix: str
    # In dom0, beside Xen's own.
    dom0: tuple[str, ...]

    @property
    def hypervisor(self) -> str:
        return f"xen-hypervisor-{self.xen}-amd64"

    @property
    def tools(self) -> str:
        return f"xen-utils-{self.xen}"

    @property
    def hypervisor_file(self) -> str:
        """Where its package has it."""
        return f"boot/xen-{self.xen}-amd64.gz"

    @property
    def xl(self) -> str:
        """The program itself, in dom0."""
        return f"/usr/lib/xen-{self.xen}/bin/xl"

    @property
    def dom0_packages(self) -> tuple[str, ...]:
        return (self.tools, *self.dom0)


BOOKWORM = Release("bookworm", "4.17", "linux-image-amd64", "linux-image-6.1.", tuple((
    "xen-utils-common xenstore-utils openssh-server openssh-client iproute2 kmod procps busybox-static etcd-client"
    " libnl-route-3-200 qemu-system-xen qemu-system-data seabios ipxe-qemu lvm2 thin-provisioning-tools").split()))
RELEASES = {release.suite: release for release in (BOOKWORM,)}


def wanted() -> Release:
    """As ROMULUS_LAB_RELEASE says, Debian 12 unless it does."""
    suite = os.environ.get("ROMULUS_LAB_RELEASE") or BOOKWORM.suite
    if suite not in RELEASES:
        raise LabError(f"ROMULUS_LAB_RELEASE={suite}: the lab knows only {', '.join(RELEASES)}")
    return RELEASES[suite]
