"""xl and libxl-save-helper with the series of patches/, out of Debian's source package; kept in a cache outside the
repository.

Only the two programs are compiled, against the machine's libxen-dev: nothing is configured, no library is built.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path

from .host import Host
from .images import debian_sources
from .shell import LabError, run, say

PATCHES = Path(__file__).resolve().parents[3] / "patches"
CACHE = Path(os.environ.get("ROMULUS_PATCHED_XEN_CACHE", "/var/cache/romulus-patched-xen"))
# Where the pair is on the lab's hosts, beside the stock one.
FOLDER = "/usr/lib/xen-patched/bin"
# The Xen that the series is for, and the Debian that has it. The first one is the lab's, and is compiled.
RELEASES = {"4.17": "bookworm", "4.20": "trixie"}

# What Xen's configure finds out, as Debian has it.
CONFIGURED = """\
#define HAVE_YAJL_YAJL_VERSION_H 1
#define XEN_CONFIG_DIR "/etc/xen"
#define XEN_LOCK_DIR "/var/lock"
#define XEN_SCRIPT_DIR "/etc/xen/scripts"
#define XEN_DUMP_DIR "/var/lib/xen/dump"
#define XENFIRMWAREDIR "/usr/lib/xen-4.17/boot"
"""
FLAGS = "-O2 -std=gnu99 -Wall -Werror -Wno-unused-but-set-variable -D__XEN_TOOLS__ -include configured.h -I.".split()


def prepare() -> Path:
    """A folder with `xl` and `libxl-save-helper`; made, and the series tried on every release, when it is missing. A mirror
    may have no source of the other release, whatever its lists say: that is said each time, and no fault of the series."""
    folder = CACHE / _key()
    complete = folder / "complete"
    if not complete.exists():
        say(f"applying patches/ and compiling xl and its save helper in {folder} (a minute, once)")
        for old in CACHE.glob("[0-9a-f]" * 16):
            shutil.rmtree(old)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        ours, *others = RELEASES
        archives = _Archives()
        _apply(archives.fetched(ours), folder / "source")
        _compile(folder / "source", folder)
        untried = []
        for release in others:
            try:
                archive = archives.fetched(release)
            except LabError as error:
                untried.append(f"patches/ could NOT be tried on Xen {release}: {error}\n")
            else:
                _apply(archive, folder / f"xen-{release}")
                shutil.rmtree(folder / f"xen-{release}")
        shutil.rmtree(folder / "source")
        complete.write_text("".join(untried))
    for line in complete.read_text().splitlines():
        say(line)
    return folder


def install(host: Host) -> None:
    programs = prepare()
    host.run(f"mkdir -p {FOLDER}")
    for name in ("xl", "libxl-save-helper"):
        host.put(programs / name, f"{FOLDER}/{name}")


def remove(host: Host) -> None:
    host.run(f"rm -r {FOLDER}")


def series() -> list[Path]:
    return sorted(PATCHES.glob("[0-9]*.patch"))


def _key() -> str:
    digest = hashlib.sha256()
    for path in [*series(), Path(__file__)]:
        digest.update(path.name.encode() + path.read_bytes())
    digest.update(run("dpkg-query", "-W", "-f", "${Version}", "libxen-dev").stdout.encode())
    return digest.hexdigest()[:16]


class _Archives:
    """Xen as its project has released it, from Debian's source packages: by an apt of our own settings, so that the
    machine's need not know of sources or of another release."""

    def __init__(self) -> None:
        self.folder = CACHE / "sources"
        lists = self.folder / "lists"
        (lists / "partial").mkdir(parents=True, exist_ok=True)
        sources = self.folder / "sources.list"
        sources.write_text("".join(f"deb-src {site} {suite} main\n" for site, suite in self._sites()))
        self._settings = [
            "-o", f"Dir::Etc::SourceList={sources}", "-o", "Dir::Etc::SourceParts=/dev/null", "-o",
            f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={self.folder}"]
        run("apt-get", *self._settings, "update", "-qq")

    @staticmethod
    def _sites() -> list[tuple[str, str]]:
        own = sorted({(site, suite) for site, suite, component in debian_sources() if component == "main"})
        main = next(site for site, suite in own if suite == "bookworm")
        return own + [(main, suite) for suite in RELEASES.values() if suite != "bookworm"]

    def fetched(self, release: str) -> Path:
        """The newest that can be had: a mirror may lack what its lists name."""
        versions = self._versions(release)
        for version in versions:
            result = run(
                "apt-get", *self._settings, "source", "-qq", "--download-only", "--tar-only", f"xen={version}",
                check=False, cwd=self.folder)
            archive = self.folder / f"xen_{version.rsplit('-', 1)[0]}.orig.tar.xz"
            if result.returncode == 0 and archive.exists():
                say(f"Xen {release}: {version}")
                return archive
            say(f"Xen {release}: the mirror does not have {version}'s source")
        raise LabError(
            f"no source of Xen {release} can be had (known: {', '.join(versions) or 'none'}): check that the Debian"
            f" mirror has sources of {RELEASES[release]}")

    def _versions(self, release: str) -> list[str]:
        known = run("apt-cache", *self._settings, "showsrc", "--only-source", "xen").stdout
        versions = set(re.findall(rf"^Version: ({re.escape(release)}\..*)$", known, re.MULTILINE))
        return sorted(versions, key=lambda one: [int(word) for word in re.findall(r"\d+", one)[:4]], reverse=True)


def _unpack(archive: Path, folder: Path) -> None:
    folder.mkdir()
    run("tar", "-C", folder, "--strip-components=1", "-xf", archive, "--wildcards", "*/tools/*", "*/docs/man/*")


def _apply(archive: Path, source: Path) -> None:
    """The source with the series, each patch as it stands."""
    _unpack(archive, source)
    for patch in series():
        with open(patch) as text:
            run("patch", "-d", source, "-p1", "--fuzz=0", "--no-backup-if-mismatch", stdin=text)


def _compile(source: Path, folder: Path) -> None:
    xl, light = source / "tools/xl", source / "tools/libs/light"
    for tree in (xl, light):
        (tree / "configured.h").write_text(CONFIGURED)
    headers = f"-I{source / 'tools/include'}"
    # Of tools/include only what libxen-dev lacks.
    for path in (source / "tools/include").iterdir():
        if path.name != "xen-tools":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    run("gcc", *FLAGS, headers, "-o", folder / "xl", *sorted(path.name for path in xl.glob("*.c")),
        "-lxlutil", "-lxenlight", "-lxentoollog", "-lyajl", "-ldl", cwd=xl)
    stubs = "_libxl_save_msgs_helper"
    for name in (f"{stubs}.c", f"{stubs}.h"):
        (light / name).write_text(run("perl", "-w", "libxl_save_msgs_gen.pl", name, cwd=light).stdout)
    run("gcc", *FLAGS, headers, "-o", folder / "libxl-save-helper", "libxl_save_helper.c", f"{stubs}.c",
        "-lxentoollog", "-lxenctrl", "-lxenguest", "-ldl", cwd=light)
