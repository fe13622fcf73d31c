"""A real broker, started once for all tests that meet one."""

from collections.abc import Iterator

import pytest

from builders.kafka_broker import Broker, running_broker


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One combined node in the way that the operator renders it."""
    with running_broker(tmp_path_factory.mktemp("kafka")) as running:
        yield running
