"""A real Cassandra node, started once for all tests that meet one."""

from collections.abc import Iterator

import pytest

from builders.cassandra_node import Node, running_node


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A ring of one node in the way that the operator renders it."""
    with running_node(tmp_path_factory.mktemp("cassandra")) as running:
        yield running
