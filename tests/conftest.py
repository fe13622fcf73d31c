"""Fixtures every test may use: a real control plane, shared by the whole run; and how a run is divided.

ALLOTMENT_TEST_KUBECONFIG names one that runs already; otherwise the run starts its own under a temporary folder and
takes it down at its end, however it ends.

`make test` has two workers, each with a control plane of its own: most tests wait for something, so that two of them
fill a machine of two cores better than one. A folder is never divided, because its tests share what they started.
"""

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest
from hypothesis.database import DirectoryBasedExampleDatabase
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from allotment_local.binaries import choose
from allotment_local.cluster import LocalCluster
from allotment_local.layout import Layout
from allotment_local.progress import reporter
from builders.patience import late_or_infrastructure

pytest_plugins = ["builders.left_open", "builders.one_release"]

# On Python 3.11 the first asyncio.get_event_loop() makes a loop that nobody closes, and pytest-asyncio asks before it
# sets its own. With a loop set once, be it none, that does not happen.
asyncio.set_event_loop(None)

# Every run draws the same examples: whether a change may land never depends on luck, and what fails fails again. The
# search for new ones is a run of its own (`make search`, `make soak`): it draws others each time, and keeps what it
# finds in .hypothesis until that passes. Whatever it finds becomes a plain test. How long examples take to draw and to
# run says something of the machine, and of who else uses it: it is held against nobody.
PATIENT = hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], print_blob=True)
hypothesis.settings.register_profile("repeatable", PATIENT, derandomize=True, database=None)
hypothesis.settings.register_profile(
    "search", PATIENT, derandomize=False, database=DirectoryBasedExampleDatabase(".hypothesis/examples")
)
hypothesis.settings.load_profile("repeatable")


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
def cluster_state() -> Iterator[Path]:
    """A temporary folder for clusters; pytest's own would keep the last three runs' logs and data."""
    path = Path(tempfile.mkdtemp(prefix="allotment-test-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def local_cluster(cluster_state: Path) -> Iterator[LocalCluster]:
    """The run's own local cluster; down again when the run ends, also by kill -9."""
    with reporter() as progress:
        running = LocalCluster("test", state=cluster_state, progress=progress)
        running.up(tied_to_us=True)
    try:
        yield running
    finally:
        running.down()


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """The control plane that tests share: unique namespaces, and nothing cluster-wide left behind."""
    given = os.environ.get("ALLOTMENT_TEST_KUBECONFIG")
    if given:
        with reporter() as progress:
            binaries = choose(layout=Layout.from_environment(), progress=progress)
        return Cluster(Path(given), tuple(binaries["kubectl"]))
    running: LocalCluster = request.getfixturevalue("local_cluster")
    return Cluster(running.kubeconfig, tuple(running.specification.binaries["kubectl"]))


LONGEST_FIRST = (
    "demo",
    *("admission", "tenancy", "chart"),
    *("scheduler_live", "services_kafka", "services_cassandra", "local_cluster"),
)
"""Folders that take long: begun first, so that no worker is left with one of them at the end."""

ON_ONE_WORKER = {"admission": "chart", "tenancy": "chart"}
"""Folders that install the chart, of which a cluster holds one; the tests of the chart itself then take it away, and
whatever the worker runs next meets no policies."""


class ByFolder(LoadScopeScheduling):  # type: ignore[misc] # pytest-xdist publishes no types
    """Hands the tests to the workers folder by folder."""

    def _split_scope(self, nodeid: str) -> str:
        folder = Path(nodeid.partition("::")[0]).parent.name
        return ON_ONE_WORKER.get(folder, folder)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFolder:
    """Divide the run by folders, whatever the command line says."""
    return ByFolder(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what takes long first, and real nodes last; mark what speaks to a cluster.

    A real control plane on a busy machine can be late beyond every patience. If nothing else is wrong, such a test is
    tried once more, and the summary names it. What was seen to be wrong counts at once, and pure tests get no such try.
    """
    rank = {folder: index for index, folder in enumerate(LONGEST_FIRST)}
    items.sort(
        key=lambda item: (bool(item.get_closest_marker("real_node")), rank.get(item.path.parent.name, len(rank)))
    )
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if "cluster" in fixtures or "local_cluster" in fixtures:
            item.add_marker(pytest.mark.cluster)
        if any(item.get_closest_marker(name) for name in ("cluster", "real_node")):
            if item.get_closest_marker("flaky") is None:
                item.add_marker(pytest.mark.flaky(reruns=1, reruns_delay=5, condition=late_or_infrastructure))
            # The first one starts the control plane; and a limit is for what hangs, not for what is slow.
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(1800))
