"""The kinds of Kafka by the real engine on the real API server, on nodes that are simulated."""

import base64
import json
from typing import Any

import pytest

from allotment_operator.kind import Key
from allotment_operator.services.kafka.kinds import kinds
from builders.live_rounds import FINALIZER, live
from builders.program_process import eventually


async def test_a_cluster_with_topic_and_user_comes_changes_and_goes(cluster: Any) -> None:
    async with live(cluster, "kafkaclusters", "kafkatopics", "kafkausers") as world:
        world.serve(*kinds(world.surroundings))
        pool = {"name": "main", "replicas": 3, "storage": {"size": "1Gi"}}
        kafka = world.make("KafkaCluster", "trades", pools=[pool])
        topic = world.make("KafkaTopic", "orders", cluster="trades")
        user = world.make("KafkaUser", "clerk", cluster="trades")
        await world.engine.reconcile(topic)
        assert world.condition(topic, "Ready")["reason"] == "WaitingForCluster"
        assert "is being deployed" in world.condition(topic, "Ready")["message"]

        await world.rounds(kafka)

        ready = world.condition(kafka, "Ready")
        assert (ready["status"], ready["reason"]) == ("True", "PodsReadySimulated")
        status = world.get(kafka)["status"]
        assert (status["phase"], status["readyReplicas"]) == ("Running", 3)
        assert status["binding"] == {"name": "trades-kafka-binding"}
        for key in (topic, user):
            await world.rounds(key)
            assert world.condition(key, "Ready")["reason"] == "PodsReadySimulated"
            assert "simulated" in world.condition(key, "Ready")["message"]
        (secret,) = [each for each in await world.objects("secrets") if each["metadata"]["name"] == "clerk"]
        assert secret["type"] == "servicebinding.io/kafka"
        assert base64.b64decode(secret["data"]["bootstrap-servers"]).decode().endswith(".svc:9092")

        before = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in await world.objects("pods")}
        world.make("KafkaCluster", "trades", pools=[{**pool, "replicas": 5}], config={"log.retention.hours": 24})
        for _ in range(3):
            await world.engine.reconcile(kafka)
            await world.end_pods()
        await world.rounds_until(kafka, lambda: _all_restarted(world, before))

        after = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in await world.objects("pods")}
        assert len(after) == 5
        assert not {name for name in before if before[name] == after[name]}, "every node was restarted"

        for key in (topic, user, kafka):
            await world.let_go(key)
        claims = {f"PersistentVolumeClaim data-trades-main-{ordinal}" for ordinal in range(5)}
        assert await world.left() == claims, "only the volumes are retained"


async def _all_restarted(world: Any, before: dict[str, str]) -> bool:
    pods = await world.objects("pods")
    return len(pods) == 5 and all(pod["metadata"]["uid"] not in before.values() for pod in pods)


async def test_a_user_does_not_take_over_a_secret_that_is_not_its_own(cluster: Any) -> None:
    async with live(cluster, "kafkaclusters", "kafkausers") as world:
        world.serve(*kinds(world.surroundings))
        cluster.kubectl("-n", world.namespace, "create", "secret", "generic", "precious", "--from-literal=key=value")
        user = world.make("KafkaUser", "precious", cluster="trades")

        await world.engine.reconcile(user)

        assert world.condition(user, "Ready")["reason"] == "SecretTaken"
        (secret,) = await world.objects("secrets")
        assert secret["data"] == {"key": base64.b64encode(b"value").decode()}


@pytest.mark.soak  # the garbage collector looks for new kinds every half minute only
async def test_a_cluster_that_a_builds_pod_owns_goes_with_the_pod(cluster: Any) -> None:
    async with live(cluster, "kafkaclusters") as world:
        world.serve(*kinds(world.surroundings))
        build = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "build", "namespace": world.namespace}}
        cluster.apply(json.dumps(build))  # the garbage collector treats all owners alike
        owner = json.loads(cluster.kubectl("-n", world.namespace, "get", "configmap", "build", "-o", "json").stdout)
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "build", "uid": owner["metadata"]["uid"]}
        metadata = {"name": "scratch", "namespace": world.namespace, "finalizers": [FINALIZER]}
        owned = {**metadata, "ownerReferences": [reference]}
        pool = {"name": "main", "replicas": 3, "storage": {"size": "1Gi", "deletionPolicy": "Delete"}}
        scratch = {"apiVersion": "allotment.dev/v1alpha1", "kind": "KafkaCluster", "metadata": owned}
        cluster.apply(json.dumps({**scratch, "spec": {"pools": [pool]}}))
        kafka = Key("KafkaCluster", world.namespace, "scratch")
        await world.rounds(kafka)

        cluster.kubectl("-n", world.namespace, "delete", "configmap", "build")
        eventually(lambda: world.get(kafka)["metadata"].get("deletionTimestamp"), timeout=180)
        await world.let_go(kafka)

        assert await world.left() == set()
