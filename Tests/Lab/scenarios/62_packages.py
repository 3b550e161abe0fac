"""The packages: settings outlive a reinstallation, a purge leaves stock Xen, an upgrade of Xen leaves the launcher."""

from romlab import packages
from romlab.host import Host

SETTINGS = "/etc/xen/romulus.conf"
ASIDE = "/usr/sbin/xl.romulus-stock"


def run(lab):
    lab.reset()
    host = lab.a
    packages.assert_active(host)
    _settings_are_kept(host)
    _what_the_admin_deactivated_stays_so(host)
    _a_purge_leaves_stock_xen(host)
    packages.install(host)
    packages.assert_active(host)
    assert host.run(f"dpkg --verify {packages.NAMES}").stdout == "", "something is not as it was packed"
    assert "ok" in host.run("romulus test").stdout
    _an_upgrade_of_xen_puts_its_xl_aside(host)
    # Its Xen is not Debian's any more.
    host.power_cut()
    lab.reset()


def _settings_are_kept(host: Host) -> None:
    host.run(f"echo 'detect_timeout_ms = 1234' >{SETTINGS}")
    packages.install(host)
    assert host.run(f"cat {SETTINGS}").stdout == "detect_timeout_ms = 1234\n"
    packages.assert_active(host)


def _what_the_admin_deactivated_stays_so(host: Host) -> None:
    host.run("romulus-deactivate")
    packages.install(host)
    packages.assert_stock(host)
    host.run("romulus-activate")
    packages.assert_active(host)
    diversion = host.run("dpkg-divert --list /usr/sbin/xl").stdout.strip()
    assert diversion == f"diversion of /usr/sbin/xl to {ASIDE} by romulus", diversion


def _a_purge_leaves_stock_xen(host: Host) -> None:
    # What runs leave behind.
    host.run("mkdir -p /run/romulus && touch /run/romulus/guest.primary.lock "
             "/var/log/xen/romulus-events.json /var/log/xen/romulus-events.json.1")
    host.run(f"dpkg --remove {packages.NAMES}", timeout=120)
    packages.assert_stock(host)
    assert host.run(f"cat {SETTINGS}").stdout, "removed without a purge, and yet the settings are gone"
    packages.install(host)
    packages.assert_active(host)

    host.run(f"dpkg --purge {packages.NAMES}", timeout=120)
    packages.assert_stock(host)
    left = host.run("find /usr /etc /run /var -name '*romulus*'").stdout
    assert not left, f"the purge has left\n{left}"
    known = host.run(f"dpkg-query --show {packages.NAMES} 2>/dev/null", check=False).stdout
    assert not known, f"dpkg still knows {known}"


def _an_upgrade_of_xen_puts_its_xl_aside(host: Host) -> None:
    """xen-utils-common packed anew out of its own files, with a later version."""
    host.run(f"""set -e
        new=/root/upgrade
        mkdir -p $new/DEBIAN $new/usr/sbin
        dpkg-query --status xen-utils-common | sed -e '/^Status:/d' -e '/^Conffiles:/,/^[^ ]/{{/^Conffiles:/d;/^ /d}}' \\
            -e 's/^Version: .*/&+upgraded/' >$new/DEBIAN/control
        dpkg-query --listfiles xen-utils-common | grep '^/usr' | while read -r file; do
            if [ -f "$file" ] && [ "$file" != /usr/sbin/xl ]; then cp -P --parents "$file" $new; fi
        done
        cp -P {ASIDE} $new/usr/sbin/xl
        dpkg-deb -Znone --build $new /root/upgrade.deb
        rm {ASIDE}
        dpkg --install /root/upgrade.deb""", timeout=180)
    assert host.run("dpkg-query --show xen-utils-common").stdout.strip().endswith("+upgraded")
    assert host.run(f"readlink {ASIDE}").stdout.strip() == packages.STOCK_XL, "the new xl is not where the old one was"
    packages.assert_active(host)
