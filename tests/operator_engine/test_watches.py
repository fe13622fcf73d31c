"""Events about children queue their owners; nodes tell whether they are simulated."""

import asyncio
from typing import Any

import pytest

from allotment_api.labels import API_VERSION
from allotment_kube.client import Client
from allotment_kube.resources import NODES, PODS, Resource
from allotment_operator.kind import Key
from allotment_operator.reconcile.queue import WorkQueue
from allotment_operator.watches import CHILDREN, ChildWatches, Nodes
from fakes.api_server import FakeApiServer
from fakes.in_process import InProcessTransport

pytestmark = pytest.mark.looptime

POLICIES = Resource.custom(API_VERSION, "TenantPolicy", "tenantpolicies")


def child(name: str, kind: str, owner: str) -> dict[str, Any]:
    labels = {
        "app.kubernetes.io/managed-by": "allotment",
        "allotment.dev/kind": kind,
        "allotment.dev/instance": owner,
    }
    return {"metadata": {"name": name, "namespace": "pay", "labels": labels}}


async def queued(server: FakeApiServer, *, known: set[Key]) -> set[Key]:
    """What is queued while the watches run."""
    for resource in CHILDREN:
        server.register(resource)
    queue: WorkQueue[Key] = WorkQueue()
    watches = ChildWatches(Client(InProcessTransport(server)), queue, known=known.__contains__)
    running = asyncio.create_task(watches.run())
    await watches.synced()
    found = set()
    while len(queue):
        key = await queue.take()
        queue.done(key)
        found.add(key)
    running.cancel()
    return found


async def test_a_child_queues_its_owner_where_that_exists() -> None:
    server = FakeApiServer()
    server.put(PODS, child("events-0", "KafkaCluster", "events"))
    server.put(PODS, child("copied", "KafkaCluster", "nobody"))
    server.put(PODS, {"metadata": {"name": "stranger", "namespace": "pay"}})
    events = Key("KafkaCluster", "pay", "events")

    assert await queued(server, known={events}) == {events}


async def test_a_tenants_child_queues_the_tenant_which_has_no_namespace() -> None:
    server = FakeApiServer()
    server.register(POLICIES)
    server.put(POLICIES, child("allotment", "Tenant", "payments"))
    tenant = Key("Tenant", "", "payments")

    assert await queued(server, known={tenant}) == {tenant}


async def test_nodes_that_exist_in_the_api_only_are_simulated() -> None:
    server = FakeApiServer()
    server.put(NODES, {"metadata": {"name": "real"}})
    server.put(NODES, {"metadata": {"name": "fake", "annotations": {"kwok.x-k8s.io/node": "fake"}}})
    nodes = Nodes(Client(InProcessTransport(server)))
    running = asyncio.create_task(nodes.run())
    await nodes.synced()

    assert nodes.simulated("fake")
    assert not nodes.simulated("real")
    assert not nodes.simulated("unknown")

    server.remove(NODES, "fake")
    server.put(NODES, {"metadata": {"name": "real", "annotations": {"kwok.x-k8s.io/node": "fake"}}})
    await asyncio.sleep(1)
    assert not nodes.simulated("fake")
    assert nodes.simulated("real")
    running.cancel()
