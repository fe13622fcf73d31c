"""What a CassandraCluster becomes: by default, in its variations, and when it changes."""

import base64
import copy
import functools
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from allotment_api.cassandra import CassandraClusterSpec
from allotment_operator.kind import ServiceRefusedError
from allotment_operator.plans.actions import Invoke
from allotment_operator.plans.outcome import Health
from allotment_operator.services.cassandra.admin import RingState
from allotment_operator.services.cassandra.cql import CqlLogin
from allotment_operator.services.cassandra.ring import spread
from builders.cassandra_node import cluster_kind
from builders.service_checks import ALL_CHECKS, assert_goes_completely, everything, leaf_paths
from builders.services import RETAIL, World, custom, without_guarantee

SERVES = Health(ready=True, reason="NodesServe", message="They serve.", details={"secured": True, "schemas": 1})
UNEVEN = {"size": 5, "racks": [{"name": "a", "nodeSelector": {"zone": "a"}}, {"name": "b"}]}


def cassandra(**spec: Any) -> World:
    return World(cluster_kind(), custom("CassandraCluster", "ledger", **spec))


def deployed(**spec: Any) -> World:
    world = cassandra(**spec)
    world.health = SERVES
    world.deploy(rounds=8, health=SERVES)
    return world


def settings_of(world: World) -> dict[str, Any]:
    settings: dict[str, Any] = yaml.safe_load(world.of_kind("ConfigMap")["ledger-config"]["data"]["cassandra.yaml"])
    return settings


@pytest.mark.parametrize("check", ALL_CHECKS)
@pytest.mark.parametrize("spec", [{}, UNEVEN], ids=["bare", "uneven racks"])
def test_what_holds_of_every_service_holds_of_cassandra(check: Callable[[World], None], spec: dict[str, Any]) -> None:
    check(deployed(**spec))


@pytest.mark.parametrize(("policy", "retained"), [("Retain", True), ("Delete", False)])
def test_deleting_a_cluster_leaves_its_volumes_only_where_they_are_to_be_retained(policy: str, retained: bool) -> None:
    assert_goes_completely(deployed(storage={"deletionPolicy": policy}), retained=retained)


def test_a_bare_cluster_encrypts_and_authenticates_everywhere() -> None:
    settings = settings_of(deployed())

    assert settings["server_encryption_options"]["internode_encryption"] == "all"
    assert settings["server_encryption_options"]["require_client_auth"] is True
    assert settings["client_encryption_options"]["enabled"] is True
    assert settings["client_encryption_options"]["optional"] is False
    assert settings["authenticator"] == "PasswordAuthenticator"
    assert settings["authorizer"] == "CassandraAuthorizer"


def test_nodes_join_one_after_the_other_round_the_racks() -> None:
    world = cassandra(size=5)
    world.health = SERVES
    joined: list[str] = []
    for _ in range(12):
        world.round()
        world.run_pods()
        new = [name for name in world.of_kind("Pod") if name not in joined]
        assert len(new) <= 1
        joined += new
    assert joined == [f"ledger-{pod}" for pod in ("r1-0", "r2-0", "r3-0", "r1-1", "r2-1")]


def test_the_next_node_waits_for_the_last_and_says_for_which() -> None:
    world = cassandra()
    for _ in range(3):
        world.round()
        world.run_pods(ready=False)

    assert set(world.of_kind("Pod")) == {"ledger-r1-0"}
    assert "ledger-r2-0 joins once ledger-r1-0 serves." in world.condition("Progressing")["message"]


def test_a_first_rack_is_no_cluster_yet_and_a_whole_one_stays_ready_while_it_grows() -> None:
    world = cassandra()
    world.health = SERVES
    said: list[tuple[int, str]] = []
    for _ in range(8):
        world.round()
        ready = sum(each["status"]["conditions"][0]["status"] == "True" for each in world.of_kind("Pod").values())
        said.append((ready, world.condition("Ready")["status"]))
        world.run_pods()

    assert {answer for ready, answer in said if ready < 3} == {"False"}
    assert said[-1] == (3, "True")

    world.manifest["spec"]["size"] = 6
    world.round()
    world.run_pods(ready=False)
    world.round()
    assert world.condition("Ready")["status"] == "True"


def test_no_fourth_node_joins_while_everybody_knows_the_superusers_password() -> None:
    world = cassandra(size=4)
    world.health = Health(ready=False, reason="DefaultPassword", message="It is still there.", details={"nodes": 3})
    for _ in range(8):
        world.round()
        world.run_pods()

    assert len(world.of_kind("Pod")) == 3
    assert "superuser has been replaced" in world.condition("Progressing")["message"]


