"""Every command of README.md does, in its order and on its host, what the text says."""

import re
import time

from romlab import demo, packages
from romlab.catalogue import PRIMARY_SILENT, failover
from romlab.checks import assert_goes_on
from romlab.packages import REPOSITORY
from romlab.shell import LabError, run as run_here, say, wait_for

BLOCK = re.compile(r"<!-- run: (.*?) -->\n```sh\n(.*?)```", re.DOTALL)
# Commands in the running text, by what runs them.
ELSEWHERE = {
    "romulus test": "73_cut_fence.py", "romulus resume": "76_admin_decides.py", "romulus yield": "76_admin_decides.py",
    "romulus-activate": "61_options_and_settings.py", "romulus-deactivate": "61_options_and_settings.py",
}
# And what is asked for in a report.
ASKED_FOR = ("romulus events --json", "romulus --version", "xl info")
EXPECTS = (failover(PRIMARY_SILENT),)


def run(lab):
    text = (REPOSITORY / "README.md").read_text()
    assert text.count("```sh") == len(BLOCK.findall(text)), "a block of commands without a word on where it runs"
    guest = lab.guest_on(lab.pvh, lab.a)
    lab.a.run("rm -f /var/log/xen/romulus-events.json")
    lab.b.run("rm -f /var/log/xen/romulus-events.json")
    # An emulated host has not three times the guest's memory to spare, which the check would say.
    lab.install_settings(lab.b, epoch_limit_mib=64)
    protection = None
    for place, block in BLOCK.findall(text):
        for command in block.strip().splitlines():
            say(f"  {place}: {command}")
            if place == "here":
                run_here(*command.split(), cwd=REPOSITORY, timeout=1800)
            elif place == "both":
                for host in lab.hosts:
                    host.run(f"cd {packages.FOLDER} && {command}", timeout=180)
            elif place == "primary, protect":
                assert command == "xl remus guest hostb", command
                protection = lab.protect(guest)
            elif place == "primary, dies":
                dies(lab, command)
                assert_goes_on(lab, guest, "b")
            elif place in ("primary", "backup"):
                show(lab.a if place == "primary" else lab.b, command)
            elif place == "demo":
                assert command == "make demo", command
                demo.tell(lab, lab.guest_on(lab.pvh, lab.a))
            else:
                raise LabError(f"README.md wants a command run at `{place}`")
    assert protection is not None, "README.md protects nothing"
    inline_commands_are_tested(BLOCK.sub("", text), lab)


def show(host, command):
    """What goes on until it is stopped is looked at until it shows the guest."""
    if command == "romulus top":
        text = host.run(f"timeout 30 {command} | sed '/ protected /q'").stdout
    else:
        text = host.run(command).stdout
    print(text, flush=True)
    if command in ("romulus status", "romulus top"):
        assert re.search(r"^guest +primary +protected ", text, re.MULTILINE), text
    if command == "romulus events":
        assert "failover: " in text, text
    if command == "xl list":
        assert re.search(r"^guest ", text, re.MULTILINE), text


def dies(lab, command):
    host = lab.a
    host.start(command, lambda _: None)
    wait_for("host a to be gone", lambda: not host.is_on(), 20)
    host.power_cut()
    wait_for("the guest to go on at host b", lambda: lab.running_copies("guest") == ["b"], 30)
    time.sleep(1)


def inline_commands_are_tested(text, lab):
    """Each command that the text mentions is run by a scenario, or is a target that `make check` comes by."""
    mentioned = set(re.findall(r"`((?:romulus|romulus-activate|romulus-deactivate|xl|make)(?: [^`]*)?)`", text))
    for command in sorted(mentioned):
        words = command.split()
        if words[0] == "make" or command in ("romulus", "xl") or words[:2] == ["xl", "remus"] or words[:2] == ["xl", "migrate-receive"]:
            continue
        if command in ("romulus status", "romulus top", "romulus events", "romulus check"):
            continue
        if command in ASKED_FOR:
            assert lab.b.run(command).stdout.strip(), f"`{command}` says nothing"
            continue
        where = ELSEWHERE.get(command)
        assert where, f"README.md mentions `{command}`, which no test is known to run"
        assert command in (REPOSITORY / "Tests/Lab/scenarios" / where).read_text(), f"{where} does not run `{command}`"
