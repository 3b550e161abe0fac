"""What the hosts and guests boot from, made out of Debian's packages and kept in a cache outside the repository.

Nothing here needs a loop device or a running Xen: debootstrap makes a root, mke2fs -d makes an image of it.
"""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
import shutil
import subprocess
import zlib
from pathlib import Path

from . import releases
from .releases import Release
from .shell import LabError, run, say

HERE = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("ROMULUS_LAB_CACHE", "/var/cache/romulus-lab"))

# Directories of the kernel's modules that a dom0 of the lab, or a guest, may ask for.
MODULE_DIRECTORIES = (
    "kernel/drivers/block kernel/drivers/net/xen-netback kernel/drivers/net/virtio_net.ko kernel/drivers/net/tun.ko"
    " kernel/drivers/net/ifb.ko kernel/drivers/net/net_failover.ko kernel/drivers/net/xen-netfront.ko"
    " kernel/drivers/xen kernel/drivers/virtio kernel/drivers/md kernel/net/bridge kernel/net/802 kernel/net/llc"
    " kernel/net/sched kernel/net/ipv6 kernel/net/core kernel/fs/ext4 kernel/fs/jbd2 kernel/fs/mbcache.ko kernel/lib"
    " kernel/crypto kernel/arch/x86/crypto kernel/drivers/net/veth.ko").split()

# What agent/domains.c is linked with, and what that is.
AGENT_LIBRARIES = [f"-lxen{name}" for name in (
    "ctrl", "store", "foreignmemory", "gnttab", "evtchn", "devicemodel", "call", "toollog", "toolcore")]


class Images:
    """Paths of what has been made."""

    def __init__(self, folder: Path):
        self.xen = folder / "xen"
        self.kernel = folder / "vmlinux"
        self.bzimage = folder / "vmlinuz"
        self.initrd = folder / "dom0-initrd"
        self.root = folder / "dom0.ext4"
        self.guest_initrd = folder / "guest-initrd"
        self.key = CACHE / "key"


def prepare() -> Images:
    """Images for the present state of the provisioning files and of Debian's packages; made when they are missing."""
    release = releases.wanted()
    folder = CACHE / f"{release.suite}-{_key(release)}"
    if not (folder / "complete").exists():
        say(f"making the lab's images in {folder} (about two minutes, once)")
        _forget_old(release)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _make(release, folder, Images(folder))
        (folder / "complete").touch()
    images = Images(folder)
    if own := os.environ.get("ROMULUS_LAB_XEN"):
        images.xen = _own_hypervisor(Path(own))
    return images


def _forget_old(release: Release) -> None:
    """Keeps the two newest sets of each release: a branch and its base may take turns."""
    sets = [path for path in _made_for(release, "*") if path.is_dir()]
    for path in sorted(sets, key=lambda path: path.stat().st_mtime)[:-1]:
        shutil.rmtree(path, ignore_errors=True)


def _made_for(release: Release, pattern: str) -> list[Path]:
    """What the cache has that is no other release's."""
    others = [suite for suite in releases.RELEASES if suite != release.suite]
    return [path for path in CACHE.glob(pattern) if not any(suite in path.name for suite in others)]


def _own_hypervisor(file: Path) -> Path:
    """One of the user's own build in place of Debian's, as Xen's build leaves it: boots with the same images. A copy,
    because a run's hosts boot again and again, and must not meet another build."""
    try:
        program = file.read_bytes()
        program = gzip.decompress(program) if program.startswith(b"\x1f\x8b") else program
    except (OSError, EOFError, zlib.error) as error:
        raise LabError(f"ROMULUS_LAB_XEN={file}: {error}") from error
    # A 32-bit file is all that QEMU loads.
    if not program.startswith(b"\x7fELF\x01"):
        raise LabError(f"ROMULUS_LAB_XEN={file} is no hypervisor to boot: name Xen's `xen` or `xen.gz`")
    kept = CACHE / f"own-xen-{hashlib.sha256(program).hexdigest()[:16]}"
    if not kept.exists():
        for old in CACHE.glob("own-xen-*"):
            old.unlink()
        kept.with_suffix(".new").write_bytes(program)
        kept.with_suffix(".new").rename(kept)
    say(f"the hypervisor is {file}")
    return kept


def _key(release: Release) -> str:
    digest = hashlib.sha256()
    folders = [HERE / name for name in ("provision", "guest", "witness", "agent")]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    for path in sorted([*files, Path(__file__), Path(releases.__file__)]):
        digest.update(str(path.relative_to(HERE)).encode() + path.read_bytes())
    for package in (release.kernel, release.hypervisor, release.tools):
        digest.update(_candidate(package).encode())
    return digest.hexdigest()[:16]


