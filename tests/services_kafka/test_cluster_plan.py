"""What a KafkaCluster becomes: by default, in its variations, and when it changes."""

import copy
import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allotment_api.kafka import KafkaClusterSpec
from allotment_operator.plans.outcome import Health
from allotment_operator.plans.service_status import was_ready
from allotment_operator.services.kafka.configuration import properties
from allotment_operator.services.kafka.identity import kafka_uuid
from builders.kafka_broker import cluster_kind
from builders.service_checks import ALL_CHECKS, assert_goes_completely, everything, leaf_paths
from builders.services import RETAIL, World, custom, without_guarantee

SERVES = Health(ready=True, reason="BrokersServe", message="They serve.", details={"underReplicated": 0})
SEPARATE = {
    "pools": [
        {"name": "control", "roles": ["controller"], "replicas": 3},
        {"name": "data", "roles": ["broker"], "replicas": 4},
    ]
}
OUTSIDE = {
    "listeners": [
        {"name": "inside", "port": 9092, "authentication": {"type": "scram-sha-512"}},
        {"name": "nodes", "port": 9094, "type": "nodePort", "authentication": {"type": "tls"}},
        {"name": "cloud", "port": 9095, "type": "loadBalancer", "authentication": {"type": "scram-sha-512"}},
    ]
}
CERTIFICATES_ONLY = {"listeners": [{"name": "tls", "port": 9093, "authentication": {"type": "tls"}}]}


def kafka(**spec: Any) -> World:
    return World(cluster_kind(), custom("KafkaCluster", "trades", **spec))


def deployed(**spec: Any) -> World:
    world = kafka(**spec)
    world.deploy(health=SERVES)
    return world


@pytest.mark.parametrize("check", ALL_CHECKS)
@pytest.mark.parametrize(
    "spec", [{}, SEPARATE, OUTSIDE, CERTIFICATES_ONLY], ids=["bare", "separate roles", "outside", "certificates only"]
)
def test_what_holds_of_every_service_holds_of_kafka(check: Callable[[World], None], spec: dict[str, Any]) -> None:
    world = kafka(**spec)
    world.deploy(rounds=6, health=SERVES)
    for _ in range(4):  # external addresses lead to one more restart of each node
        world.round()
        world.run_pods()
    check(world)


@pytest.mark.parametrize(("policy", "retained"), [("Retain", True), ("Delete", False)])
def test_deleting_a_cluster_leaves_its_volumes_only_where_they_are_to_be_retained(policy: str, retained: bool) -> None:
    pool = {"name": "main", "storage": {"deletionPolicy": policy}}
    assert_goes_completely(deployed(pools=[pool]), retained=retained)


def test_a_bare_cluster_keeps_three_copies_with_two_in_sync_and_denies_what_is_not_granted() -> None:
    config = deployed().of_kind("ConfigMap")["trades-main-config"]["data"]["server.properties"]

    for line in (
        "process.roles=broker,controller",
        "default.replication.factor=3",
        "min.insync.replicas=2",
        "allow.everyone.if.no.acl.found=false",
        "auto.create.topics.enable=false",
        "listener.name.controller.ssl.client.auth=required",
        "listener.name.replication.ssl.client.auth=required",
    ):
        assert line in config.splitlines()
    assert "PLAINTEXT" not in config


def test_nothing_starts_before_its_certificate_exists() -> None:
    world = kafka()
    outcome = world.round()

    assert not world.of_kind("StatefulSet")
    assert "being made" in world.condition("Ready")["message"]
    assert outcome.requeue_after == 1.0


def test_controllers_and_brokers_in_pools_of_their_own_have_their_own_files_and_labels() -> None:
    world = deployed(**SEPARATE)
    control, data = (world.of_kind("ConfigMap")[f"trades-{pool}-config"]["data"] for pool in ("control", "data"))

    assert "process.roles=controller" in control["server.properties"]
    assert "inter.broker.listener.name" not in control["server.properties"]
    assert "process.roles=broker\n" in data["server.properties"]
    assert world.of_kind("Service")["trades-bootstrap"]["spec"]["selector"]["allotment.dev/component"] == "broker"
    founders = "controller.quorum.bootstrap.servers=" + ",".join(
        f"trades-control-{i}.trades-nodes.payments.svc:9090" for i in range(3)
    )
    assert founders in data["server.properties"]
    assert [(pool["name"], pool["firstNodeId"]) for pool in world.manifest["status"]["pools"]] == [
        ("control", 0),
        ("data", 1000),
    ]