@pytest.mark.parametrize("reason", ["DefaultPassword", "LoginRefused"])
def test_the_default_superuser_is_replaced_before_the_tenant_may_connect(reason: str) -> None:
    world = cassandra()
    for _ in range(6):
        world.round()
        world.run_pods()
    world.health = Health(ready=False, reason=reason, message="It is still there.")

    world.round()

    assert world.invoked
    assert {action.operation for action in world.invoked} == {"replace-default-superuser"}
    (_, cql) = world.of_kind("NetworkPolicy")["ledger-ring"]["spec"]["ingress"]
    assert "allotment.dev/tenant" not in str(cql)

    world.health = SERVES
    world.round()
    (_, cql) = world.of_kind("NetworkPolicy")["ledger-ring"]["spec"]["ingress"]
    assert "'allotment.dev/tenant': 'retail'" in str(cql)


def test_a_later_outage_neither_closes_the_network_nor_touches_the_superuser() -> None:
    world = deployed()
    world.health = Health(ready=False, reason="NodesUnreachable", message="Nobody answers.")
    world.round()
    world.round()

    assert not world.invoked
    assert "retail" in str(world.of_kind("NetworkPolicy")["ledger-ring"]["spec"]["ingress"])
    assert world.condition("Degraded")["status"] == "True"


def test_a_rack_added_later_is_no_seed() -> None:
    world = deployed()
    racks = [{"name": f"r{number}"} for number in (1, 2, 3, 4)]
    world.edit(lambda spec: spec.update(size=4, racks=racks))
    for _ in range(3):
        world.round()
        world.run_pods()

    assert "ledger-r4-0" in world.of_kind("Pod")
    (provider,) = settings_of(world)["seed_provider"]
    seeds = provider["parameters"][0]["seeds"].split(",")
    assert seeds == [f"ledger-r{number}-0.ledger-ring.payments.svc" for number in (1, 2, 3)]


def test_more_nodes_join_without_a_restart_of_those_that_run() -> None:
    world = deployed()
    before = {name: each["spec"]["template"] for name, each in world.of_kind("StatefulSet").items()}
    world.edit(lambda spec: spec.update(size=6))
    for _ in range(6):
        world.round()
        world.run_pods()

    assert len(world.of_kind("Pod")) == 6
    assert {name: each["spec"]["template"] for name, each in world.of_kind("StatefulSet").items()} == before


def test_a_smaller_size_takes_no_node_away_and_says_so() -> None:
    world = deployed(size=6)
    world.edit(lambda spec: spec.update(size=3))
    world.round()

    assert sum(each["spec"]["replicas"] for each in world.of_kind("StatefulSet").values()) == 6
    assert "Restore size: 6." in world.condition("Progressing")["message"]


def test_a_node_that_never_found_room_can_be_taken_back_and_restarts_go_on() -> None:
    world = deployed()
    world.edit(lambda spec: spec.update(size=4))
    world.round()
    world.run_pods(node="")
    assert "ledger-r1-1" in world.of_kind("Pod")

    world.edit(lambda spec: spec.update(size=3, config={"concurrent_reads": 64}))
    for _ in range(2):
        world.round()
        world.run_pods()

    assert sum(each["spec"]["replicas"] for each in world.of_kind("StatefulSet").values()) == 3
    assert [ref.kind for ref in world.deleted].count("Pod") >= 1
    assert "Restore size" not in world.condition("Progressing")["message"]


def made_again(former: int, **spec: Any) -> World:
    """A ring over the volumes of a former one of this size."""
    old = deployed(size=former)
    while old.release() is not None:
        pass
    again = cassandra(**spec)
    again.objects.update(old.objects)
    return again


def test_nodes_on_retained_volumes_start_all_at_once_for_half_of_them_have_no_quorum() -> None:
    again = made_again(6, size=7)
    again.round()
    again.round()
    again.run_pods()
    assert len(again.of_kind("Pod")) == 6

    again.health = Health(ready=False, reason="NodesUnreachable", message="Unable to perform", details={})
    again.round()
    again.run_pods()
    assert len(again.of_kind("Pod")) == 6, "a new one waits as ever"
    again.health = SERVES
    again.round()
    again.run_pods()
    assert len(again.of_kind("Pod")) == 7


