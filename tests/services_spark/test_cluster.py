"""A standing cluster: what is rendered, and when it is called ready."""

import base64
import datetime as dt
from collections.abc import Mapping
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from allotment_api.conditions import find
from allotment_api.spark import SparkCluster
from allotment_operator.kind import ServiceUnavailableError
from allotment_operator.plans.actions import Apply, EnsureCredential, ObjectRef
from allotment_operator.plans.outcome import Health, Observed, TenantView
from allotment_operator.services.spark.cluster import SparkClusterKind
from allotment_operator.services.spark.master import HttpMaster, judge
from builders.services import World, custom

NOW = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
TENANT = TenantView("research", guaranteed=frozenset({"cpu", "memory"}))
SECRET = ObjectRef("v1", "Secret", "research", "lab-spark-cluster")


class SilentMaster:
    async def state(self, host: str, port: int) -> dict[str, Any]:
        raise ServiceUnavailableError(f"{host}:{port} does not answer")


def kind(*, simulated: bool = False) -> SparkClusterKind:
    return SparkClusterKind(simulated=lambda _: simulated, master=SilentMaster(), operator_namespace="allotment")


def cluster(**spec: Any) -> SparkCluster:
    metadata = {"name": "lab", "namespace": "research", "uid": "7"}
    return SparkCluster.parse(
        {"apiVersion": "allotment.dev/v1alpha1", "kind": "SparkCluster", "metadata": metadata, "spec": spec}
    )


def secret() -> dict[ObjectRef, Mapping[str, Any]]:
    data = {"password": base64.b64encode(b"s" * 48).decode()}
    return {SECRET: {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "lab-spark-cluster"}, "data": data}}


def pod(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "research"},
        "spec": {"nodeName": "n1"},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }


def rendered(observed: Observed, **spec: Any) -> dict[str, Mapping[str, Any]]:
    outcome = kind().plan(cluster(**spec), observed, now=NOW)
    return {
        f"{action.ref.kind}/{action.ref.name}": action.manifest
        for action in outcome.actions
        if isinstance(action, Apply)
    }


def test_the_secret_comes_first_and_the_pods_only_with_it() -> None:
    outcome = kind().plan(cluster(), Observed(tenant=TENANT), now=NOW)

    assert isinstance(outcome.actions[0], EnsureCredential)
    assert not any(isinstance(each, Apply) and each.ref.kind == "StatefulSet" for each in outcome.actions)
    assert "StatefulSet/lab-worker" in rendered(Observed(children=secret(), tenant=TENANT))


def test_the_secret_itself_is_in_no_object_but_the_secret() -> None:
    assert "s" * 48 not in str(rendered(Observed(children=secret(), tenant=TENANT)))


def test_the_submission_port_that_takes_jobs_from_anybody_is_off() -> None:
    properties = rendered(Observed(children=secret(), tenant=TENANT))["ConfigMap/lab-spark-cluster"]["data"][
        "spark.properties"
    ]

    assert "spark.master.rest.enabled=false" in properties
    assert "spark.authenticate=true" in properties


def test_every_port_of_every_pod_is_open_to_whom_it_serves_and_to_nobody_else() -> None:
    objects = rendered(Observed(children=secret(), tenant=TENANT))
    rules = objects["NetworkPolicy/lab-spark-cluster"]["spec"]["ingress"]

    served = {port["port"] for name in ("master", "worker") for port in objects[f"Service/lab-{name}"]["spec"]["ports"]}
    opened = {port["port"] for rule in rules for port in rule["ports"]}
    assert served <= opened
    assert all(rule.get("from") for rule in rules)


def test_workers_scale_and_their_requests_follow_what_they_offer() -> None:
    workers = {"replicas": 5, "cores": 4, "memory": "8g", "gpu": {"quantity": 2}}
    spec = rendered(Observed(children=secret(), tenant=TENANT), workers=workers)["StatefulSet/lab-worker"]["spec"]

    assert spec["replicas"] == 5
    assert spec["template"]["spec"]["containers"][0]["resources"]["requests"] == {
        "cpu": "4",
        "memory": "9011Mi",
        "nvidia.com/gpu": "2",
    }


