#!/usr/bin/python3
"""What the lab forbids, without a lab: each rule catches its sample and leaves innocent noise alone."""

import re
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.dont_write_bytecode = True

from romlab import forbidden, runner  # noqa: E402
from romlab.audit import Audit  # noqa: E402
from romlab.catalogue import COMMON  # noqa: E402
from romlab.forbidden import Line, leftovers, parsed  # noqa: E402
from romlab.shell import TooSlow  # noqa: E402

# A line that each rule is there for, as their programs say it.
GUILTY = {
    r"\bBUG(:| at )": (
        "[   12.1] BUG: kernel NULL pointer dereference, address: 0000000000000000",
        "[   12.1] kernel BUG at drivers/net/xen-netback/netback.c:407!", "(XEN) Xen BUG at mm.c:2451"),
    r"WARNING: CPU": ("[   12.1] WARNING: CPU: 0 PID: 31 at net/core/dev.c:2421 skb_warn_bad_offload+0x7b/0xf0",),
    r"\bOops\b": ("[   12.1] Oops: 0002 [#1] PREEMPT SMP NOPTI",),
    r"Kernel panic": ("[   12.1] Kernel panic - not syncing: System is deadlocked on memory",),
    r"\btraps: ": ("[   12.1] traps: xl[812] trap invalid opcode ip:7f3a sp:7ffd error:0 in libromulus.so.0[7f3a+1]",),
    r"general protection fault": ("[   12.1] general protection fault, probably for non-canonical address 0x1",),
    r"double fault": ("[   12.1] double fault: 0000 [#1] SMP",),
    r"unable to handle": ("[   12.1] unable to handle page fault for address: ffff88800",),
    r"segfault at": ("[   12.1] xl[812]: segfault at 10 ip 00007f3a sp 00007ffd error 4 in libromulus.so.0",),
    r"blocked for more than [0-9]+ seconds": ("[  242.1] INFO: task xl:812 blocked for more than 120 seconds.",),
    r"Out of memory": ("[   12.1] Out of memory: Killed process 812 (xl) total-vm:91524kB, anon-rss:40960kB",),
    r"oom-kill": ("[   12.1] oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),global_oom,task=xl,pid=812",),
    r"soft lockup": ("[   12.1] watchdog: BUG soft lockup - CPU#0 stuck for 26s! [xl:812]",),
    r"hard LOCKUP": ("[   12.1] NMI watchdog: Watchdog detected hard LOCKUP on cpu 0",),
    r"rcu.*(detected|kthread).*stall": ("[   12.1] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",),
    r"page allocation failure": ("[   12.1] xl: page allocation failure: order:4, mode:0x40cc0(GFP_KERNEL|__GFP_COMP)",),
    r"refcount_t: ": ("[   12.1] refcount_t: underflow; use-after-free.",),
    r"list_(add|del) corruption": ("[   12.1] list_del corruption. prev->next should be ffff8880",),
    r"EXT4-fs error": ("[   12.1] EXT4-fs error (device vda): ext4_lookup:1789: inode #12",),
    r"I/O error, dev": ("[   12.1] I/O error, dev vda, sector 2048 op 0x0:(READ) flags 0x0",),
    r"unregister_netdevice: waiting for": ("[   12.1] unregister_netdevice: waiting for rom1.0 to become free.",),
    r"\bAssertion\b": ("xl: libxl_event.c:331: libxl__ev_fd: Assertion `fd >= 0' failed.",
                       "(XEN) Assertion 'page_get_owner(page) == d' failed at mm.c:2000"),
    r"Fatal error:": ("RomulusHost/PrimaryRelay.swift:12: Fatal error: Index out of range",),
    r"stack smashing detected": ("*** stack smashing detected ***: terminated",),
    r"double free": ("double free or corruption (!prev)",),
    r"(free|malloc)\(\): ": ("free(): invalid pointer", "malloc(): invalid size (unsorted)"),
    r"corrupted (size|double-linked|top)": ("corrupted size vs. prev_size",),
    r"symbol lookup error": ("xl: symbol lookup error: /usr/lib/romulus/libromulus.so.0: undefined symbol: xc_x",),
    r"cannot be preloaded": ("ERROR: ld.so: object 'libromulus.so.0' from LD_PRELOAD cannot be preloaded: ignored.",),
    r"fatal signal": ("libxl: error: libxl_exec.c:127:libxl_report_child_exitstatus: domain 1 save/restore helper [390]"
                      " died due to fatal signal Illegal instruction",),
    r"\(XEN\).*(FATAL|[Uu]nhandled|Panic|[Cc]all trace|[Cc]rashed|[Tt]riple fault|WARN at|VM-Entry failure|hung)": (
        "(XEN) FATAL PAGE FAULT", "(XEN) d0v0 Unhandled: vec 14, #PF[0001]", "(XEN) Panic on CPU 0:",
        "(XEN) Xen call trace:", "(XEN) Domain 1 (vcpu#0) crashed on cpu#0:",
        "(XEN) d1v0 Triple fault - invoking HVM shutdown action 1", "(XEN) Xen WARN at p2m.c:100"),
}
# What hosts, guests and sessions say when all is well.
INNOCENT = """\
(XEN) Command line: dom0_mem=768M,max:768M dom0_max_vcpus=1 com1=115200,8n1 noreboot spec-ctrl=no watchdog=0 loglvl=all
(XEN) *** Building a PV Dom0 ***
(XEN) CPU0: AMD K8 machine check reporting enabled
(XEN) Initial low memory virq threshold set at 0x4000 pages.
(XEN) HVM d1v0 save: VIRIDIAN_VCPU
(XEN) d1v0: upcall vector f3
insmod: can't insert '/modules/06-crc32c-intel.ko': No such device
[    0.0] Command line: console=hvc0 quiet nokaslr mitigations=off panic=5 guest.ip=10.77.0.101
[    0.4] rcu: Hierarchical RCU implementation.
[    0.4] NMI watchdog: Perf NMI watchdog permanently disabled
[    4.2] xen_netback:xenvif_alloc: vif1.0: Successfully created xenvif
libxl: debug: libxl_event.c:1850: DEBUG: something
libxl: warning: libxl_remus.c:168:libxl__remus_teardown: Domain 1:Remus: Domain suspend terminated with rc 0, teardown
xc: error: Failed to read Record Header from stream (0 = Success): Internal error
migration target: Domain creation failed (code -3).
Nov 26 04:52:03 hosta daemon.info romulus: guest: protected: each epoch is acknowledged by the backup
""".splitlines()
ORDINARY = """\
guest: warning: no arbiter: when the link to the backup fails, guest is frozen here and stays so until the backup says that
guest (backup): replica ready: takes over after 1000 ms without a byte from the primary
guest (backup): replica ready: asks the arbiter (lease) after 1000 ms without a byte from the primary
guest: protected: each epoch is acknowledged by the backup
guest: the guest is paused (xl pause): no epoch is taken until it runs again (xl unpause); its replica stays as it is
guest: warning: the guest was paused in the middle of a checkpoint, which waits until it runs again (xl unpause)
guest: an epoch took longer than the period of 200 ms, so the next began at once (1 so far)
guest: 6 epochs in 18.107 s; pages per epoch 470 (most 487); 24 of 1887 KiB per epoch over the link; pause 234 ms (longest \
817 ms: suspend 92126, log 281, copy 99174, state 6788, hold 2494, resume 33298 us); 6 epochs took longer than the period; \
staging was full 0 times
guest: protection ended by SIGINT: the guest goes on here, unprotected; start xl remus again to protect it; its replica is \
discarded
guest (backup): replica discarded: the primary said farewell: protection was ended by SIGINT; the guest goes on at the \
primary""".splitlines()
STRANGE = """\
guest: error: checkpointing failed (libxl's own lines say why): the guest goes on here, unprotected; start xl remus again
guest (backup): warning: failover: the link to the primary ended; going on from epoch 9; detected after 0 ms
guest: warning: the backup has heard nothing for 751 ms: the guest here is frozen and its output held
guest: error: vif1.1 has come and its output is NOT held (no such device): detach it, or end xl remus
guest: removed rom1.0, the network buffer that an earlier run had left behind
domain 1: error: the guest cannot be saved: the guest was not suspended: Resource temporarily unavailable
warning: cannot watch over xl: if it is killed, look at both hosts""".splitlines()

