"""The real API server takes what is rendered, in a namespace that enforces the Pod Security profile `restricted`."""

from typing import Any

import pytest

from builders.kafka_broker import cluster_kind
from builders.rendered_objects import accepted, restricted_namespace
from builders.services import World, custom

SPECS: dict[str, dict[str, Any]] = {
    "bare": {},
    "separate-roles": {
        "pools": [
            {"name": "control", "roles": ["controller"], "replicas": 3},
            {"name": "data", "roles": ["broker"], "replicas": 3, "placement": {"nodePool": "fast"}},
        ]
    },
    "outside": {
        "listeners": [
            {"name": "inside", "port": 9092, "authentication": {"type": "tls"}},
            {"name": "nodes", "port": 9094, "type": "nodePort", "authentication": {"type": "scram-sha-512"}},
            {"name": "cloud", "port": 9095, "type": "loadBalancer", "authentication": {"type": "tls"}},
        ]
    },
}


@pytest.mark.parametrize("spec", SPECS)
def test_the_server_accepts_every_object(cluster: Any, spec: str) -> None:
    with restricted_namespace(cluster) as namespace:
        world = World(cluster_kind(), custom("KafkaCluster", "trades", namespace, **SPECS[spec]))
        for _ in range(3):
            world.round()
            world.run_pods()

        assert accepted(cluster, world, namespace) == []