def _candidate(package: str) -> str:
    for attempt in range(2):
        for line in run("apt-cache", "policy", package).stdout.splitlines():
            if line.strip().startswith("Candidate:") and not line.endswith("(none)"):
                return line.split()[-1]
        if attempt == 0:
            run("apt-get", "update", "-qq")
    raise LabError(f"apt knows no package {package}: run apt-get update, and check that this machine's Debian is the one"
                   " that the lab is made of")


def _make(release: Release, folder: Path, images: Images) -> None:
    work = folder / "work"
    root = work / "root"
    work.mkdir()
    boot = _unpack_boot_packages(release, work)
    _base_root(release, root, work)
    say("kernel, hypervisor, initramfs")
    images.xen.write_bytes(gzip.decompress((boot / release.hypervisor_file).read_bytes()))
    vmlinuz = next(boot.glob("boot/vmlinuz-*-amd64"))
    shutil.copy(vmlinuz, images.bzimage)
    images.kernel.write_bytes(_vmlinux(vmlinuz.read_bytes()))
    version = vmlinuz.name.removeprefix("vmlinuz-")
    _copy_modules(boot, root, version)
    _initramfs(images.initrd, work / "initrd", root, version, HERE / "provision/initramfs-init", [
        "virtio_pci", "virtio_blk", "ext4", "crc32c_generic"], [])
    guest = work / "guest"
    run("gcc", "-O2", "-Wall", "-Werror", "-static", "-pthread", "-o", guest, *sorted((HERE / "guest").glob("*.c")))
    _initramfs(images.guest_initrd, work / "guest-initrd", root, version, HERE / "guest/init", [
        "xen-netfront", "xen-blkfront"], [guest])
    _finish_root(root, images)
    run("gcc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", root / "usr/lib/lab-witness.so",
        HERE / "witness/witness.c")
    run("gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-pthread", "-o", root / "usr/sbin/lab-agent",
        *sorted((HERE / "agent").glob("*.c")), *AGENT_LIBRARIES)
    say("dom0's image")
    _mkimage(root, images.root)
    shutil.rmtree(work)


def _unpack_boot_packages(release: Release, work: Path) -> Path:
    downloads, boot = work / "debs", work / "boot"
    downloads.mkdir()
    boot.mkdir()
    depends = run("apt-cache", "depends", release.kernel).stdout
    kernel = next(word for word in depends.split() if word.startswith(release.kernel_prefix))
    run("apt-get", "download", kernel, release.hypervisor, cwd=downloads,
        env={**os.environ, "APT_CONFIG": ""})
    for package in downloads.glob("*.deb"):
        run("dpkg-deb", "-x", package, boot)
    return boot


def _base_root(release: Release, root: Path, work: Path) -> None:
    """Debian with dom0's packages, kept apart: it depends on nothing of ours but the list."""
    digest = hashlib.sha256(" ".join(release.dom0_packages).encode())
    for package in (release.tools, "openssh-server", "qemu-system-xen", "base-files"):
        digest.update(_candidate(package).encode())
    kept = CACHE / f"base-{release.suite}-{digest.hexdigest()[:16]}.tar"
    if not kept.exists():
        for old in _made_for(release, "base-*.tar"):
            old.unlink()
        say("debootstrap")
        _debootstrap(release, root)
        run("tar", "-C", root, "-cf", kept.with_suffix(".new"), ".")
        kept.with_suffix(".new").rename(kept)
    else:
        root.mkdir()
        run("tar", "-C", root, "-xf", kept)


def debian_sources(release: Release = releases.BOOKWORM) -> list[tuple[str, str, str]]:
    """The machine's own Debian mirror: site, suite, component."""
    listing = run(
        "apt-get", "indextargets", "--format", "$(SITE) $(RELEASE) $(COMPONENT)", "Created-By: Packages").stdout
    sources = sorted({tuple(line.split()) for line in listing.splitlines() if len(line.split()) == 3})
    return [source for source in sources if source[1].startswith(release.suite)]