HEAD = "Name                                        ID   Mem VCPUs\tState\tTime(s)"
DOM0 = "Domain-0                                     0   768     1     r-----      41.3"
QUIET = """\
    1     0 /bin/sh /sbin/lab-init
  210     1 /usr/sbin/oxenstored --pid-file=/run/xen/xenstored.pid
  230     1 /usr/lib/xen-4.17/bin/qemu-system-i386 -xen-domid 0 -xen-attach -name dom0 -nographic
  240     1 sshd: /usr/sbin/sshd -o UseDNS=no [listener] 0 of 10-100 startups
  390   240 sshd: root@notty
  399   390 bash -c ? cd /sys/class/net; echo == devices; xl list; ps -eo pid=,ppid=,args=
  400   399 ps -eo pid=,ppid=,args="""


def host(name="a", devices="", qdiscs="", blocks="", domains="", processes="", lines=""):
    """What a host says that has this besides what every one has."""
    return parsed(name, "\n".join((
        "== devices", f"bonding_masters eth0 eth1 eth2 lo xenbr0 {devices}", "== qdiscs",
        "qdisc noqueue 0: dev lo root refcnt 2", "qdisc pfifo_fast 0: dev eth0 root refcnt 2 bands 3", qdiscs,
        "== blocks", *blocks.splitlines(), "== domains", HEAD, DOM0, domains, "== processes", QUIET, processes,
        "== lines", lines)))


