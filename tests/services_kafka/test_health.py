"""A Kafka cluster is ready when a client could work with it, and not when the first broker answers."""

import pytest

from allotment_api.kafka import KafkaClusterSpec
from allotment_operator.services.kafka.admin import ClusterState
from allotment_operator.services.kafka.health import judge, needed_brokers

_VOTERS = (0, 1, 2)


@pytest.mark.parametrize(
    ("brokers", "deployed", "want_ready", "want_message"),
    [
        (2, False, False, "2 brokers serve; it takes 3 to make the first topics (replication.factor)."),
        (3, False, True, "3 brokers serve, 3 controllers vote, every partition has all its copies."),
        (2, True, True, "2 brokers serve, 3 controllers vote, every partition has all its copies."),
        (1, True, False, "1 brokers serve; it takes 2 to acknowledge a record (replication.minInSync)."),
        (0, True, False, "0 brokers serve; it takes 2 to acknowledge a record (replication.minInSync)."),
    ],
)
def test_enough_brokers_must_serve(brokers: int, deployed: bool, want_ready: bool, want_message: str) -> None:
    spec = KafkaClusterSpec()
    state = ClusterState(brokers=tuple(range(brokers)), controller=0, voters=_VOTERS)

    health = judge(state, needed=needed_brokers(spec, deployed=deployed))

    assert (health.ready, health.message) == (want_ready, want_message)


def test_a_single_broker_is_enough_where_one_copy_is_asked_for() -> None:
    spec = KafkaClusterSpec.model_validate({"replication": {"factor": 1, "minInSync": 1}})
    state = ClusterState(brokers=(0,), controller=0, voters=(0,))

    assert judge(state, needed=needed_brokers(spec, deployed=False)).ready


@pytest.mark.parametrize(
    ("state", "want"),
    [
        (ClusterState((0, 1, 2), None, _VOTERS), "NoController"),
        (ClusterState((0, 1, 2), 0, _VOTERS, offline=("t-0",)), "PartitionsOffline"),
    ],
)
def test_a_cluster_without_leaders_is_not_ready(state: ClusterState, want: str) -> None:
    health = judge(state, needed=needed_brokers(KafkaClusterSpec(), deployed=True))

    assert (health.ready, health.reason) == (False, want)
