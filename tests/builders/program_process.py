"""Operator and scheduler as processes of their own, each with its ServiceAccount's token and nothing more."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import yaml

from builders.api_server import Actor
from builders.patience import LateError

NAMESPACE = "allotment-system"
START_SECONDS = 300
"""Loading takes three seconds of processor time, and then the Lease of a killed predecessor must run out."""


def lease(account: str) -> dict[str, Any]:
    """A program's Lease, but for its spec."""
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": account, "namespace": NAMESPACE},
    }


def give_back_lease(admin: Actor, account: str = "allotment-scheduler") -> None:
    """As if the holder had ended in good order; a Lease that is missing would have to be waited for."""
    path = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{account}"
    change = {"spec": {"holderIdentity": ""}}
    admin.request("PATCH", path, change, content_type="application/merge-patch+json")


def kubeconfig_of_account(admin_kubeconfig: Path, admin: Actor, folder: Path, *, account: str) -> Path:
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


@dataclass
class ProgramProcess:
    """Starts, kills and restarts one of the two programs; `settings` are those of its file."""

    kubeconfig: Path
    log: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    supervised: bool = False
    """Whether it is started again when it loses its Lease, as by a kubelet: a busy machine may be late to renew."""
    process: subprocess.Popen[bytes] | None = None
    _hand: threading.RLock = field(default_factory=threading.RLock)
    """Whoever starts or ends it holds this."""
    _heard: tuple[int, int] = (0, 0)
    """A process, and its port."""

    account: ClassVar[str]
    module: ClassVar[str]
    defaults: ClassVar[Mapping[str, Any]]

    def start(self, *, wait: bool = True) -> None:
        """Start it; optionally wait until it is at work."""
        self.configure(json.dumps(self.written()))
        with self._hand:
            assert self.process is None, f"{self.account} runs already"
            self._spawn()
        if wait:
            eventually(self.at_work, because=self.tail, timeout=START_SECONDS)

    def written(self) -> dict[str, Any]:
        """The settings that it starts with."""
        fixed = {"httpHost": "127.0.0.1", "httpPort": 0, "namespace": NAMESPACE, "logFormat": "json"}
        return {**fixed, **self.defaults, **self.settings}

    def _interpreter(self) -> list[str]:
        """What its module's name follows on the command line."""
        return [sys.executable, "-m"]

    def _spawn(self) -> None:
        command = [*self._interpreter(), self.module]
        command += ["--kubeconfig", str(self.kubeconfig), "--config", str(self.config)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ALLOTMENT_")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        if self.supervised:
            threading.Thread(target=self._look_after, args=[self.process], daemon=True).start()

    def _look_after(self, process: subprocess.Popen[bytes]) -> None:
        """Start it again if it ends by losing its Lease; any other end is left for the test to find."""
        code = process.wait()
        with self._hand:
            if code == 1 and self.process is process and "the Lease is lost" in self.tail():
                self._spawn()

    @property
    def port(self) -> int:
        """Where the present process's HTTP server is, as its log says; 0 before it does."""
        process = self.process
        if process is None:
            return 0
        if self._heard[0] != process.pid:
            for line in self.lines():
                if line["message"] == "started" and line["identity"].rsplit("_", 2)[1] == str(process.pid):
                    self._heard = (process.pid, int(line["port"]))
        return self._heard[1] if self._heard[0] == process.pid else 0

    @property
    def config(self) -> Path:
        """Its file of settings."""
        return self.log.with_suffix(".yaml")

    def configure(self, text: str) -> None:
        """Replace its file of settings, in one step: it reads the file whenever it likes."""
        new = self.config.with_suffix(".new")
        new.write_text(text)
        new.replace(self.config)

    def at_work(self) -> bool:
        """Whether it holds the Lease and has listed everything."""
        with self._hand:
            assert self.process is not None
            ended = self.process.poll() is not None and not (self.supervised and "the Lease is lost" in self.tail())
        if ended:  # no use in waiting
            raise RuntimeError(f"{self.account} ended with {self.process.returncode}:\n{self.tail()}")
        return self._works()

    def _works(self) -> bool:
        raise NotImplementedError

    def get(self, path: str) -> str:
        """Fetch a page of its HTTP server; empty where it does not answer."""
        port = self.port
        if not port:
            return ""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
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
        if self.process is not None:
            self._end(signal.SIGKILL)

    def signal(self, number: int) -> None:
        """Send it a signal, and leave it to it."""
        assert self.process is not None
        self.process.send_signal(number)

    def lines(self) -> list[dict[str, Any]]:
        """All whole lines of its log so far."""
        if not self.log.exists():
            return []
        whole = self.log.read_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]

    def tail(self) -> str:
        """The end of its log, for a failing test's message."""
        return "\n".join(self.log.read_text().splitlines()[-30:]) if self.log.exists() else ""

    def _end(self, number: int) -> int:
        with self._hand:
            process, self.process = self.process, None
        assert process is not None, f"{self.account} does not run"
        process.send_signal(number)
        return process.wait(timeout=300)


class OperatorProcess(ProgramProcess):
    """`allotment-operator`."""

    account = "allotment-operator"
    module = "allotment_operator.main"
    defaults: ClassVar = {"leaseSeconds": 15, "resyncSeconds": 30}

    def _works(self) -> bool:
        return "allotment_operator_leader 1.0" in self.get("/metrics") and self.get("/readyz") == "ok\n"


class SchedulerProcess(ProgramProcess):
    """`allotment-scheduler`."""

    account = "allotment-scheduler"
    module = "allotment_scheduler.shell.main"
    defaults: ClassVar = {"leaseSeconds": 15, "statusSeconds": 1, "apiPort": 0}

    def _works(self) -> bool:
        return bool(self.status().get("leading"))

    def status(self) -> dict[str, Any]:
        """What /statusz says; empty where it does not answer."""
        text = self.get("/statusz")
        return dict(json.loads(text)) if text.startswith("{") else {}

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels, once the page answers: a busy machine may take its time."""
        page = str(eventually(lambda: self.get("/metrics"), because=self.tail))
        lines = [line for line in page.splitlines() if line.startswith("allotment_scheduler_" + name)]
        return sum(float(line.rpartition(" ")[2]) for line in lines)


def eventually(holds: Callable[[], Any], *, timeout: float = 300, because: Callable[[], Any] = lambda: "") -> Any:
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
            raise LateError(f"not after {timeout:.0f} s: {complaint or holds} {because()}")
        time.sleep(0.1)
