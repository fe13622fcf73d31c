"""Services of different kinds may have the same name in the same namespace."""

from builders import cassandra_node, kafka_broker
from builders.services import World, custom


def test_a_kafka_and_a_cassandra_cluster_of_one_name_share_no_object() -> None:
    kafka = World(kafka_broker.cluster_kind(), custom("KafkaCluster", "core"))
    cassandra = World(cassandra_node.cluster_kind(), custom("CassandraCluster", "core"))
    for world in (kafka, cassandra):
        for _ in range(5):
            world.round()
            world.run_pods()

    assert not kafka.objects.keys() & cassandra.objects.keys()
