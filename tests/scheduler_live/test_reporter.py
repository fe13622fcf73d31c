"""What a pod is told, and that one that got a node meanwhile is not left with it."""

import random
from types import SimpleNamespace
from typing import Any, cast

import pytest

from allotment_kube import Client
from allotment_kube.resources import PODS
from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.explanation.explain import Why
from allotment_scheduler.core.state.cluster import ClusterState
from allotment_scheduler.shell.reporter import Reporter
from allotment_scheduler.shell.settings import Settings
from fakes.api_server import FakeApiServer
from fakes.faults import FaultPlan
from fakes.in_process import InProcessTransport

pytestmark = pytest.mark.looptime


def told(pod: dict[str, Any]) -> dict[str, Any]:
    return next(each for each in pod["status"]["conditions"] if each["type"] == "PodScheduled")


@pytest.mark.parametrize(
    ("node", "status", "reason"), [("", "False", "AboveLimit"), ("n1", "True", None)], ids=["waits", "bound meanwhile"]
)
async def test_a_pod_is_told_why_it_waits_unless_it_waits_no_more(node: str, status: str, reason: str | None) -> None:
    server = FakeApiServer()
    client = Client(InProcessTransport(server, FaultPlan()), rng=random.Random(1))
    spec = {"nodeName": node} if node else {}
    server.put(PODS, {"metadata": {"name": "p", "namespace": "a"}, "spec": spec, "status": {}})
    live = server.get(PODS, "p", "a")
    assert live is not None
    reporter = Reporter(
        cast("Any", SimpleNamespace(engine=Engine(ClusterState()), picture=SimpleNamespace(said=lambda _: None))),
        Settings,
        now=lambda: 0.0,
        publish=lambda _: None,
        failed=lambda: None,
    )

    await reporter._write(client, ("a", "p"), live["metadata"]["uid"], Why("AboveLimit", "8 of 8 cpu"), "AboveLimit")

    pod = server.get(PODS, "p", "a")
    assert pod is not None
    assert (told(pod)["status"], told(pod).get("reason")) == (status, reason)