def _debootstrap(release: Release, root: Path) -> None:
    sources = debian_sources(release)
    main = next((site for site, suite, _ in sources if suite == release.suite), None)
    if main is None:
        raise LabError(f"the machine's apt sources name no {release.suite} mirror")
    run("debootstrap", "--variant=minbase", "--include=ca-certificates", release.suite, root, main, timeout=900)
    lines = [f"deb [trusted=yes] {site} {suite} {component}" for site, suite, component in sources]
    (root / "etc/apt/sources.list").write_text("\n".join(lines) + "\n")
    for settings in Path("/etc/apt/apt.conf.d").glob("99*"):
        shutil.copy(settings, root / "etc/apt/apt.conf.d")
    (root / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n")
    (root / "usr/sbin/policy-rc.d").chmod(0o755)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    run("chroot", root, "apt-get", "update", "-qq", env=environment)
    say("dom0's packages")
    run("chroot", root, "apt-get", "install", "-y", "-qq", "--no-install-recommends", *release.dom0_packages,
        env=environment, timeout=900)
    for part in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"):
        shutil.rmtree(root / part, ignore_errors=True)


def _vmlinux(bzimage: bytes) -> bytes:
    """The ELF kernel inside a bzImage: boots faster than the compressed one, and PVH needs it."""
    offset = bzimage.find(b"\xfd7zXZ\x00")
    if offset < 0:
        raise LabError("the kernel is not xz-compressed, as Debian's is")
    decompressor = lzma.LZMADecompressor()
    return decompressor.decompress(bzimage[offset:])


def _copy_modules(boot: Path, root: Path, version: str) -> None:
    source = next(boot.glob(f"**/lib/modules/{version}"))
    target = root / "lib/modules" / version
    target.mkdir(parents=True)
    for name in MODULE_DIRECTORIES:
        path = source / name
        if path.is_dir():
            shutil.copytree(path, target / name, dirs_exist_ok=True)
        elif path.exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target / name)
    for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        shutil.copy(source / name, target)
    run("depmod", "-b", root, version)


def _initramfs(output: Path, folder: Path, root: Path, version: str, init: Path, modules: list[str],
               programs: list[Path]) -> None:
    """busybox, an /init, and the named modules in the order in which they must be loaded."""
    for name in ("bin", "proc", "sys", "dev", "modules", "mnt"):
        (folder / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", folder / "bin/busybox")
    shutil.copy(init, folder / "init")
    (folder / "init").chmod(0o755)
    for program in programs:
        shutil.copy(program, folder / "bin")
    order: list[str] = []
    for module in modules:
        shown = run("modprobe", "-d", root, "-S", version, "--show-depends", module).stdout
        for line in shown.splitlines():
            words = line.split()
            if words[0] == "insmod" and words[1] not in order:
                order.append(words[1])
    for index, path in enumerate(order):
        shutil.copy(path, folder / "modules" / f"{index:02}-{Path(path).name}")
    names = "\n".join(str(path.relative_to(folder)) for path in sorted(folder.rglob("*")))
    archive = subprocess.run(
        ["cpio", "-o", "-H", "newc", "--quiet"], input=names.encode(), stdout=subprocess.PIPE, check=True, cwd=folder)
    output.write_bytes(gzip.compress(archive.stdout, 1))


def _finish_root(root: Path, images: Images) -> None:
    """The lab's own files in dom0: init, ssh, and what guests boot from."""
    shutil.copytree(HERE / "provision/root", root, dirs_exist_ok=True)
    for program in ("sbin/lab-init", "usr/sbin/fence_lab", "usr/sbin/lab-run"):
        (root / program).chmod(0o755)
    guests = root / "guest"
    guests.mkdir()
    shutil.copy(images.kernel, guests / "vmlinux")
    shutil.copy(images.guest_initrd, guests / "initrd")
    _boot_disk(guests, images)
    _make_keys(root, images)


def _boot_disk(guests: Path, images: Images) -> None:
    """What HVM guests boot from: FAT with syslinux, and what its configuration names."""
    disk = guests / "hvm.img"
    run("mkfs.vfat", "-F", "16", "-C", disk, str(16 << 10))
    run("mcopy", "-i", disk, images.bzimage, guests / "initrd", HERE / "provision/syslinux.cfg", "::")
    run("syslinux", "--install", disk)


def _make_keys(root: Path, images: Images) -> None:
    """One key opens both hosts, to the lab and to each other, and is their host key too: made here, never shipped."""
    if not images.key.exists():
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "romulus-lab", "-f", images.key)
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    host_key = root / "etc/ssh/ssh_host_ed25519_key"
    shutil.copy(images.key, host_key)
    host_key.chmod(0o600)
    home = root / "root/.ssh"
    home.mkdir(mode=0o700, exist_ok=True)
    shutil.copy(images.key, home / "id_ed25519")
    (home / "id_ed25519").chmod(0o600)
    shutil.copy(f"{images.key}.pub", home / "authorized_keys")
    public = Path(f"{images.key}.pub").read_text()
    (home / "known_hosts").write_text("".join(f"{name} {public}" for name in ("hosta,10.79.0.1", "hostb,10.79.0.2")))


def _mkimage(root: Path, image: Path) -> None:
    used = int(run("du", "-sm", "--apparent-size", root).stdout.split()[0])
    with open(image, "wb") as file:
        # What scenarios write: a guest's memory, twice.
        file.truncate((used + used // 4 + 500) << 20)
    run("mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d", root, image)
