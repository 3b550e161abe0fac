"""Running commands, and telling a person what is going on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

STARTED = time.monotonic()


class LabError(Exception):
    """Something in the lab is not as it must be; the text says what, for a person."""


class TooSlow(LabError):
    """Something did not happen in its time. The emulation or a fault may be the reason: a scenario that ends with it
    is repeated once. A promise that was seen broken is a LabError or a failed assertion, and is not."""


class Stoppable:
    """What goes on in the background until it is stopped; as a context, until the context's end."""

    def stop(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def say(text: str) -> None:
    """One line of progress, with the seconds since the start."""
    print(f"[{time.monotonic() - STARTED:6.1f} s] {text}", flush=True)


def run(*command: str | Path, check: bool = True, timeout: float = 600, **options) -> subprocess.CompletedProcess:
    """Runs a command to its end; its output is in the error when it fails."""
    result = subprocess.run(
        [str(word) for word in command], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        stdin=options.pop("stdin", subprocess.DEVNULL), timeout=timeout, **options)
    if check and result.returncode != 0:
        tail = "\n".join(result.stdout.splitlines()[-15:])
        raise LabError(f"{' '.join(map(str, command))} exited with {result.returncode}:\n{tail}")
    return result


def wait_for(what: str, condition: Callable[[], object], timeout: float, pause: float = 0.1):
    """The first true value of the condition; a TooSlow that names `what` when there is none in time."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TooSlow(f"waited {timeout:.0f} s in vain: {what}")
        time.sleep(pause)


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        return state != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def end_process(pid: int, what: str) -> None:
    """At once, and to its end, whether an earlier command has started it or this one."""
    if lives(pid):
        os.kill(pid, signal.SIGKILL)
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        wait_for(f"{what} to end", lambda: not lives(pid), 10, 0.01)


def warn(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