def test_fewer_nodes_than_the_retained_volumes_hold_would_have_no_quorum() -> None:
    again = made_again(6, size=3)
    again.round()
    again.round()
    again.run_pods()

    assert len(again.of_kind("Pod")) == 6


def test_retained_volumes_of_a_rack_that_is_not_named_are_told_of() -> None:
    again = made_again(3, size=1, racks=[{"name": "r1"}])
    again.round()

    assert "volumes of rack r2, r3, which spec.racks does not name" in again.condition("Valid")["message"]
    assert not again.of_kind("StatefulSet")


class Locked:
    """A ring on retained volumes, which knows neither password."""

    async def ring(self, _login: CqlLogin) -> RingState:
        raise ServiceRefusedError("Cassandra refused: wrong")

    async def make_superuser(self, *_: object, **__: object) -> None:
        raise ServiceRefusedError("Cassandra refused: wrong")

    async def drop_default_superuser(self, _superuser: CqlLogin) -> None:
        raise AssertionError("nobody may log in")


async def test_a_ring_that_knows_another_password_says_so_instead_of_failing_its_round() -> None:
    world = World(cluster_kind(Locked()), custom("CassandraCluster", "ledger"))
    for _ in range(5):
        world.round()
        world.run_pods()

    outcome = await world.meet()

    ready = world.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("False", "LoginRefused")
    assert world.manifest["status"]["binding"] == {"name": "ledger-cassandra-binding"}
    (attempt,) = outcome.lanes["admin"]
    assert isinstance(attempt, Invoke)
    with pytest.raises(ServiceRefusedError, match="put the password of their time into ledger-cassandra-binding"):
        await world.kind.perform(world.resource, world.observed, attempt)


class Whole:
    """A ring that serves, and remembers how it was asked."""

    def __init__(self) -> None:
        self.logins: list[CqlLogin] = []

    async def ring(self, login: CqlLogin) -> RingState:
        self.logins.append(login)
        return RingState((), default_superuser=False)


async def test_whose_word_the_operator_takes_for_a_node_is_not_the_tenants_to_say() -> None:
    nodes = Whole()
    world = World(cluster_kind(nodes), custom("CassandraCluster", "ledger"))
    for _ in range(5):
        await world.meet()
        world.run_pods()
    authority = nodes.logins[-1].authority
    for name in ("ledger-tls", "ledger-cassandra-binding"):
        secret = world.of_kind("Secret")[name]
        secret["data"] |= dict.fromkeys(("ca.crt", "certificates"), base64.b64encode(b"another authority").decode())

    await world.meet()
    asked = nodes.logins[-1]
    await world.meet()

    assert (asked.host, asked.authority) == ("ledger-client.payments.svc", authority)
    told = {name: each["data"] for name, each in world.of_kind("Secret").items()}
    assert base64.b64decode(told["ledger-tls"]["ca.crt"]).decode() == authority, "put back for the nodes"
    assert base64.b64decode(told["ledger-cassandra-binding"]["certificates"]).decode() == authority, "and for clients"


def test_a_changed_setting_restarts_one_node_after_the_other() -> None:
    world = deployed()
    world.edit(lambda spec: spec.update(config={"concurrent_reads": 64}))
    restarted = []
    for _ in range(8):
        world.deleted.clear()
        world.round()
        gone = [ref.name for ref in world.deleted if ref.kind == "Pod"]
        assert len(gone) <= 1
        restarted += gone
        world.run_pods()
    assert sorted(restarted) == ["ledger-r1-0", "ledger-r2-0", "ledger-r3-0"]


def test_no_node_is_restarted_while_the_nodes_hold_different_schemas() -> None:
    world = deployed()
    world.edit(lambda spec: spec.update(config={"concurrent_reads": 64}))
    world.health = Health(ready=True, reason="x", message="", details={"schemas": 2, "secured": True})
    world.deleted.clear()
    for _ in range(3):
        world.round()
        world.run_pods()

    assert not [ref for ref in world.deleted if ref.kind == "Pod"]
    assert "2 versions of the schema" in world.condition("Progressing")["message"]


def test_larger_volumes_are_asked_for_on_the_claims() -> None:
    world = deployed()
    world.edit(lambda spec: spec.update(storage={"size": "200Gi"}))
    world.round()

    sizes = {c["spec"]["resources"]["requests"]["storage"] for c in world.of_kind("PersistentVolumeClaim").values()}
    assert sizes == {"200Gi"}