def domain(identifier, state="-b----", name="guest"):
    return f"{name:40} {identifier:5}   160     1     {state}      10.1"


CREATED = "  500     1 /usr/lib/xen-4.17/bin/xl create /guest/pvh.cfg"
PRIMARY = """\
  600   390 /usr/lib/xen-4.17/bin/xl remus -i 100 guest hostb
  601   600 ssh hostb xl migrate-receive -r
  602   600 /usr/lib/xen-4.17/bin/libxl-save-helper --save-domain 15 16 1 1 184 1
  603     1 romulus-guard 1"""
BACKUP = """\
  700   390 /usr/lib/xen-4.17/bin/xl migrate-receive -r
  701   700 /usr/lib/xen-4.17/bin/libxl-save-helper --restore-domain 11 20 3 1 0 2 0 800 1"""
HELD = "qdisc plug 8002: dev rom1.0 root refcnt 2", "qdisc ingress ffff: dev vif1.0 parent ffff:fff1 ----------------"


def protected():
    """Both hosts, in the middle of a run."""
    return [host("a", "vif1.0 rom1.0", "\n".join(HELD), domains=domain(1), processes=f"{CREATED}\n{PRIMARY}"),
            host("b", "vif3.0", domains=domain(3, "--p---", "guest--incoming"), processes=BACKUP)]


class Lines(unittest.TestCase):
    def judged(self, *texts, expects=COMMON, place="console-a-1.log:1"):
        return forbidden.forbidden_lines([Line(place, text) for text in texts], expects)

    def test_each_rule_has_a_line_that_it_is_there_for(self):
        self.assertEqual(set(GUILTY), set(forbidden.RULES))
        for rule, texts in GUILTY.items():
            for text in texts:
                self.assertRegex(text, rule)
                self.assertEqual(self.judged(text), [f"console-a-1.log:1: {text}"])

    def test_hosts_look_for_what_is_judged(self):
        text = "\n".join([*(one for some in GUILTY.values() for one in some), *INNOCENT])
        found = subprocess.run(["grep", "-aE", forbidden.WANTED], input=text, stdout=subprocess.PIPE, text=True).stdout
        self.assertEqual(found.splitlines(), [one for one in text.splitlines() if re.search(forbidden.WANTED, one)])
        self.assertEqual(len(found.splitlines()), sum(map(len, GUILTY.values())) + 1)

    def test_what_is_said_when_all_is_well_is_not_forbidden(self):
        self.assertEqual(self.judged(*INNOCENT, *(f"romulus: {text}" for text in ORDINARY)), [])

    def test_each_line_of_the_catalogue_is_needed(self):
        for missing in COMMON:
            rest = [one for one in COMMON if one != missing]
            self.assertTrue(self.judged(*(f"romulus: {text}" for text in ORDINARY), expects=rest), missing)

    def test_what_else_romulus_says_is_forbidden_unless_it_is_expected(self):
        for text in STRANGE:
            line = f"Nov 26 04:52:03 hosta daemon.err romulus: {text}"
            self.assertEqual(self.judged(line), [f"console-a-1.log:1: romulus: {text}"])
            self.assertEqual(self.judged(line, expects=(*COMMON, re.escape(f"romulus: {text}"))), [])

    def test_a_longer_line_than_the_catalogue_has_is_another_one(self):
        self.assertTrue(self.judged("romulus: guest: protected: each epoch is acknowledged by the backup, or not"))

    def test_a_rule_may_be_broken_by_what_is_expected(self):
        line = GUILTY["fatal signal"][0]
        self.assertEqual(self.judged(line, expects=("fatal signal Illegal",)), [])
        self.assertTrue(self.judged(line, expects=("fatal signal Killed",)))

    def test_what_both_hosts_show_is_named_once(self):
        self.assertEqual(len(self.judged(f"Nov 26 hostb romulus: {STRANGE[1]}", f"romulus: {STRANGE[1]}")), 1)

    def test_whatever_qemu_says_of_a_machine_is_forbidden(self):
        self.assertTrue(self.judged("qemu-system-x86_64: warning: hub port is not connected", place="qemu-a-1.log:1"))
        self.assertEqual(self.judged("qemu: terminating on signal 15 from pid 1", "", place="qemu-a-1.log:1"), [])

    def test_lines_of_a_host_have_their_file(self):
        state = host(lines="(standard input):[ 1.0] BUG: a\n/var/log/xen/xl-guest.log.3:Assertion: b: c")
        self.assertEqual(state.lines, [
            Line("host a, dmesg", "[ 1.0] BUG: a"), Line("host a, /var/log/xen/xl-guest.log", "Assertion: b: c")])


