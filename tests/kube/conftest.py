"""A client on the fake API server, and one on the real one."""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator

import pytest

from allotment_kube import Client
from allotment_kube.resources import NAMESPACES
from fakes.api_server import FakeApiServer
from fakes.environments import Cluster, Fake, Live
from fakes.faults import FaultPlan
from fakes.in_process import InProcessTransport


@pytest.fixture
async def fake() -> AsyncIterator[Fake]:
    server = FakeApiServer(clock=asyncio.get_running_loop().time)
    plan = FaultPlan()
    transport = InProcessTransport(server, plan)
    yield Fake(server, plan, transport, Client(transport, rng=random.Random(1)))
    await transport.close()


@pytest.fixture
async def live(cluster: Cluster) -> AsyncIterator[Live]:
    namespace = f"kube-client-{uuid.uuid4().hex[:8]}"
    async with Client.connect(cluster.kubeconfig) as client:
        await client.create(NAMESPACES.untyped, {"metadata": {"name": namespace}})
        yield Live(client, namespace, cluster.kubeconfig)
        await client.delete(NAMESPACES, namespace)
