"""Romulus's Debian packages on the hosts, and what they leave of xl."""

from __future__ import annotations

from pathlib import Path

from .host import Host
from .shell import run

REPOSITORY = Path(__file__).resolve().parents[3]
BUILT = REPOSITORY / "build/deb"
# Where a host has them, to be installed again.
FOLDER = "/root/packages"
NAMES = "romulus romulus-tools"
LAUNCHER = "/usr/lib/romulus/xl"
STOCK_XL = "../lib/xen-common/bin/xen-utils-wrapper"


def make() -> None:
    run("make", "-C", REPOSITORY, "deb", timeout=1800)


def put(host: Host) -> None:
    host.put_archive(BUILT, [path.name for path in sorted(BUILT.glob("romulus*_amd64.deb"))], FOLDER)


def install(host: Host) -> None:
    """As an admin does who has no repository; what they depend on is in the hosts' image."""
    host.run(f"dpkg --install {FOLDER}/*.deb", timeout=180)


def xl_leads_to(host: Host) -> str:
    return host.run("readlink /usr/sbin/xl").stdout.strip()


def assert_active(host: Host) -> None:
    assert xl_leads_to(host) == LAUNCHER, f"xl leads to {xl_leads_to(host)}"
    assert "Domain-0" in host.run("xl list").stdout


def assert_stock(host: Host) -> None:
    """xl is as Debian's package has it."""
    assert xl_leads_to(host) == STOCK_XL, f"xl leads to {xl_leads_to(host)}"
    # The lab's images have no documentation, which dpkg would miss.
    traces = host.run("dpkg-divert --list '*/xl*'; dpkg -V xen-utils-common | grep -v /usr/share/ || true").stdout
    assert not traces.strip(), f"the package is not as it was: {traces}"
    assert "Domain-0" in host.run("xl list").stdout