def test_more_brokers_join_without_a_restart_of_those_that_run() -> None:
    world = deployed(**SEPARATE)
    before = world.of_kind("StatefulSet")["trades-data"]["spec"]["template"]

    world.edit(lambda spec: spec["pools"][1].update(replicas=6))
    world.round()

    after = world.of_kind("StatefulSet")["trades-data"]
    assert after["spec"]["replicas"] == 6
    assert after["spec"]["template"] == before


def test_later_controllers_are_not_among_the_founders() -> None:
    world = deployed()
    world.edit(lambda spec: spec.update(pools=[{"name": "main", "replicas": 5}]))
    world.round()

    environment = {
        each["name"]: each.get("value")
        for each in world.of_kind("StatefulSet")["trades-main"]["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    assert environment["FOUNDER_IDS"] == "0 1 2"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda spec: spec["pools"][1].update(replicas=3), "pool data keeps its 4 nodes although replicas is 3"),
        (lambda spec: spec["pools"][1].update(name="new"), "pool data keeps its 4 nodes although the spec names it no"),
    ],
    ids=["fewer replicas", "a pool left out"],
)
def test_nodes_with_data_are_never_taken_away(change: Callable[[dict[str, Any]], None], message: str) -> None:
    world = deployed(**copy.deepcopy(SEPARATE))
    world.edit(change)
    world.round()
    world.round()

    assert world.of_kind("StatefulSet")["trades-data"]["spec"]["replicas"] == 4
    assert "trades-data-config" in world.of_kind("ConfigMap")
    assert message in world.condition("Progressing")["message"]


@pytest.mark.parametrize(
    ("more", "left"),
    [
        (lambda spec: spec["pools"][1].update(replicas=30), {"trades-control": 3, "trades-data": 4}),
        (
            lambda spec: spec["pools"].append({"name": "extra", "roles": ["broker"], "replicas": 3}),
            {"trades-control": 3, "trades-data": 4},
        ),
    ],
    ids=["more replicas", "another pool"],
)
def test_nodes_that_never_found_room_can_be_taken_back_and_restarts_go_on(
    more: Callable[[dict[str, Any]], None], left: dict[str, int]
) -> None:
    world = deployed(**copy.deepcopy(SEPARATE))
    before = copy.deepcopy(world.manifest["spec"])
    world.edit(more)
    for _ in range(2):
        world.round()
        world.run_pods(node="")
    assert len(world.of_kind("Pod")) > 7

    world.edit(lambda spec: spec.update(before, config={"log.retention.hours": 24}))
    for _ in range(3):
        world.round()
        world.run_pods()
        world._collect_garbage()

    assert {name: each["spec"]["replicas"] for name, each in world.of_kind("StatefulSet").items()} == left
    assert [ref.kind for ref in world.deleted].count("Pod") >= 1
    assert "keeps its" not in world.condition("Progressing")["message"]


@pytest.mark.parametrize("room_for_one", [True, False], ids=["one found room", "none found room"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda spec: spec["pools"][0].update(replicas=1), "pool control keeps its 3 nodes although replicas is 1"),
        (lambda spec: spec["pools"][0].update(name="new"), "pool control keeps its 3 nodes although the spec names it"),
    ],
    ids=["fewer replicas", "a pool left out"],
)
def test_founding_voters_are_never_taken_away_though_they_wait_for_room(
    change: Callable[[dict[str, Any]], None], message: str, room_for_one: bool
) -> None:
    world = kafka(**copy.deepcopy(SEPARATE))
    for _ in range(4):
        world.round()
        world.run_pods(node="")
    if room_for_one:
        world.of_kind("Pod")["trades-control-0"]["spec"]["nodeName"] = "node-1"

    world.edit(change)
    for _ in range(3):
        world.round()
        world.run_pods(node="")

    assert world.of_kind("StatefulSet")["trades-control"]["spec"]["replicas"] == 3
    assert {"trades-control-0", "trades-control-1", "trades-control-2"} <= world.of_kind("Pod").keys()
    assert message in world.condition("Progressing")["message"]


