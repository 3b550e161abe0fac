"""What a guest is, as data, and the text that `xl create` reads."""

from __future__ import annotations

from dataclasses import dataclass, field

from .network import VIFS
from .shell import LabError

# Where dom0 has what guests boot from, and their configurations.
FOLDER = "/guest"
_KERNEL_OPTIONS = "console=hvc0 loglevel=5 nokaslr mitigations=off panic=5"
_OWN_KERNEL = {"kernel": f"{FOLDER}/vmlinux", "ramdisk": f"{FOLDER}/initrd"}
# As on a processor whose TSC is invariant: else Xen emulates each reading of it, and emulated twice that is slow.
_OWN_TSC = {"tsc_mode": "native"}
# What all guests of a kind have, as xl.cfg(5) names it.
KINDS = {
    "pvh": {**_OWN_KERNEL, "extra": f"{_KERNEL_OPTIONS} ip=none", **_OWN_TSC},
    # Debian's Xen cannot protect it.
    "pv": {**_OWN_KERNEL, "extra": _KERNEL_OPTIONS},
    "hvm": {
        **_OWN_TSC, "device_model_version": "qemu-xen", "vga": "none", "nographic": 1,
        # The disk that its firmware boots, and nobody reads after that or ever writes: each host has the same, and all
        # its guests, so QEMU must not lock it. A kernel handed to the device model would cross its ports byte by byte,
        # which takes a minute here.
        "device_model_args_hvm": [
            "-drive", f"file={FOLDER}/hvm.img,file.locking=off,format=raw,if=none,id=boot", "-device", "ahci,id=ahci",
            "-device", "ide-hd,drive=boot,bus=ahci.0"]},
}


@dataclass(frozen=True)
class Disk:
    """Of a guest: what storage.py has made on its host, and what it is called in the guest."""
    target: str
    vdev: str = "xvda"
    access: str = "rw"

    def __str__(self) -> str:
        return f"format=raw,vdev={self.vdev},access={self.access},target={self.target}"


@dataclass(frozen=True)
class GuestConfig:
    """The number tells guests apart: it is the end of their MACs and so of their addresses, by which guest/init sets
    them up. `settings` are further ones as xl.cfg(5) names them; they come last, and win."""
    kind: str
    name: str
    number: int
    # With less, Debian's kernel runs out of it now and then when its network devices come back on another host.
    memory_mib: int = 160
    vcpus: int = 1
    vifs: int = 1
    disks: tuple[Disk, ...] = ()
    on_crash: str = "destroy"
    settings: dict[str, object] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise LabError(f"guest {self.name}: no kind is called {self.kind} ({', '.join(KINDS)})")
        if not 100 <= self.number < 200:
            raise LabError(f"guest {self.name}: its number is {self.number}, not one of 100 to 199")
        if not 1 <= self.vifs <= VIFS:
            raise LabError(f"guest {self.name}: {self.vifs} vifs, where the lab has networks for 1 to {VIFS}")

    @property
    def path(self) -> str:
        """On a host that it was put on."""
        return f"{FOLDER}/{self.name}.cfg"

    def mac(self, vif: int = 0) -> bytes:
        return bytes((0x00, 0x16, 0x3E, 0x77, vif, self.number))

    def __str__(self) -> str:
        """As xl's configuration files have it."""
        settings = {
            "name": self.name, "type": self.kind, "memory": self.memory_mib, "vcpus": self.vcpus,
            "on_crash": self.on_crash, "vif": [
                f"mac={self.mac(vif).hex(':')},bridge=xenbr0" for vif in range(self.vifs)],
            "disk": [str(disk) for disk in self.disks], **KINDS[self.kind], **self.settings}
        return "\n".join(f"{name} = {as_setting(value)}" for name, value in settings.items())


def as_setting(value: object) -> str:
    """As xl's configuration files and romulus.conf have it."""
    if isinstance(value, (list, tuple)):
        return f"[ {', '.join(map(as_setting, value))} ]"
    return f'"{value}"' if isinstance(value, str) else str(value)
