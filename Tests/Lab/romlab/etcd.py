"""Debian's etcd at a third place, which both hosts reach over the control link."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path

from .guest import make_in_namespace
from .network import THIRD_PLACE, Network
from .shell import LabError, end_process, lives, wait_for

PORT = 2379
ENDPOINT = f"http://{THIRD_PLACE}:{PORT}"
# For romulus.conf. On an emulated host one call of etcdctl may take seconds.
SETTINGS = {"arbiter": "lease", "lease_endpoints": [ENDPOINT], "lease_ttl_s": 10, "lease_timeout_ms": 5000}


class Etcd:
    """One member, with its data in the lab's state: a left-over one is known by that, and `lab down` ends it."""

    def __init__(self, state: Path, network: Network):
        self.network = network
        self._data = state / "etcd"
        self._pid_file = state / "etcd.pid"

    def start(self, logs: Path) -> None:
        """A new one, without a key, that answers."""
        self.stop()
        program = shutil.which("etcd")
        if program is None:
            raise LabError("etcd is missing: apt-get install etcd-server")
        peers = f"http://{THIRD_PLACE}:{PORT + 1}"
        with open(logs / "etcd.log", "ab") as output:
            process = subprocess.Popen(
                self.network.inside(
                    program, "--name", "lab", "--data-dir", str(self._data), "--listen-client-urls", ENDPOINT,
                    "--advertise-client-urls", ENDPOINT, "--listen-peer-urls", peers, "--initial-advertise-peer-urls",
                    peers, "--initial-cluster", f"lab={peers}"),
                stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True)
        self._pid_file.write_text(str(process.pid))

        def healthy() -> bool:
            if process.poll() is not None:
                raise LabError(f"etcd ended; see {logs}/etcd.log")
            return self.is_healthy()
        wait_for("etcd to be healthy", healthy, 30)

    def is_healthy(self) -> bool:
        """Whether it says so itself."""
        try:
            with make_in_namespace(
                    self.network, lambda: socket.create_connection((THIRD_PLACE, PORT), 2)) as connection:
                connection.settimeout(2)
                connection.sendall(f"GET /health HTTP/1.0\r\nHost: {THIRD_PLACE}\r\n\r\n".encode())
                return '"health":"true"' in connection.makefile().read()
        except OSError:
            return False

    def stop(self) -> None:
        pid = int(self._pid_file.read_text()) if self._pid_file.exists() else None
        if pid is not None and self._is_ours(pid):
            end_process(pid, "etcd")
        self._pid_file.unlink(missing_ok=True)
        shutil.rmtree(self._data, ignore_errors=True)

    def _is_ours(self, pid: int) -> bool:
        """As with the hosts: a left-over pid file may name a process of somebody else by now."""
        try:
            return lives(pid) and str(self._data) in Path(f"/proc/{pid}/cmdline").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return False