class Leftovers(unittest.TestCase):
    def one(self, *expected, sessions=0, **has):
        """Exactly these are left, each named, on host a."""
        found = leftovers([host("a", **has), host("b")], sessions)
        self.assertEqual(len(found), len(expected), found)
        for pattern, line in zip(expected, found):
            self.assertRegex(line, f"^host a: {pattern}")

    def test_a_guest_that_runs_alone_leaves_nothing(self):
        self.one(devices="vif1.0", domains=domain(1), processes=CREATED)

    def test_a_run_leaves_nothing_while_it_lasts(self):
        self.assertEqual(leftovers(protected(), 1), [])

    def test_a_run_that_nobody_has_left_running_is_left_with_all_it_has(self):
        found = "\n".join(leftovers(protected(), 0))
        for pattern in (r"host a: process `\S*xl remus -i 100 guest hostb` \(600\)", "host a: network device rom1.0",
                        "host a: qdisc plug on rom1.0", "host a: qdisc ingress on vif1.0", "host a: process `ssh hostb",
                        "host a: process `.*--save-domain", "host b: domain guest--incoming",
                        "host b: process `.*migrate-receive", "host b: process `.*--restore-domain"):
            self.assertRegex(found, pattern)

    def test_a_run_of_another_guest_excuses_nothing(self):
        a, b = protected()
        a.devices.append("rom2.0")
        self.assertEqual(leftovers([a, b], 1), ["host a: network device rom2.0, without an xl remus"])

    def test_what_a_script_has_made_belongs_to_its_run(self):
        a, b = protected()
        a.devices.append("ifb-own")
        a.qdiscs.append("qdisc plug 8002: dev ifb-own root refcnt 2")
        self.assertEqual(len(leftovers([a, b], 1)), 2)
        a.processes = [forbidden.Process(one.id, one.parent, one.command.replace("-i 100", "-N /tmp/netbuf"))
                       for one in a.processes]
        self.assertEqual(leftovers([a, b], 1), [])

    def test_network(self):
        self.one("network device rom1.0", devices="vif1.0 rom1.0", domains=domain(1), processes=CREATED)
        self.one("network device ifb-own", devices="ifb-own")
        self.one("network device ifb0", devices="ifb0")
        self.one("network device vif7.0, without its domain", devices="vif7.0")
        self.one("qdisc plug on eth0", qdiscs="qdisc plug 8002: dev eth0 root refcnt 2")
        self.one("qdisc ingress on vif1.0", devices="vif1.0", qdiscs=HELD[1], domains=domain(1), processes=CREATED)
        self.one("qdisc clsact on vif1.0", devices="vif1.0", qdiscs=HELD[1].replace("ingress", "clsact"),
                 domains=domain(1), processes=CREATED)

    def test_block_devices(self):
        self.one("block device /sys/block/dm-0/dm/name lab-left", blocks="/sys/block/dm-0/dm/name lab-left")
        self.one("block device /sys/block/nbd0/pid 812", blocks="/sys/block/nbd0/pid 812")
        self.one("block device .*loop0.* /tmp/f", blocks="/sys/block/loop0/loop/backing_file /tmp/f")

    def test_domains(self):
        self.one(r"domain \(null\) \(4, --p--d\) is dying", domains=domain(4, "--p--d", "(null)"))
        self.one("domain guest .* is dying", domains=domain(4, "-----d"))
        self.one("domain guest .* has crashed", domains=domain(4, "----c-"))
        self.one("domain guest .* does not run", domains=domain(4, "--p---"))
        self.one("domain guest .* does not run", domains=domain(4, "---s--"))
        self.one("domain guest--incoming .* nobody protects", domains=domain(4, "--p---", "guest--incoming"))

    def test_two_copies_that_run(self):
        states = [host("a", domains=domain(1)), host("b", domains=domain(2, "r-----"))]
        self.assertEqual(leftovers(states, 0), ["guest guest runs on hosts a and b"])

    def test_processes(self):
        for command in ("/usr/lib/xen-4.17/bin/xl save guest /tmp/f", "romulus top", "romulus-guard 7", "ssh hostb xl migrate-receive -r",
                        "/usr/lib/xen-4.17/bin/libxl-save-helper --save-domain 15", "/usr/bin/etcdctl lease keep-alive 1",
                        "fence_lab ", "/bin/bash /etc/xen/scripts/vif-bridge online",
                        "/bin/sh -c \"$@\" & read -r _; kill 0 romulus-lease etcdctl"):
            self.one("process `" + re.escape(command.strip()), processes=f"  800   390 {command}")

    def test_an_xl_in_the_background_has_its_guest(self):
        self.one("process `.*xl create", processes=CREATED)
        self.one("process `.*qemu-system-i386 -xen-domid 9", processes="  900     1 /usr/bin/qemu-system-i386 -xen-domid 9 -x")


    def test_a_host_that_cannot_tell_is_not_clean(self):
        found = leftovers([parsed("a", "== devices\n== qdiscs\n== domains\nxl: cannot\n== processes\n== end")], 0)
        self.assertEqual(found, [f"host a: no word of its {what}" for what in (
            "domains", "processes", "network devices", "qdiscs")])