@pytest.mark.parametrize(
    ("before", "after", "restarted"),
    [
        ("apache/spark:4.0.0", "docker.io/apache/spark:4.0.0", False),
        ("docker.io/apache/spark:4.0.0", "apache/spark:4.0.0", False),
        ("spark:4.0.0", "docker.io/library/spark:4.0.0", False),
        ("docker.io/spark:4.0.0", "spark:4.0.0", False),
        ("apache/spark:4.0.0", "apache/spark:4.0.1", True),
        ("apache/spark:4.0.0", "registry.bank:5000/apache/spark:4.0.0", True),
    ],
)
def test_the_same_image_in_another_spelling_restarts_nothing(before: str, after: str, restarted: bool) -> None:
    world = World(kind(), custom("SparkCluster", "lab", image=before))
    world.deploy()
    assert len(world.of_kind("Pod")) > 1
    world.edit(lambda spec: spec.update(image=after))

    for _ in range(3):
        world.round()
        world.run_pods()

    template = world.of_kind("StatefulSet")["lab-master"]["spec"]["template"]
    assert template["spec"]["containers"][0]["image"] == after
    assert ("Pod" in [ref.kind for ref in world.deleted]) == restarted


def test_planning_twice_plans_the_same() -> None:
    observed = Observed(children=secret(), tenant=TENANT)

    assert kind().plan(cluster(), observed, now=NOW) == kind().plan(cluster(), observed, now=NOW)


async def test_on_simulated_nodes_readiness_is_called_simulated() -> None:
    pods = [pod("lab-master-0"), *(pod(f"lab-worker-{each}") for each in range(3))]
    observed = Observed(children={**secret(), **{ObjectRef.of(each): each for each in pods}}, tenant=TENANT)
    health = await kind(simulated=True).probe(cluster(), observed)
    outcome = kind().plan(cluster(), Observed(observed.children, TENANT, health), now=NOW)

    ready = find(outcome.conditions, "Ready")
    assert ready is not None
    assert (ready.status, ready.reason, "simulated" in ready.message) == ("True", "PodsReadySimulated", True)


async def test_a_master_that_does_not_answer_makes_the_cluster_unready() -> None:
    master = pod("lab-master-0")
    observed = Observed(children={ObjectRef.of(master): master}, tenant=TENANT)

    health = await kind().probe(cluster(), observed)

    assert health is not None
    assert (health.ready, health.reason) == (False, "MasterUnreachable")


@pytest.mark.parametrize(
    ("state", "workers", "wanted"),
    [
        ({"status": "ALIVE", "aliveworkers": 3, "cores": 6, "coresused": 2}, 3, (True, "MasterServes")),
        ({"status": "ALIVE", "aliveworkers": 1, "cores": 2}, 3, (True, "MasterServes")),
        ({"status": "ALIVE", "aliveworkers": 0}, 3, (False, "NoWorkers")),
        ({"status": "ALIVE", "aliveworkers": 0}, 0, (True, "MasterServes")),
        ({"status": "RECOVERING", "aliveworkers": 3}, 3, (False, "MasterNotLeading")),
    ],
    ids=["all workers", "some workers", "no worker", "none asked for", "not leading"],
)
def test_a_master_is_judged_by_its_own_words(state: dict[str, Any], workers: int, wanted: tuple[bool, str]) -> None:
    health: Health = judge(state, workers=workers)

    assert (health.ready, health.reason) == wanted


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param("<html>", id="a page"),
        pytest.param("[]", id="a list"),
        pytest.param("{}", id="another program"),
        pytest.param('{"aliveworkers": "many"}', id="no number"),
        pytest.param('{"aliveworkers": 1, "cores": Infinity}', id="no number that counts anything"),
        pytest.param("[" * 200_000, id="made to exhaust the reader"),
    ],
)
async def test_what_is_no_master_is_unavailable(answer: str) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(text=answer)

    app = web.Application()
    app.router.add_get("/json/", handler)
    async with TestServer(app) as server:
        assert server.port is not None
        with pytest.raises(ServiceUnavailableError, match="not answer as a Spark master"):
            await HttpMaster().state("127.0.0.1", server.port)