def test_only_the_last_nodes_that_never_found_room_are_taken_back() -> None:
    world = deployed(**copy.deepcopy(SEPARATE))
    world.edit(lambda spec: spec["pools"][1].update(replicas=6))
    world.round()
    world.run_pods(node="")
    found_room = world.of_kind("Pod")["trades-data-5"]
    found_room["spec"]["nodeName"] = "node-9"
    world.edit(lambda spec: spec["pools"][1].update(replicas=4))

    world.round()

    assert world.of_kind("StatefulSet")["trades-data"]["spec"]["replicas"] == 6


def test_fewer_nodes_than_the_retained_volumes_hold_would_have_no_quorum() -> None:
    old = deployed()
    while old.release() is not None:
        pass
    one: dict[str, Any] = {"pools": [{"name": "main", "replicas": 1}], "replication": {"factor": 1, "minInSync": 1}}
    again = World(cluster_kind(), custom("KafkaCluster", "trades", uid="another-uid", **one))
    again.objects.update(old.objects)

    again.deploy(health=SERVES)

    assert len(again.of_kind("Pod")) == 3
    assert "pool main keeps its 3 nodes although replicas is 1" in again.condition("Progressing")["message"]


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        (("control", "data"), "volumes of pool control, data, which spec.pools does not name"),
        (("data",), "volumes of pool data, which spec.pools does not name"),
    ],
)
def test_retained_volumes_of_pools_that_are_not_named_are_told_of(kept: tuple[str, ...], message: str) -> None:
    again = made_again(kept, [{"name": "main", "firstNodeId": 5000}])
    again.round()

    assert message in again.condition("Valid")["message"]
    assert not again.of_kind("StatefulSet")


def test_founders_that_no_pool_has_are_told_of() -> None:
    """Their volumes were deleted, but a broker's tells of them."""
    pools = [
        {"name": "voters", "roles": ["controller"], "firstNodeId": 5000},
        {"name": "data", "roles": ["broker"], "replicas": 4},
    ]
    again = made_again(("data",), pools)
    again.round()

    assert "was founded by the nodes 0, 1, 2, which no pool has" in again.condition("Valid")["message"]


def made_again(kept: tuple[str, ...], pools: list[dict[str, Any]]) -> World:
    """A cluster over the volumes of some pools of a former one."""
    old = deployed(**copy.deepcopy(SEPARATE))
    while old.release() is not None:
        pass
    again = World(cluster_kind(), custom("KafkaCluster", "trades", uid="another-uid", pools=pools))
    again.objects.update(
        {ref: each for ref, each in old.objects.items() if each["metadata"]["labels"]["allotment.dev/pool"] in kept}
    )
    return again


def test_a_pool_never_gets_node_ids_that_were_anothers() -> None:
    world = deployed(**copy.deepcopy(SEPARATE))
    world.edit(lambda spec: spec["pools"].append({"name": "extra", "roles": ["broker"], "firstNodeId": 1000}))
    world.round()

    valid = world.condition("Valid")
    assert valid["status"] == "False"
    assert "node ids from 1000 on belong to pool data" in valid["message"]


def test_a_changed_setting_restarts_one_node_after_the_other_and_only_while_the_rest_is_well() -> None:
    world = deployed()
    world.edit(lambda spec: spec.update(config={"log.retention.hours": 24}))
    world.round()
    world.run_pods()
    restarted = []
    for _ in range(8):
        world.deleted.clear()
        world.round()
        restarted += [ref.name for ref in world.deleted if ref.kind == "Pod"]
        assert len([ref for ref in world.deleted if ref.kind == "Pod"]) <= 1
        world.run_pods()
    assert restarted == ["trades-main-0", "trades-main-1", "trades-main-2"]


@pytest.mark.parametrize(
    ("health", "message"),
    [
        (Health(ready=True, reason="x", message="", details={"underReplicated": 7}), "7 partitions lack copies"),
        (Health(ready=False, reason="NoController", message="The quorum has no leader."), "The quorum has no leader"),
    ],
)
def test_no_node_is_restarted_while_the_cluster_cannot_spare_one(health: Health, message: str) -> None:
    world = deployed()
    world.edit(lambda spec: spec.update(config={"log.retention.hours": 24}))
    world.round()
    world.run_pods()
    world.health = health
    world.deleted.clear()

    world.round()

    assert not world.deleted
    assert message in world.condition("Progressing")["message"]


def test_the_leader_of_the_quorum_is_restarted_last() -> None:
    world = deployed()
    world.edit(lambda spec: spec.update(config={"log.retention.hours": 24}))
    world.health = Health(ready=True, reason="x", message="", details={"controllerPod": "trades-main-0"})
    for _ in range(3):
        world.round()
        world.run_pods()
    assert [ref.name for ref in world.deleted if ref.kind == "Pod"] == ["trades-main-1", "trades-main-2"]


