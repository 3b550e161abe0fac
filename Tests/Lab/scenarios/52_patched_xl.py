"""A Xen with patches/ needs no preload: its xl loads Romulus, a power cut is survived; else it is as stock xl."""

from romlab import patched
from romlab.catalogue import FAREWELL, NO_KEEPER, PRIMARY, PRIMARY_SILENT, discarded, failover
from romlab.checks import assert_answers, assert_goes_on, assert_preload_is_contained, wait_gone
from romlab.guest import Prober
from romlab.protection import watch_failover

LONGEST_SECONDS = 800
# A machine that builds besides may take minutes for a first copy.
PATIENCE = 240
XL = f"{patched.FOLDER}/xl"
# libxl has the stock helper's path compiled in.
WITH_HELPER = f"env LIBXL_SAVE_HELPER={patched.FOLDER}/libxl-save-helper {XL}"
# Calls the patched xl on the other side, where `xl` is still Debian's; takes what xl remus gives to ssh.
TRANSPORT = f"{patched.FOLDER}/ssh"
EXPECTS = (
    NO_KEEPER,
    PRIMARY + r"error: checkpointing failed \(the save helper knows nothing of Romulus; .*"
    r"(its replica is discarded|there was no complete replica)$",
    # Stock's helper, which Romulus takes the stream away from.
    r"save/restore helper \[\d+\] died due to fatal signal Broken pipe$",
    discarded(FAREWELL + "checkpointing failed: the save helper knows nothing of Romulus; .*"), failover(PRIMARY_SILENT))


def run(lab):
    guest = lab.guest_on(lab.pvh, lab.a)
    for host in lab.hosts:
        host.run("romulus-deactivate")
        patched.install(host)
    lab.a.write(TRANSPORT, f'#!/bin/sh\nhost=$1\nshift 2\nexec ssh "$host" {WITH_HELPER} "$@"')
    lab.a.run(f"chmod 755 {TRANSPORT}")

    _is_stock(lab, guest)
    _set_extension(lab, "/nowhere/libromulus.so.0")
    missing = _start(lab, guest)
    missing.wait_text("cannot load remus.extension: /nowhere/libromulus.so.0: .*install it, or take it out of", 60)
    assert missing.wait_end(10) != 0
    assert_goes_on(lab, guest, "a")

    _set_extension(lab, "/usr/lib/romulus/libromulus.so.0")
    assert "guest" in lab.a.run(f"{WITH_HELPER} list").stdout
    half = _start(lab, guest, xl=XL)
    half.wait_text("the save helper knows nothing of Romulus", PATIENCE)
    half.wait_end(PATIENCE)
    assert_goes_on(lab, guest, "a")
    wait_gone(lab.b, "guest--incoming")

    _survives_power_cut(lab, guest)
    _set_extension(lab, None)
    patched.remove(lab.b)
    lab.b.run("romulus-activate")


def _start(lab, guest, xl=WITH_HELPER):
    return lab.start_protection(guest, "-s", TRANSPORT, xl=xl)


def _set_extension(lab, path):
    for host in lab.hosts:
        if host.is_on():
            added = f"; echo 'remus.extension=\"{path}\"' >>/etc/xen/xl.conf" if path else ""
            host.run(f"sed -i /^remus.extension/d /etc/xen/xl.conf{added}")


def _is_stock(lab, guest):
    """Without an extension the patched pair does what stock's does, and nothing of Romulus is loaded."""
    assert "guest" in lab.a.run(f"{WITH_HELPER} list").stdout
    lab.a.run(f"{WITH_HELPER} save guest /tmp/guest.save", timeout=120)
    assert not lab.a.domains()
    lab.a.run(f"{WITH_HELPER} restore /tmp/guest.save; rm /tmp/guest.save", timeout=120)
    assert_answers(guest)
    assert guest.ask("check", 30) == "OK"
    for host in lab.hosts:
        assert_preload_is_contained(host, allowed=())


def _survives_power_cut(lab, guest):
    protection = _start(lab, guest).wait_protected(PATIENCE)
    guest.ask("dirty 8")
    with Prober(guest) as prober:
        protection.wait_epochs(4, PATIENCE)
        for host in lab.hosts:
            assert_preload_is_contained(host)
            _assert_nothing_preloaded(host)
        moment = lab.a.power_cut()
        watch_failover(protection, prober, moment)
        prober.assert_never_ahead()
    assert lab.running_copies("guest") == ["b"]


def _assert_nothing_preloaded(host):
    preloaded = host.run("grep -l LD_PRELOAD /proc/[0-9]*/environ 2>/dev/null", check=False).stdout
    assert not preloaded.strip(), f"on host {host.name} something is preloaded: {preloaded}"
