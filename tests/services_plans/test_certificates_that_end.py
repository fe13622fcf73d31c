"""A service whose pods wait for months: its certificate is renewed, and the old one's end is not waited for."""

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest

from allotment_operator.plans.actions import ObjectRef
from allotment_operator.plans.outcome import Health
from builders import cassandra_node, kafka_broker
from builders.services import NOW, World, custom

EXPIRED = Health(ready=False, reason="LoginRefused", message="CERTIFICATE_VERIFY_FAILED: certificate has expired")


def kafka(health: Health) -> World:
    pools = [{"name": "main", "replicas": 3}]
    world = World(kafka_broker.cluster_kind(), custom("KafkaCluster", "trades", pools=pools))
    world.deploy(health=health)
    return world


def cassandra(health: Health) -> World:
    world = World(cassandra_node.cluster_kind(), custom("CassandraCluster", "ledger", size=3))
    world.health = health
    world.deploy(rounds=8, health=health)
    return world


@pytest.fixture(params=[kafka, cassandra])
def world(request: pytest.FixtureRequest) -> World:
    """Three pods that serve."""
    make: Callable[[Health], World] = request.param
    details = {"secured": True, "schemas": 1}
    return make(Health(ready=True, reason="Serves", message="It serves.", details=details))


def certificates(world: World) -> dict[str, Any]:
    return {
        name: each["data"]["tls.crt"] for name, each in world.of_kind("Secret").items() if "tls.crt" in each["data"]
    }


def lose_one(world: World) -> str:
    """One pod is evicted, and made anew where nothing has room for it."""
    name = [*world.of_kind("Pod")][-1]
    del world.objects[ObjectRef("v1", "Pod", "payments", name)]
    for ref, each in world.objects.items():
        if ref.kind == "Pod":
            each["spec"]["nodeName"] = "node-1"
    world.run_pods(node="")
    return name


def live(world: World, *days: float) -> None:
    """Run a round on each of these days, counted from the beginning; what is restarted finds no room, either."""
    for day in days:
        world.now = NOW + dt.timedelta(days=day)
        world.round()
        world.run_pods(node="")


def test_it_is_renewed_while_a_pod_waits(world: World) -> None:
    before = certificates(world)
    lose_one(world)

    live(world, 100, 250, 251, 252, 253)

    assert all(certificates(world)[name] != each for name, each in before.items())
    assert "are to be restarted; waiting until all serve (2 of 3 do)" in world.condition("Progressing")["message"]


def test_people_are_warned_a_month_before_it_ends(world: World) -> None:
    waits = lose_one(world)
    live(world, 250, 251, 252, 330)
    assert "runs out" not in world.condition("Degraded")["message"]

    live(world, 340)

    degraded = world.condition("Degraded")
    assert (degraded["status"], degraded["reason"]) == ("True", "WaitingForPods")
    assert "runs out at 2027-" in degraded["message"]
    assert {ref.name for ref in world.deleted} <= {waits}


def test_on_its_last_day_the_others_are_restarted_all_the_same(world: World) -> None:
    waits = lose_one(world)

    live(world, 250, 251, 252, 363, 364.2, 364.3, 364.4, 364.5)

    restarted = [ref.name for ref in world.deleted if ref.kind == "Pod"]
    assert set(restarted) - {waits} == set(world.of_kind("Pod")) - {waits}
    assert len(restarted) == len(set(restarted))


def test_a_service_that_was_left_alone_too_long_comes_back(world: World) -> None:
    """As after a year of pause: the pods run, and nobody believes them; asking says no for ever."""
    world.now += dt.timedelta(days=400)
    world.health = EXPIRED

    for _ in range(8):
        world.round()
        world.run_pods()

    assert {ref.name for ref in world.deleted if ref.kind == "Pod"} == set(world.of_kind("Pod"))