def test_a_node_that_does_not_serve_gets_the_mended_configuration_at_once() -> None:
    world = deployed()
    world.run_pods(ready=False)
    world.health = Health(ready=False, reason="BrokersUnreachable", message="Nobody answers.")
    world.edit(lambda spec: spec.update(config={"log.retention.hours": 24}))
    world.round()
    world.run_pods(ready=False)
    world.deleted.clear()

    world.round()

    assert len(world.deleted) == 1


def test_larger_volumes_are_asked_for_on_the_claims_and_the_template_stays() -> None:
    world = deployed()
    template = copy.deepcopy(world.of_kind("StatefulSet")["trades-main"]["spec"]["volumeClaimTemplates"])
    world.edit(lambda spec: spec.update(pools=[{"name": "main", "storage": {"size": "200Gi"}}]))
    world.round()

    sizes = {c["spec"]["resources"]["requests"]["storage"] for c in world.of_kind("PersistentVolumeClaim").values()}
    assert sizes == {"200Gi"}
    assert world.of_kind("StatefulSet")["trades-main"]["spec"]["volumeClaimTemplates"] == template


def test_a_volume_that_may_not_grow_holds_up_no_restart() -> None:
    world = deployed()
    world.refused = frozenset({"PersistentVolumeClaim"})
    main = {"name": "main", "storage": {"size": "200Gi"}}

    world.edit(lambda spec: spec.update(pools=[main], config={"log.retention.hours": 5}))
    world.round()
    world.run_pods()
    world.round()

    assert [ref.kind for ref in world.deleted] == ["Pod"]
    assert {f"PersistentVolumeClaim payments/data-trades-main-{ordinal}" for ordinal in range(3)} <= {
        *world.plan().lanes
    }


def test_a_volume_that_grows_says_how_far_it_is_and_what_it_waits_for() -> None:
    world = deployed(pools=[{"name": "main", "storage": {"size": "200Gi"}}])
    claims = [*world.of_kind("PersistentVolumeClaim").values()]
    assert world.condition("Progressing")["status"] == "False"
    for claim in claims:
        claim["status"]["capacity"] = {"storage": "200Gi"}
    pending = {"type": "FileSystemResizePending", "status": "True", "message": "waiting for the node to resize it"}
    claims[0]["status"] |= {"capacity": {"storage": "100Gi"}, "conditions": [pending]}

    world.round()

    assert world.condition("Ready")["status"] == "True"
    assert (world.condition("Progressing")["status"], world.condition("Progressing")["message"]) == (
        "True",
        "A volume grows: data-trades-main-0 has 100Gi of 200Gi (waiting for the node to resize it).",
    )


def test_a_cluster_made_again_takes_its_retained_volumes_over_with_their_ids() -> None:
    old = deployed(**copy.deepcopy(SEPARATE))
    while old.release() is not None:
        pass
    again = World(cluster_kind(), custom("KafkaCluster", "trades", uid="another-uid", pools=SEPARATE["pools"][::-1]))
    again.objects.update(old.objects)

    again.deploy(health=SERVES)

    assert again.manifest["status"]["clusterId"] == old.manifest["status"]["clusterId"]
    ids = {pool["name"]: pool["firstNodeId"] for pool in again.manifest["status"]["pools"]}
    assert ids == {"control": 0, "data": 1000}


def test_without_a_guarantee_the_pods_are_preemptible_and_the_condition_says_what_to_do() -> None:
    world = World(cluster_kind(), custom("KafkaCluster", "trades"), tenant=without_guarantee(RETAIL))
    world.deploy(health=SERVES)

    pod = world.of_kind("Pod")["trades-main-0"]
    assert pod["metadata"]["labels"]["allotment.dev/preemptible"] == "true"
    told = world.condition("GuaranteeIncomplete")
    assert told["status"] == "True"
    assert "no guarantee for cpu, memory" in told["message"]
    assert "spec.guaranteed" in told["message"]


def test_in_a_namespace_of_no_tenant_nothing_is_made() -> None:
    world = World(cluster_kind(), custom("KafkaCluster", "trades"), tenant=None)
    world.round()

    assert not world.objects
    assert "belongs to no tenant" in world.condition("Ready")["message"]


