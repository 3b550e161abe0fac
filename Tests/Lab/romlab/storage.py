"""What guests' disks are on a host: volumes of one LVM volume group, and image files."""

from __future__ import annotations

import shlex

from .guest_config import Disk
from .host import Host

GROUP = "labvg"
# In dom0's root, so that all of it is in the machine's kept states.
FOLDER = "/var/lib/lab-storage"


class Storage:
    """A host's volume group, on a sparse file behind a loop device."""

    def __init__(self, host: Host, mib: int = 256):
        self.host = host
        host.run(f"""set -e
            modprobe -a loop dm-mod
            mkdir -p {FOLDER}
            truncate -s {mib}M {FOLDER}/group
            vgcreate -q {GROUP} $(losetup -f --show {FOLDER}/group)""")

    def volume(self, name: str, mib: int, vdev: str = "xvda") -> Disk:
        """A logical volume, of zeroes unless an earlier one was there."""
        self.host.run(f"lvcreate -q -y -Wn -Zn -L {mib}M -n {shlex.quote(name)} {GROUP}")
        return Disk(f"/dev/{GROUP}/{name}", vdev)

    def image(self, name: str, mib: int, vdev: str = "xvda") -> Disk:
        """A sparse file, for which Xen's hotplug script makes a loop device."""
        path = f"{FOLDER}/{name}.img"
        self.host.run(f"truncate -s {mib}M {shlex.quote(path)}")
        return Disk(path, vdev)

    def take_down(self) -> None:
        """When no guest uses it any more. A host that is made anew has nothing of it."""
        self.host.run(f"""set -e
            vgremove -q -ff -y {GROUP}
            losetup -j {FOLDER}/group | cut -d: -f1 | xargs losetup -d
            rm -r {FOLDER}""")


def left_on(host: Host) -> str:
    """The loop devices and the device mapper's that a host has: nothing, where all was taken down."""
    return host.run("losetup -a; dmsetup ls 2>&1 | grep -v 'No devices found' || true").stdout.strip()