class Growth(unittest.TestCase):
    @staticmethod
    def judged(*sizes, epochs=100, largest=2 << 20):
        lines = [f"size 600 xl {descriptors} {kib}" for descriptors, kib in sizes]
        return forbidden.growth("a", forbidden.sizes(["nonsense", *lines]), epochs, largest)

    def test_what_libxl_leaks_is_allowed(self):
        self.assertEqual(self.judged((20, 27400), (20, 27400 + 4 * 100)), [])

    def test_memory(self):
        [found] = self.judged((20, 27400), (20, 27400 + 4 * 100 + 20000))
        self.assertRegex(found, r"^host a: xl \(600\) has grown from 27400 to \d+ KiB in 100 epochs")
        self.assertTrue(self.judged((20, 27400), (20, 27400 + 40 * 1000), epochs=1000))

    def test_descriptors(self):
        self.assertEqual(self.judged((20, 1), (22, 1)), [])
        self.assertEqual(self.judged((20, 1), (40, 1)), ["host a: xl (600) had 20 descriptors and has 40"])

    def test_no_word_of_a_process_is_no_growth(self):
        self.assertEqual(self.judged(), [])


class FakeHost:
    def __init__(self, name):
        self.name = name
        self.generation = 1
        self.is_up = True
        self.has = {}
        self.is_deaf = self.is_cut = False

    def is_on(self):
        return self.is_up

    def run(self, script, check, timeout):
        if self.is_deaf:
            raise TooSlow("deaf")
        state = {key: value for key, value in self.has.items() if key == "lines" or "== devices" in script}
        lines = state.get("lines", "")
        if ": >/var/log/messages" in script:
            self.has["lines"] = "\n".join(one for one in lines.splitlines() if not one.startswith("/var/log/messages"))
        always = {"devices": "lo", "qdiscs": "qdisc noqueue 0: dev lo", "blocks": "", "domains": f"{HEAD}\n{DOM0}",
                  "processes": QUIET, "lines": ""}
        said = [f"== {key}\n{text}\n{state.get(key, '')}" for key, text in always.items()]
        return SimpleNamespace(stdout="\n".join(said[:2] if self.is_cut else [*said, "== end"]))


