"""Fixtures of every test that needs the chart on the shared cluster: the one release, and its API server's client.

A cluster holds the chart once, so all folders share these, for the whole run.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from builders.api_server import Actor, ApiServer
from builders.helm_chart import Release


class ClusterLike(Protocol):
    """What these fixtures need of the shared fixture `cluster`."""

    @property
    def kubeconfig(self) -> Path: ...


@pytest.fixture(scope="session")
def only_release(cluster: ClusterLike) -> Iterator[Release]:
    """The cluster's one release, taken away when the run is over."""
    release = Release(cluster.kubeconfig)
    yield release
    release.uninstall()


@pytest.fixture(scope="session")
def api(cluster: ClusterLike) -> Iterator[ApiServer]:
    api = ApiServer(cluster.kubeconfig)
    yield api
    api.close()


@pytest.fixture(scope="session")
def admin(api: ApiServer) -> Actor:
    return api.admin()
