"""The scheduler as a process of its own, with its ServiceAccount's token and nothing more."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builders.operator_process import NAMESPACE, eventually

ACCOUNT = "allotment-scheduler"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class SchedulerProcess:
    """Starts, kills and restarts `allotment-scheduler`."""

    kubeconfig: Path
    log: Path
    settings: dict[str, Any] = field(default_factory=dict)
    port: int = field(default_factory=_free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: bool = True) -> None:
        """Start it; optionally wait until it leads."""
        assert self.process is None, "the scheduler runs already"
        given = {
            "leaseSeconds": 6,
            "statusSeconds": 1,
            "httpHost": "127.0.0.1",
            "httpPort": self.port,
            "namespace": NAMESPACE,
            "logFormat": "json",
            **self.settings,
        }
        config = self.log.with_suffix(".yaml")
        config.write_text(json.dumps(given))
        command = [sys.executable, "-m", "allotment_scheduler.shell.main"]
        command += ["--kubeconfig", str(self.kubeconfig), "--config", str(config)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ALLOTMENT_")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        if wait:
            eventually(self.leads, because=self.tail)

    def leads(self) -> bool:
        """Whether it holds the Lease and decides."""
        assert self.process is not None
        if self.process.poll() is not None:  # no use in waiting
            raise RuntimeError(f"the scheduler ended with {self.process.returncode}:\n{self.tail()}")
        return bool(self.status().get("leading"))

    def status(self) -> dict[str, Any]:
        """What /statusz says; empty where it does not answer."""
        text = self.get("/statusz")
        return dict(json.loads(text)) if text.startswith("{") else {}

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        lines = [line for line in self.get("/metrics").splitlines() if line.startswith("allotment_scheduler_" + name)]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

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
        if self.process is not None:
            self._end(signal.SIGKILL)

    def signal(self, number: int) -> None:
        """Send it a signal, and leave it to it."""
        assert self.process is not None
        self.process.send_signal(number)

    def lines(self) -> list[dict[str, Any]]:
        """All lines of its log so far."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def tail(self) -> str:
        """The end of its log, for a failing test's message."""
        return "\n".join(self.log.read_text().splitlines()[-30:]) if self.log.exists() else ""

    def _end(self, number: int) -> int:
        process, self.process = self.process, None
        assert process is not None, "the scheduler does not run"
        process.send_signal(number)
        return process.wait(timeout=30)