def test_a_node_pool_that_is_not_the_tenants_is_named_with_those_that_are() -> None:
    world = kafka(pools=[{"name": "main", "placement": {"nodePool": "gpu"}}])
    world.round()

    assert "node pool gpu does not exist" in world.condition("Valid")["message"]
    assert "(fast)" in world.condition("Valid")["message"]


@pytest.mark.parametrize("unworkable", ["the tenant", "the spec"])
def test_a_round_that_cannot_work_does_not_wipe_out_that_the_cluster_has_served(unworkable: str) -> None:
    """Taken for a first start, it would ask for all of its brokers before it says that clients can use it."""
    world = deployed()
    world.health = Health(ready=False, reason="BrokersUnreachable", message="Nobody answers.")
    world.round()
    if unworkable == "the tenant":
        world.tenant, world.health = None, None
    else:
        world.edit(lambda spec: spec.update(pools=[{"name": "main", "placement": {"nodePool": "gpu"}}]))

    for _ in range(2):
        world.round()

        assert world.condition("Valid")["status"] == "False"
        assert was_ready(world.resource.status)
    assert world.condition("Ready")["status"] == "False"


def test_what_never_served_is_not_degraded_by_a_round_that_cannot_work() -> None:
    world = kafka(pools=[{"name": "main", "placement": {"nodePool": "gpu"}}])
    world.round()

    assert not was_ready(world.resource.status)


def test_a_node_pool_is_found_by_its_labels_and_its_taints_are_tolerated() -> None:
    world = deployed(pools=[{"name": "main", "placement": {"nodePool": "fast"}}])
    spec = world.of_kind("Pod")["trades-main-0"]["spec"]

    (term,) = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term == {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["nvme"]}]}
    assert spec["tolerations"] == [{"key": "storage.bank/dedicated", "operator": "Exists"}]


def test_an_address_outside_is_told_to_clients_and_put_on_the_certificate_once_it_is_known() -> None:
    world = deployed(**OUTSIDE)
    for name, service in world.of_kind("Service").items():
        if name.endswith("-cloud"):
            service["status"] = {"loadBalancer": {"ingress": [{"hostname": f"{name}.cloud.example"}]}}
        if name.endswith("-nodes") and name != "trades-nodes":
            service["spec"]["ports"][0]["nodePort"] = 31000
    world.round()
    world.round()

    told = world.of_kind("ConfigMap")["trades-main-config"]["data"]["external-1"]
    assert told.splitlines() == [
        "CLIENT_NODES 9094 @HOST_IP@:31000",
        "CLIENT_CLOUD 9095 trades-main-1-cloud.cloud.example:9095",
    ]
    hosts = world.of_kind("Secret")["trades-main-tls"]["metadata"]["annotations"]["allotment.dev/external-hosts"]
    assert "trades-main-1-cloud.cloud.example" in hosts.split(",")
    assert "192.0.2.7" in hosts.split(",")
    endpoints = {each["name"]: each["address"] for each in world.manifest["status"]["endpoints"]}
    assert endpoints["nodes"] == "192.0.2.7:31000,192.0.2.7:31000,192.0.2.7:31000"


@pytest.mark.parametrize(
    ("ways_in", "want"),
    [((), []), (("NodePort",), [9094]), (("LoadBalancer",), [9095]), (("NodePort", "LoadBalancer"), [9094, 9095])],
    ids=str,
)
def test_a_listener_is_open_to_all_where_the_tenant_may_have_its_services(
    ways_in: tuple[Literal["NodePort", "LoadBalancer"], ...], want: list[int]
) -> None:
    world = kafka(**OUTSIDE)
    world.tenant = replace(RETAIL, ways_in=frozenset(ways_in))
    world.round()
    rules = world.of_kind("NetworkPolicy")["trades-nodes"]["spec"]["ingress"]

    assert [port["port"] for rule in rules if "from" not in rule for port in rule["ports"]] == want


def test_services_of_a_listener_that_is_gone_go_too() -> None:
    world = deployed(**OUTSIDE)
    assert any(name.endswith("-cloud") for name in world.of_kind("Service"))

    world.edit(lambda spec: spec.update(listeners=OUTSIDE["listeners"][:1]))
    world.round()

    assert set(world.of_kind("Service")) == {"trades-nodes", "trades-bootstrap"}


