"""Guests of different make run side by side, answer at all their addresses, and find on their disks what they wrote."""

import socket

from romlab.shell import run as run_here, wait_for
from romlab.storage import Storage, left_on

VCPUS = 4
VOLUME_MIB, IMAGE_MIB = 32, 16


def run(lab):
    lab.reset()
    storage = Storage(lab.a)
    large = lab.guest("pvh", "large", 110, vcpus=VCPUS, vifs=2, disks=(
        storage.volume("large", VOLUME_MIB, "xvda"), storage.image("large", IMAGE_MIB, "xvdb")))
    small = lab.guest("pvh", "small", 111)
    for guest in (large, small):
        lab.create(guest, lab.a)

    for guest in (large, small):
        for one in guest.at_all:
            answers(lab, one)
    online = int(lab.a.run("xl list large | tail -n 1").stdout.split()[3])
    assert online == VCPUS, f"{online} processors are online"
    assert small.ask("disks") == "none"
    keeps_what_is_written(large)

    lab.a.run("xl destroy large & xl destroy small; wait")
    storage.take_down()
    assert not lab.a.domains()
    assert not left_on(lab.a), f"left on host a:\n{left_on(lab.a)}"


def answers(lab, guest):
    """By both families, and from the interface whose address it is."""
    for family in (socket.AF_INET, socket.AF_INET6):
        assert int(guest.ask("counter", family=family)) > 0
        known = run_here(*lab.network.inside("ip", "neighbour", "show", guest.address_in(family))).stdout
        assert guest.mac.hex(":") in known, f"guest {guest.name} answers elsewhere: {known}"


def keeps_what_is_written(guest):
    expected = f"xvda:{VOLUME_MIB << 20} xvdb:{IMAGE_MIB << 20}"
    wait_for(f"the guest to see {expected}", lambda: guest.ask("disks") == expected, 20)
    for disk, seed in (("xvda", 1), ("xvdb", 2)):
        assert guest.ask(f"disk check {disk} {seed}", 30).startswith("BAD"), "it was there before it was written"
        written = guest.ask(f"disk write {disk} {seed}", 30)
        assert written == "OK", f"{disk}: {written}"
    for disk, seed in (("xvda", 1), ("xvdb", 2)):
        found = guest.ask(f"disk check {disk} {seed}", 30)
        assert found == "OK", f"{disk}: {found}"
