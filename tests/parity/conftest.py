"""One kube-scheduler for all tests of this folder, with an API server of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from parity.kube_scheduler import Peer, running


@pytest.fixture(scope="session")
def peer(cluster_state: Path) -> Iterator[Peer]:
    """The real kube-scheduler; down again when the run ends, also by kill -9."""
    with running(cluster_state) as found:
        yield found