def test_a_heap_that_does_not_fit_is_refused_with_what_does() -> None:
    world = kafka(pools=[{"name": "main", "jvm": {"heapSize": "4Gi"}}])
    world.round()

    assert "write 3072Mi or less" in world.condition("Valid")["message"]


def test_a_version_that_is_too_old_is_refused_with_what_to_write() -> None:
    world = kafka(version="3.9.1")
    world.round()

    assert world.condition("Valid")["message"] == "version 3.9.1 is not supported: write one from 4.2.0 on"
    assert not world.of_kind("StatefulSet")


async def test_on_simulated_nodes_readiness_is_the_pods_and_says_so() -> None:
    world = kafka()
    for _ in range(3):
        world.round()
        world.run_pods(node="kwok-1")

    await world.meet()

    ready = world.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("True", "PodsReadySimulated")
    assert "simulated" in ready["message"]


@given(st.text(), st.text())
@settings(max_examples=200, deadline=None)
def test_no_setting_breaks_out_of_its_line(key: str, value: str) -> None:
    written = properties({key: value})

    lines = written.split("\n")
    assert len(lines) == 2
    assert "\r" not in written


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_ids_are_uuids_in_kafkas_spelling_and_never_look_like_an_option(parts: list[str]) -> None:
    text = kafka_uuid(*parts)

    assert len(text) == 22
    assert not text.startswith("-")
    assert text == kafka_uuid(*parts)


POOL = {"name": "main"}
CHANGES: dict[str, dict[str, Any]] = {
    "image": {"image": "registry.bank/kafka:1"},
    "imagePullSecrets": {"imagePullSecrets": ["pull"]},
    "priorityClassName": {"priorityClassName": "high"},
    "version": {"version": "4.2.0"},
    "preemptible": {"preemptible": True},
    "pools[].name": {"pools": [{"name": "other"}]},
    "pools[].roles": SEPARATE,
    "pools[].replicas": {"pools": [{**POOL, "replicas": 5}]},
    "pools[].firstNodeId": {"pools": [{**POOL, "firstNodeId": 3000}]},
    "pools[].storage.size": {"pools": [{**POOL, "storage": {"size": "7Gi"}}]},
    "pools[].storage.storageClass": {"pools": [{**POOL, "storage": {"storageClass": "fast"}}]},
    "pools[].storage.deletionPolicy": {"pools": [{**POOL, "storage": {"deletionPolicy": "Delete"}}]},
    "pools[].resources.requests": {"pools": [{**POOL, "resources": {"requests": {"cpu": "2", "memory": "4Gi"}}}]},
    "pools[].resources.limits": {"pools": [{**POOL, "resources": {"limits": {"cpu": "3"}}}]},
    "pools[].jvm.heapSize": {"pools": [{**POOL, "jvm": {"heapSize": "1Gi"}}]},
    "pools[].jvm.options": {"pools": [{**POOL, "jvm": {"options": ["-XX:+UseZGC"]}}]},
    "pools[].placement.nodePool": {"pools": [{**POOL, "placement": {"nodePool": "fast"}}]},
    "pools[].placement.topologyKey": {"pools": [{**POOL, "placement": {"topologyKey": "rack"}}]},
    "pools[].placement.shareNodes": {"pools": [{**POOL, "placement": {"shareNodes": True}}]},
    "replication.factor": {"replication": {"factor": 2}},
    "replication.minInSync": {"replication": {"minInSync": 1}},
    "listeners[].name": {"listeners": [{"name": "x", "port": 9092, "authentication": {"type": "tls"}}]},
    "listeners[].port": {"listeners": [{"name": "x", "port": 9099, "authentication": {"type": "tls"}}]},
    "listeners[].type": OUTSIDE,
    "listeners[].authentication.type": CERTIFICATES_ONLY,
    "authorization.superUsers": {"authorization": {"superUsers": ["root"]}},
    "config": {"config": {"log.retention.hours": 1}},
}
READ_BY_THE_ENGINE = {"paused"}


def test_every_field_of_the_spec_is_known_here() -> None:
    assert set(leaf_paths(KafkaClusterSpec)) == set(CHANGES) | READ_BY_THE_ENGINE


@pytest.mark.parametrize("field", CHANGES)
def test_every_field_of_the_spec_changes_something(field: str) -> None:
    assert everything(lambda: kafka(**CHANGES[field]), rounds=3) != bare()


@functools.cache
def bare() -> str:
    return everything(kafka, rounds=3)
