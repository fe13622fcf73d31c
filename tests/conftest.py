"""Fixtures every test may use: a real control plane, shared by the whole run."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Cluster:
    """A running control plane with its administrator's kubeconfig."""

    kubeconfig: Path
    kubectl_command: tuple[str, ...]

    def kubectl(self, *args: str, stdin: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run kubectl as the administrator; its output is in the result."""
        done = subprocess.run(
            [*self.kubectl_command, "--kubeconfig", str(self.kubeconfig), *args],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode:
            pytest.fail(f"kubectl {' '.join(args)}: {done.stderr}")
        return done

    def apply(self, manifests: str) -> None:
        """Apply a YAML stream on the server's side."""
        self.kubectl("apply", "--server-side", "-f", "-", stdin=manifests)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Yield the control plane that ALLOTMENT_TEST_KUBECONFIG names."""
    kubeconfig = Path(os.environ["ALLOTMENT_TEST_KUBECONFIG"])
    yield Cluster(kubeconfig, ("/tmp/gobuild/allotment-controlplane", "kubectl"))  # noqa: PT022 - replaced soon
