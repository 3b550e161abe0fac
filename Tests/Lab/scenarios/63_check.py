"""`romulus check`: no problem on a good pair; each fault is named with its host, and ends with status 1; a PV guest is refused."""

import time

from romlab.catalogue import NEVER_BEGUN, PRIMARY
from romlab.checks import wait_gone
from romlab.packages import REPOSITORY
from romlab.shell import say

EXAMPLES = REPOSITORY / "xl-config-examples"
LONGEST_SECONDS = 400
EXPECTS = (
    PRIMARY + "error: a PV guest cannot be protected on this Xen, which is built without shadow paging and so cannot log"
              " its dirty pages; use a PVH or HVM guest$",
    NEVER_BEGUN)


# An emulated host has not three times the guest's memory to spare.
SMALL = {"epoch_limit_mib": 64}


def run(lab):
    lab.guest_on(lab.pvh, lab.a)
    lab.install_settings(lab.b, **SMALL)
    _assert_good(lab)
    _faults_of_the_backup(lab)
    _faults_of_the_way(lab)
    _faults_of_guests(lab)
    assert lab.a.run("romulus check", check=False).returncode == 64
    assert lab.a.run("setpriv --reuid 65534 romulus check hostb", check=False).returncode == 2
    _examples_are_guests(lab.a)


def _check(host, *words):
    """The exit status, and the problems."""
    begun = time.monotonic()
    answer = host.run(f"romulus check {' '.join(words)}", check=False)
    lines = answer.stdout.splitlines()
    say(f"  romulus check {' '.join(words)}: {answer.returncode} after {time.monotonic() - begun:.1f} s")
    assert lines and all(line.startswith(("ok       ", "problem  ")) for line in lines), answer.stdout
    return answer.returncode, [line for line in lines if line.startswith("problem")], answer.stdout


def _assert_good(lab):
    status, problems, text = _check(lab.a, "hostb", "--guest", "guest")
    assert (status, problems) == (0, []), text
    for words in ("hostb: Romulus", "hostb: Xen 4.17", "round trip to hostb takes", "guest's output can be held",
                  "guest's replica may take", "hostb has the bridges and programs that guest needs", "dom0 on this host has"):
        assert words in text, f"no line says `{words}':\n{text}"


def _assert_problem(host, expected, *words):
    """The only one."""
    _assert_problems(host, [expected], *words)


def _assert_problems(host, expected, *words):
    """These, each once, and no others."""
    status, problems, text = _check(host, *words)
    named = [sum(one in problem for problem in problems) for one in expected]
    assert status == 1 and len(problems) == len(expected) and named == [1] * len(expected), f"not {expected}:\n{text}"


def _faults_of_the_backup(lab):
    b = lab.b
    module = b.run("modinfo -n sch_plug").stdout.strip()
    b.run(f"mv {module} /tmp/away; romulus-deactivate")
    lab.install_settings(lab.a, arbiter="fence", fence_agent="/bin/true")
    b.set_clock(ahead=60)
    _assert_problems(
        lab.a, ["hostb: kernel", 'arbiter is "fence" on this host and "none" on hostb',
                "is not active: run romulus-activate", "ms ahead"], "hostb")
    b.run(f"mv /tmp/away {module}; romulus-activate")
    lab.install_settings(lab.a)
    b.set_clock()

    lab.install_settings(b, detect_timeout_ms=99)
    _assert_problem(lab.a, "hostb: /etc/xen/romulus.conf:2: `detect_timeout_ms' is 99", "hostb")
    lab.install_settings(b, **SMALL)
    b.run("mv /usr/sbin/romulus /tmp/away")
    _assert_problem(lab.a, "hostb has no romulus check", "hostb")
    b.run("mv /tmp/away /usr/sbin/romulus")


def _faults_of_the_way(lab):
    _assert_problem(lab.a, "hostc is not reached by ssh", "hostc")
    lab.a.run("mv /root/.ssh/id_ed25519 /tmp/away")
    _assert_problem(lab.a, "Permission denied", "hostb")
    lab.a.run("mv /tmp/away /root/.ssh/id_ed25519")
    lab.network.set_replication(False)
    _assert_problem(lab.a, "hostb is not reached by ssh", "hostb")
    lab.network.set_replication(True)


def _faults_of_guests(lab):
    _assert_problem(lab.b, "no guest guest runs on this host", "hosta", "--guest", "guest")
    lab.create(lab.pv, lab.a)
    _assert_problem(lab.a, "pvguest is a PV guest, which is refused", "hostb", "--guest", "pvguest")
    _a_pv_guest_is_refused(lab)
    lab.a.run("xl destroy pvguest")


def _a_pv_guest_is_refused(lab):
    """At once, with the reason, and it goes on."""
    protection = lab.start_protection(lab.pv)
    protection.wait_end(30)
    protection.wait_text("romulus: pvguest: error: a PV guest cannot be protected on this Xen", 1)
    assert "logdirty" not in protection.text, "libxc was the one to find out"
    assert lab.pv.answers(), "the guest does not answer any more"
    assert lab.a.domains()["pvguest"].runs
    wait_gone(lab.b, "pvguest--incoming")


def _examples_are_guests(host):
    """Stock xl reads each example's guest as a configuration, without making it."""
    examples = sorted(EXAMPLES.glob("**/*.cfg"))
    assert examples
    for example in examples:
        host.write("/tmp/example.cfg", example.read_text())
        shown = host.run("xl -N create /tmp/example.cfg")
        assert '"c_info"' in shown.stdout and "warning" not in shown.stdout.lower(), f"{example.name}: {shown.stdout}"