class Gathering(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.logs = Path(folder.name)
        self.a, self.b = FakeHost("a"), FakeHost("b")
        self.lab = SimpleNamespace(
            hosts=(self.a, self.b), logs=self.logs, protections=[], followers=[],
            _on_each=lambda hosts, work: [work(host) for host in hosts])
        self.audit = Audit(self.lab)
        self.audit.settle_seconds = 0

    def test_nothing_is_found_where_nothing_is(self):
        self.audit.open()
        self.assertEqual(self.audit.verdict(), [])

    def test_each_kind_that_is_planted_on_a_host_is_found(self):
        plants = {"devices": "rom1.0", "qdiscs": "qdisc plug 8002: dev eth0 root", "blocks": "/sys/block/dm-0/dm/name x",
                  "domains": domain(4, "--p--d", "(null)"), "processes": "  800   390 romulus top",
                  "lines": "(standard input):[ 1.0] BUG: planted"}
        for kind, text in plants.items():
            self.a.has = {kind: text}
            self.audit.open()
            self.assertEqual(len(self.audit.verdict()), 1, kind)
            self.a.has = {}
            self.audit.open()
            self.assertEqual(self.audit.verdict(), [], kind)

    def test_a_line_is_found_once_and_again_when_it_comes_again(self):
        line = "/var/log/xen/xl-guest.log:Assertion failed"
        for text, count in ((line, 1), (line, 0), (f"{line}\n{line}", 1)):
            self.a.has = {"lines": text}
            self.assertEqual(len(self.audit.verdict()), count)
        self.a.generation += 1
        self.assertEqual(len(self.audit.verdict()), 1, "another machine's log")

    def test_a_log_that_is_cleared_is_new(self):
        for _ in range(2):
            self.a.has = {"lines": f"/var/log/messages:romulus: {STRANGE[0]}"}
            self.audit.open()
            self.assertEqual(len(self.audit.verdict()), 1)

    def test_what_is_gathered_before_a_host_is_made_anew_counts(self):
        self.audit.open()
        self.a.has = {"lines": f"/var/log/messages:romulus: {STRANGE[0]}"}
        self.audit.gather([self.a])
        self.a.generation, self.a.has = 2, {}
        self.assertEqual(len(self.audit.verdict()), 1)

    def test_the_end_of_the_scenario_before_is_judged_by_what_that_one_expected(self):
        self.audit.open()
        self.audit.verdict(expects=("romulus: guest: error: checkpointing failed",))
        self.a.has = {"lines": f"/var/log/messages:romulus: {STRANGE[0]}"}
        self.audit.open()
        self.assertEqual(self.audit.verdict(), [])
        self.audit.open()
        self.a.has = {"lines": f"/var/log/messages:romulus: {STRANGE[0]}"}
        self.assertEqual(len(self.audit.verdict()), 1)

    def test_of_a_host_without_power_the_console_is_read(self):
        self.a.is_up = False
        console = self.logs / "console-a-1.log"
        console.write_text("(XEN) quiet\n(XEN) Xen BUG at")
        self.assertEqual(self.audit.verdict(), [], "the line is not whole yet")
        with open(console, "a") as file:
            file.write(" mm.c:1\n")
        self.assertEqual(self.audit.verdict(), ["console-a-1.log:2: (XEN) Xen BUG at mm.c:1"])
        self.assertEqual(self.audit.verdict(), [])

    def test_a_host_that_does_not_answer_is_named(self):
        self.b.is_deaf = True
        begun = time.monotonic()
        self.assertEqual(self.audit.verdict(), ["host b does not answer"])
        self.assertLess(time.monotonic() - begun, 1)

    def test_half_an_answer_is_none(self):
        self.b.is_cut = True
        self.assertEqual(self.audit.verdict(), ["host b does not answer"])

    def test_what_is_left_on_purpose_is_not_found(self):
        self.a.has = {"devices": "rom1.0"}
        self.assertEqual(self.audit.verdict(leaves=(r"host a: network device rom1\.0",)), [])
        self.assertTrue(self.audit.verdict(leaves=(r"host b: network device rom1\.0",)))

    def test_what_grows_is_found(self):
        class Grown:
            def findings(self):
                return ["host a: xl (600) has grown"]
        self.audit._growths.append(Grown())
        self.assertEqual(self.audit.verdict(), ["host a: xl (600) has grown"])


class Scenarios(unittest.TestCase):
    def test_what_they_expect_can_be_read(self):
        for name in runner.names():
            module = runner.load(name)
            for kind in ("EXPECTS", "LEAVES"):
                for pattern in getattr(module, kind, ()):
                    re.compile(pattern)
                    self.assertGreater(len(pattern), 15, f"{name}: {pattern} would allow too much")
                self.assertNotIsInstance(getattr(module, kind, ()), str, name)


if __name__ == "__main__":
    unittest.main()
