"""CassandraCluster by the real engine on the real API server, on nodes that are simulated."""

from typing import Any

from allotment_operator.services.cassandra.kinds import kinds
from builders.live_rounds import live


async def test_a_ring_comes_grows_and_goes(cluster: Any) -> None:
    async with live(cluster, "cassandraclusters") as world:
        world.serve(*kinds(world.surroundings))
        spec: dict[str, Any] = {"storage": {"size": "1Gi", "deletionPolicy": "Delete"}}
        ring = world.make("CassandraCluster", "ledger", **spec)

        await world.rounds(ring)

        ready = world.condition(ring, "Ready")
        assert (ready["status"], ready["reason"]) == ("True", "PodsReadySimulated")
        assert world.get(ring)["status"]["replicas"] == 3

        world.make("CassandraCluster", "ledger", **spec, size=5)
        await world.rounds(ring)

        assert world.get(ring)["status"]["replicas"] == 5
        assert world.condition(ring, "Progressing")["status"] == "False"

        await world.let_go(ring)
        assert await world.left() == set()
