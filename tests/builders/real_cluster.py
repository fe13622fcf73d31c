"""A cluster with real nodes as tests see it: kubectl with deadlines and readable failures."""

import subprocess
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from allotment_local.real_node.fleet import Fleet


@dataclass(frozen=True)
class RealCluster:
    """A running cluster with real nodes."""

    fleet: Fleet

    def kubectl(self, *args: str, stdin: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run kubectl as the administrator."""
        return self.fleet.cluster.kubectl(*args, stdin=stdin, check=check)

    def apply(self, *manifests: dict[str, Any]) -> None:
        """Apply manifests on the server's side."""
        self.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(manifests))

    def get(self, *args: str) -> Any:
        """One object, or a list of them, as JSON."""
        return yaml.safe_load(self.kubectl("get", *args, "-o", "json").stdout)

    def wait(self, *args: str, timeout: int = 60) -> None:
        """`kubectl wait` with a deadline; a failure shows the namespace's pods, events and logs."""
        done = self.kubectl("wait", *args, f"--timeout={timeout}s", check=False)
        if done.returncode:
            namespace = next((args[i + 1] for i, arg in enumerate(args) if arg == "-n"), "default")
            state = self.kubectl("-n", namespace, "get", "pods,pvc", "-o", "wide", check=False).stdout
            events = self.kubectl("-n", namespace, "events", check=False).stdout
            pods = self.kubectl("-n", namespace, "get", "pods", "-o", "name", check=False).stdout.split()
            logs = [self.kubectl("-n", namespace, "logs", "--tail=20", pod, check=False).stdout for pod in pods]
            pytest.fail("\n".join([done.stderr, state, events, *logs]))

    def execute(self, namespace: str, pod: str, *command: str, check: bool = True) -> str:
        """Run a command in a pod and return its output."""
        return self.kubectl("-n", namespace, "exec", pod, "--", *command, check=check).stdout
