"""A cluster with real nodes as tests see it: kubectl with deadlines and readable failures.

Real programs take their time, and on a busy machine five times that. So a test waits for what it is about and never
asks once; deadlines are for what hangs, and a failure says what was there instead.
"""

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
import yaml

from allotment_local.real_node.fleet import Fleet
from builders.patience import LateError

T = TypeVar("T")


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

    def apply_once_admitted(self, *manifests: dict[str, Any], timeout: float = 240) -> None:
        """Apply to a tenant's new namespace: the API server learns its rules by a watch, and refuses till then."""
        end = time.monotonic() + timeout
        text = yaml.safe_dump_all(manifests)
        while (done := self.kubectl("apply", "--server-side", "-f", "-", stdin=text, check=False)).returncode:
            if time.monotonic() > end:
                raise LateError(f"still refused after {timeout:.0f} s: {done.stderr}")
            time.sleep(0.5)

    def make_namespace(self, name: str) -> None:
        """Create a namespace and wait until it takes pods: without a ServiceAccount the API server refuses them."""
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        self.wait("-n", name, "serviceaccount/default", "--for=create")

    def get(self, *args: str) -> Any:
        """One object, or a list of them, as JSON."""
        return json.loads(self.kubectl("get", *args, "-o", "json").stdout)

    def wait(self, *args: str, timeout: int = 240) -> None:
        """`kubectl wait` with a deadline; a failure shows the namespace's pods, events and logs."""
        namespace = next((args[i + 1] for i, arg in enumerate(args) if arg == "-n"), "default")
        self._succeed(namespace, "wait", *args, f"--timeout={timeout}s")

    def rolled_out(self, namespace: str, workload: str, *, timeout: int = 240) -> None:
        """Wait until a Deployment's or StatefulSet's pods are of its present template and ready."""
        self._succeed(namespace, "-n", namespace, "rollout", "status", workload, f"--timeout={timeout}s")

    def until(self, fits: Callable[[T], bool], ask: Callable[[], T], *, timeout: float = 240) -> T:
        """Ask until the answer fits, for what kubectl cannot wait for, and return it; a failure says the last one."""
        end = time.monotonic() + timeout
        while not fits(answer := ask()):
            if time.monotonic() > end:
                raise LateError(f"not so after {timeout:.0f} s, but {answer!s:.4000}")
            time.sleep(0.5)
        return answer

    def comes_to(self, wanted: object, ask: Callable[[], object], *, timeout: float = 240) -> None:
        """Ask until this is the answer."""
        self.until(lambda answer: answer == wanted, ask, timeout=timeout)

    def _succeed(self, namespace: str, *args: str) -> None:
        done = self.kubectl(*args, check=False)
        if done.returncode:
            state = self.kubectl("-n", namespace, "get", "allotment,pods,pvc", "-o", "wide", check=False).stdout
            events = self.kubectl("-n", namespace, "events", check=False).stdout
            pods = self.kubectl("-n", namespace, "get", "pods", "-o", "name", check=False).stdout.split()
            logs = [self.kubectl("-n", namespace, "logs", "--tail=20", pod, check=False).stdout for pod in pods]
            pytest.fail("\n".join([done.stderr, state, events, *logs]))

    def execute(self, namespace: str, pod: str, *command: str, check: bool = True) -> str:
        """Run a command in a pod and return its output."""
        return self.kubectl("-n", namespace, "exec", pod, "--", *command, check=check).stdout

    def run_python(self, namespace: str, pod: str, program: str) -> Any:
        """Run a Python program in a pod and return the JSON that it prints."""
        done = self.kubectl("-n", namespace, "exec", "--stdin", pod, "--", "python3", "-", stdin=program, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)
