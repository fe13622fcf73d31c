"""One cluster with three real nodes for all tests of this folder; down again when the run ends, also by kill -9.

The tests need root, containers and some minutes of preparation, so they run only where ALLOT_REAL_NODE=1 asks for them.
Whoever asks gets failures, not skips: a machine that lacks something fails the first test with what it lacks.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from allotment_local.cluster import LocalCluster
from allotment_local.pools import Pool, PoolFile
from allotment_local.progress import reporter
from allotment_local.real_node.fleet import Fleet
from allotment_local.real_node.images import recipes
from builders import real_platform, service_clients
from builders.machine import Machine
from builders.real_cluster import RealCluster

NODES = 3

_TIMEOUT = 2400
"""Seconds for a test and its fixtures: the first one makes the images where that was not done before."""


@pytest.fixture(scope="session")
def real_cluster(cluster_state: Path, request: pytest.FixtureRequest) -> Iterator[RealCluster]:
    """Three real nodes and two simulated ones; after them the machine is as it was."""
    before = Machine.look()
    simulated = PoolFile(pools=(Pool(name="simulated", count=2, cpu="8", memory="32Gi"),))
    images = [recipes.kafka(), recipes.allotment(), service_clients.image(service_clients.KAFKA_CLIENT)]
    if any(item.get_closest_marker("soak") for item in request.session.items):
        images += [recipes.cassandra(), recipes.spark(), service_clients.image(service_clients.CASSANDRA_CLIENT)]
    with reporter() as progress:
        fleet = Fleet(LocalCluster("real", state=cluster_state, progress=progress), progress=progress)
        fleet.up(count=NODES, images=images, pools=simulated, tied_to_us=True)
    try:
        yield RealCluster(fleet)
    finally:
        fleet.cluster.down()
    assert Machine.left_since(before) == {}


@pytest.fixture(scope="session")
def platform(real_cluster: RealCluster) -> RealCluster:
    """The cluster with Allotment on it: the chart's programs as pods, and the bank's tenants."""
    real_platform.install(real_cluster)
    real_platform.settle_bank(real_cluster)
    return real_cluster


@pytest.fixture
def namespace(real_cluster: RealCluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own."""
    name = request.node.name.removeprefix("test_").replace("_", "-")[:50].strip("-")
    real_cluster.make_namespace(name)
    yield name
    real_cluster.kubectl("delete", "namespace", name, "--wait=false")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give real nodes their time; skip what runs containers where nobody asked for it.

    They go last, so that no other test shares the machine with them; and of them those first that compare the whole
    machine before and after: then no other node's pods come and go meanwhile.
    """
    items.sort(key=lambda item: (item.get_closest_marker("real_node") is not None, item.path.name != "test_machine.py"))
    asked = os.environ.get("ALLOT_REAL_NODE") == "1"
    for item in items:
        if item.get_closest_marker("real_node") is None:
            continue
        if asked:
            item.add_marker(pytest.mark.timeout(_TIMEOUT))
        else:
            item.add_marker(pytest.mark.skip(reason="runs real containers as root: set ALLOT_REAL_NODE=1"))
