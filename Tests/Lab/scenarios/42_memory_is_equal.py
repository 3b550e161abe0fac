"""PVH and HVM guests fail over, one for a link that is cut, the other for a device model that is killed: at the epoch's boundary
the replica's memory is the guest's, page for page."""

import struct

from romlab.catalogue import BACKUP_GONE, HEARD_AGAIN, PRIMARY, PRIMARY_GONE, STALE_BUFFER, destroyed, failover, frozen
from romlab.checks import wait_one_copy
from romlab.shell import say, wait_for

LONGEST_SECONDS = 900
EPOCHS = 2
# Where Debian's kernel has Xen's shared_info page: the hypervisor's own, with its clock, made anew on every host.
SHARED_INFO = 0x10
SAVE_FAILED = r"checkpointing failed \(the guest's device model has died\)"
# While the witness reads memory, its host has hardly time for anything else.
SLOW = (PRIMARY + r"warning: the guest has not suspended for 10 s \(.*\): protection ends after 30 s$", HEARD_AGAIN)
# The first guest's run ends with its host's domains, as the lab cleans up.
EXPECTS = (
    *SLOW, frozen(BACKUP_GONE), failover(PRIMARY_GONE), STALE_BUFFER, destroyed(SAVE_FAILED, "it cannot go on here"),
    failover(SAVE_FAILED + ", and the guest cannot go on at the primary"))


def run(lab):
    compare(lab, lab.pvh, 2, "compile", cut)
    compare(lab, lab.hvm, 2, "none", kill_device_model)


def cut(lab, guest):
    lab.network.set_replication(False)


def kill_device_model(lab, guest):
    lab.a.run(f"kill -9 $(xenstore-read /local/domain/$(xl domid {guest.name})/image/device-model-pid)")


def compare(lab, kind, vcpus, work, fault):
    # Not guest_on(): a guest that an earlier scenario has left there has another number of vCPUs.
    lab.reset()
    guest = kind.with_(vcpus=vcpus)
    lab.create(guest, lab.a)
    # Above the guest's RAM are the rings that dom0 writes to, and grant table frames, which are the hypervisor's too.
    ram = kind.memory_mib << 8
    for host in lab.hosts:
        # The witness reads all of the guest's memory in each epoch, and little else runs on an emulated host then.
        lab.install_settings(host, detect_timeout_ms=10000)
        host.run("mkdir -p /tmp/witness; echo /usr/lib/lab-witness.so >/etc/ld.so.preload")
    try:
        guest.ask("dirty 8")
        protection = lab.start_protection(guest).wait_protected(240)
        # Not before: for a first copy it leaves an emulated host's dom0 hardly any time.
        guest.ask(f"work {work}", 30)
        # What comes for a guest that stands still, dom0 writes into its memory: until the question's connection has been
        # taken down, which takes an epoch for each of the guest's packets, there is something to come.
        protection.wait_epochs(4, 120)
        # What it gets back is filled where it works.
        if work != "none":
            balloon(lab, guest, protection)
        for host in lab.hosts:
            host.run(f"echo {ram} >/tmp/witness/pages")
        wait_for("the witness to have seen epochs", lambda: epochs_seen(lab) >= EPOCHS, 180, 1)
        fault(lab, guest)
        assert wait_one_copy(lab, guest) == "b"
        found = wait_for("the failover line", lambda: epoch_of_failover(lab), 30)
        before, after = memory(lab.a, f"epoch-{found}"), memory(lab.b, "replica")
    finally:
        for host in lab.hosts:
            if host.is_on():
                host.run("rm -rf /etc/ld.so.preload /tmp/witness", False)
    different = [number for number in range(ram) if before[number] != after[number] and number != SHARED_INFO]
    present = sum(1 for page in before if page)
    say(f"  {kind.name}, {vcpus} vCPUs, work {work}: epoch {found}, {present} pages, {len(different)} different")
    assert present > ram * 0.9, "the witness saw hardly any memory"
    assert not different, f"pages differ: {[hex(number) for number in different[:20]]}"


def balloon(lab, guest, protection):
    """Pages that the guest gives back and takes again, while its work fills what there is."""
    for mib in (kept := guest.memory_mib) - 24, kept:
        lab.a.run(f"xl mem-set {guest.name} {mib}")
        protection.wait_epochs(3, 120)


def epochs_seen(lab):
    return lab.a.run("ls /tmp/witness").stdout.count("epoch-")


def epoch_of_failover(lab):
    lines = lab.b.run("grep -o 'going on from epoch [0-9]*' /var/log/messages", False).stdout.split()
    return int(lines[-1]) if lines else None


def memory(host, name):
    """As witness.c writes it."""
    raw = host.fetch(f"/tmp/witness/{name}")
    return struct.unpack(f"<{len(raw) // 8}Q", raw)
