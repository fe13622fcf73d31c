"""Where the API server is, as the cluster publishes it, and how a move is noticed."""

import asyncio
from typing import Any

import pytest

from allotment_kube.client import Client
from allotment_kube.resources import SERVICES
from allotment_operator.api_server import ENDPOINT_SLICES, ApiServer, places
from fakes.api_server import FakeApiServer
from fakes.in_process import InProcessTransport


def service(*addresses: str) -> dict[str, Any]:
    ports = [{"name": "https", "port": 443, "protocol": "TCP"}]
    return {
        "metadata": {"name": "kubernetes", "namespace": "default"},
        "spec": {"clusterIPs": list(addresses), "ports": ports},
    }


def endpoints(*addresses: str, name: str = "kubernetes") -> dict[str, Any]:
    labels = {"kubernetes.io/service-name": name}
    return {
        "metadata": {"name": name, "namespace": "default", "labels": labels},
        "endpoints": [{"addresses": [each]} for each in addresses],
        "ports": [{"name": "https", "port": 6443, "protocol": "TCP"}],
    }


@pytest.mark.parametrize(
    ("services", "slices", "want"),
    [
        ([service("10.96.0.1")], [endpoints("192.0.2.7")], (("10.96.0.1", 443), ("192.0.2.7", 6443))),
        ([service("10.96.0.1", "fd00::1")], [], (("10.96.0.1", 443), ("fd00::1", 443))),
        ([service("None")], [endpoints("api.example.com")], ()),
        ([], [], ()),
        ([{"metadata": {"name": "kubernetes"}}], [{"metadata": {"name": "kubernetes"}, "endpoints": None}], ()),
    ],
    ids=["both sides", "two families", "no addresses", "nothing published", "empty objects"],
)
def test_addresses_of_the_service_and_of_what_is_behind_it_count(
    services: list[Any], slices: list[Any], want: tuple[Any, ...]
) -> None:
    assert places(services, slices) == want


@pytest.mark.looptime
async def test_a_move_of_the_control_plane_is_told_once() -> None:
    server = FakeApiServer()
    server.register(SERVICES)
    server.register(ENDPOINT_SLICES)
    server.put(SERVICES, service("10.96.0.1"))
    server.put(ENDPOINT_SLICES, endpoints("192.0.2.7"))
    server.put(ENDPOINT_SLICES, endpoints("192.0.2.99", name="other"))
    moves: list[tuple[tuple[str, int], ...]] = []
    watched = ApiServer(Client(InProcessTransport(server)), changed=lambda: moves.append(watched.places()))
    running = asyncio.create_task(watched.run())
    await watched.synced()
    assert watched.places() == (("10.96.0.1", 443), ("192.0.2.7", 6443))
    moves.clear()

    server.put(ENDPOINT_SLICES, endpoints("192.0.2.8"))
    server.put(ENDPOINT_SLICES, {**endpoints("192.0.2.8"), "extra": "x"})
    await asyncio.sleep(1)  # of the loop's own time

    assert moves == [(("10.96.0.1", 443), ("192.0.2.8", 6443))]
    running.cancel()
