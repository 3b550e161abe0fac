"""Plain create, list, save, restore and migrate with Romulus active: as before, and only the xl behind the guest knows of it."""

from romlab.checks import assert_answers, assert_preload_is_contained


def run(lab):
    guest = lab.guest_on(lab.pvh, lab.a)
    assert_preload_is_contained(lab.a, allowed=("xl",))
    lab.a.run("xl save guest /tmp/guest.save", timeout=120)
    assert not lab.a.domains()
    lab.a.run("xl restore /tmp/guest.save", timeout=120)
    assert_answers(guest)
    assert guest.ask("check", 30) == "OK"
    lab.a.run("rm /tmp/guest.save; xl migrate guest hostb", timeout=180)
    assert lab.running_copies("guest") == ["b"]
    assert_answers(guest, 30)
    assert guest.ask("check", 30) == "OK"
    assert_preload_is_contained(lab.a, allowed=())
    assert_preload_is_contained(lab.b, allowed=("xl",))
    for host in lab.hosts:
        assert not host.syslog("romulus:"), "Romulus had a hand in a plain command"