def test_a_volume_that_may_not_grow_holds_up_no_restart() -> None:
    world = deployed()
    world.refused = frozenset({"PersistentVolumeClaim"})

    world.edit(lambda spec: spec.update(storage={"size": "200Gi"}, config={"concurrent_reads": 16}))
    world.round()
    world.run_pods()
    world.round()

    assert [ref.kind for ref in world.deleted] == ["Pod"]


def test_without_a_guarantee_the_pods_are_preemptible_and_the_condition_says_what_to_do() -> None:
    world = World(cluster_kind(), custom("CassandraCluster", "ledger"), tenant=without_guarantee(RETAIL))
    world.health = SERVES
    world.deploy(rounds=8, health=SERVES)

    assert world.of_kind("Pod")["ledger-r1-0"]["metadata"]["labels"]["allotment.dev/preemptible"] == "true"
    assert "spec.guaranteed" in world.condition("GuaranteeIncomplete")["message"]


@pytest.mark.parametrize("version", ["4.1.9", "6.0.0"])
def test_another_major_version_is_refused_with_what_to_write(version: str) -> None:
    world = cassandra(version=version)
    world.round()

    assert "write one from 5.0.0 on and older than 6.0.0" in world.condition("Valid")["message"]


async def test_on_simulated_nodes_readiness_is_the_pods_and_says_so() -> None:
    world = cassandra()
    for _ in range(8):
        await world.meet()
        world.run_pods(node="kwok-1")
    await world.meet()

    ready = world.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("True", "PodsReadySimulated")
    assert "simulated" in ready["message"]


@given(st.integers(1, 200), st.integers(1, 16))
def test_racks_differ_by_one_node_at_most_and_hold_all(size: int, racks: int) -> None:
    counts = spread(size, racks)

    assert sum(counts) == size
    assert max(counts) - min(counts) <= 1
    assert counts == sorted(counts, reverse=True)


@pytest.mark.parametrize(
    ("written", "read"),
    [("true", True), ("32MiB", "32MiB"), ("[a, b]", ["a", "b"]), ("1.5", 1.5), (7, 7), ("{a: b}", "{a: b}")],
)
def test_settings_are_read_as_yaml_as_far_as_they_are_plain_values(written: str | int, read: object) -> None:
    assert settings_of(deployed(config={"some_setting": written}))["some_setting"] == read


CHANGES: dict[str, dict[str, Any]] = {
    "image": {"image": "registry.bank/cassandra:1"},
    "imagePullSecrets": {"imagePullSecrets": ["pull"]},
    "priorityClassName": {"priorityClassName": "high"},
    "version": {"version": "5.0.4"},
    "preemptible": {"preemptible": True},
    "clusterName": {"clusterName": "Grand Ledger"},
    "datacenterName": {"datacenterName": "dc2"},
    "size": {"size": 4},
    "racks[].name": {"racks": [{"name": "x"}, {"name": "y"}, {"name": "z"}]},
    "racks[].nodeSelector": {"racks": [{"name": "r1", "nodeSelector": {"zone": "a"}}, {"name": "r2"}, {"name": "r3"}]},
    "storage.size": {"storage": {"size": "7Gi"}},
    "storage.storageClass": {"storage": {"storageClass": "fast"}},
    "storage.deletionPolicy": {"storage": {"deletionPolicy": "Delete"}},
    "resources.requests": {"resources": {"requests": {"cpu": "3", "memory": "8Gi"}}},
    "resources.limits": {"resources": {"limits": {"cpu": "4"}}},
    "jvm.heapSize": {"jvm": {"heapSize": "1Gi"}},
    "jvm.options": {"jvm": {"options": ["-XX:+UseZGC"]}},
    "placement.nodePool": {"placement": {"nodePool": "fast"}},
    "placement.topologyKey": {"placement": {"topologyKey": "rack"}},
    "placement.shareNodes": {"placement": {"shareNodes": True}},
    "config": {"config": {"concurrent_reads": 8}},
}
READ_BY_THE_ENGINE = {"paused"}


def test_every_field_of_the_spec_is_known_here() -> None:
    assert set(leaf_paths(CassandraClusterSpec)) == set(CHANGES) | READ_BY_THE_ENGINE


@pytest.mark.parametrize("field", CHANGES)
def test_every_field_of_the_spec_changes_something(field: str) -> None:
    assert everything(lambda: serving(CHANGES[field])) != bare()


def serving(spec: dict[str, Any]) -> World:
    world = cassandra(**copy.deepcopy(spec))
    world.health = SERVES
    return world


@functools.cache
def bare() -> str:
    return everything(lambda: serving({}))
