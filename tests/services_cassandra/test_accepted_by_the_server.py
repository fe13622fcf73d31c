"""The real API server takes what is rendered, in a namespace that enforces the Pod Security profile `restricted`."""

from typing import Any

from builders.cassandra_node import cluster_kind
from builders.rendered_objects import accepted, restricted_namespace
from builders.services import World, custom


def test_the_server_accepts_every_object(cluster: Any) -> None:
    with restricted_namespace(cluster) as namespace:
        racks = [{"name": "r1", "nodeSelector": {"zone": "a"}}, {"name": "r2"}]
        spec: dict[str, Any] = {"racks": racks, "priorityClassName": "high"}
        world = World(cluster_kind(), custom("CassandraCluster", "ledger", namespace, **spec))
        for _ in range(6):
            world.round()
            world.run_pods()
        for each in [*world.of_kind("StatefulSet").values(), *world.of_kind("Pod").values()]:
            pod = each["spec"].get("template", each)["spec"]
            pod.pop("priorityClassName")  # no such class on a bare server

        assert accepted(cluster, world, namespace) == []
