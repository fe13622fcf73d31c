"""The operator as a process of its own, with its ServiceAccount's token and nothing more."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from builders.api_server import Actor

NAMESPACE = "allotment-system"
START_SECONDS = 120
"""Loading takes three seconds of processor time, and then the Lease of a killed predecessor must run out."""
ACCOUNT = "allotment-operator"
LEASE = {
    "apiVersion": "coordination.k8s.io/v1",
    "kind": "Lease",
    "metadata": {"name": "allotment-operator", "namespace": NAMESPACE},
}


def kubeconfig_of_account(admin_kubeconfig: Path, admin: Actor, folder: Path, *, account: str = ACCOUNT) -> Path:
    """Write a kubeconfig whose only credential is a fresh token of the ServiceAccount."""
    path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{account}/token"
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 7200}}
    answer = admin.request("POST", path, review)
    assert answer.accepted, answer.message
    config = yaml.safe_load(admin_kubeconfig.read_text())
    cluster = config["clusters"][0]
    written = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [cluster],
        "users": [{"name": account, "user": {"token": answer.body["status"]["token"]}}],
        "contexts": [{"name": account, "context": {"cluster": cluster["name"], "user": account}}],
        "current-context": account,
    }
    target = folder / f"{account}.kubeconfig"
    target.write_text(yaml.safe_dump(written))
    target.chmod(0o600)
    return target


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class OperatorProcess:
    """Starts, kills and restarts `allotment-operator`."""

    kubeconfig: Path
    log: Path
    lease_seconds: float = 8.0
    resync_seconds: float = 30.0
    port: int = field(default_factory=_free_port)
    _process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: bool = True) -> None:
        """Start it; optionally wait until it is at work."""
        assert self._process is None, "the operator runs already"
        environment = {
            **os.environ,
            "ALLOTMENT_LEASE_SECONDS": str(self.lease_seconds),
            "ALLOTMENT_RESYNC_SECONDS": str(self.resync_seconds),
            "ALLOTMENT_HTTP_PORT": str(self.port),
            "ALLOTMENT_HTTP_HOST": "127.0.0.1",
            "ALLOTMENT_NAMESPACE": NAMESPACE,
            "ALLOTMENT_LOG_FORMAT": "json",
        }
        command = [sys.executable, "-m", "allotment_operator.main", "--kubeconfig", str(self.kubeconfig)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        if wait:
            eventually(self.at_work, because=self.tail, timeout=START_SECONDS)

    def at_work(self) -> bool:
        """Whether it holds the Lease and has listed everything."""
        assert self._process is not None
        assert self._process.poll() is None, f"the operator ended with {self._process.returncode}:\n{self.tail()}"
        return "allotment_operator_leader 1.0" in self.get("/metrics") and self.get("/readyz") == "ok\n"

    def get(self, path: str) -> str:
        """Fetch a page of its HTTP server; empty where it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            return str(error.read().decode())
        except OSError:
            return ""

    def stop(self) -> int:
        """Ask it to end; returns its exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut would; nothing to do if it does not run."""
        if self._process is not None:
            self._end(signal.SIGKILL)

    def lines(self) -> list[dict[str, Any]]:
        """All lines of its log so far."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def tail(self) -> str:
        """The end of its log, for a failing test's message."""
        return "\n".join(self.log.read_text().splitlines()[-30:]) if self.log.exists() else ""

    def _end(self, number: int) -> int:
        process, self._process = self._process, None
        assert process is not None, "the operator does not run"
        process.send_signal(number)
        return process.wait(timeout=30)


def eventually(holds: Callable[[], Any], *, timeout: float = 60, because: Callable[[], Any] = lambda: "") -> Any:
    """Wait until something holds, and return it; an assertion that fails inside counts as not yet."""
    deadline = time.monotonic() + timeout
    while True:
        complaint = ""
        try:
            if found := holds():
                return found
        except AssertionError as error:
            complaint = str(error)
        if time.monotonic() > deadline:
            raise AssertionError(f"not after {timeout:.0f} s: {complaint or holds} {because()}")
        time.sleep(0.1)
