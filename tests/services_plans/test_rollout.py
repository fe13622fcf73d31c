"""Restarts after a change: one at a time, and never one that the service cannot spare."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from allotment_operator.plans.actions import ObjectRef
from allotment_operator.plans.outcome import Observed
from allotment_operator.plans.rollout import next_restart
from allotment_operator.plans.workload import CONTENT_ANNOTATION


def stateful_set(*, content: str = "new", seen: bool = True) -> dict[str, Any]:
    return {
        "kind": "StatefulSet",
        "metadata": {"name": "s", "namespace": "n", "generation": 2},
        "spec": {"template": {"metadata": {"annotations": {CONTENT_ANNOTATION: content}}}},
        "status": {"observedGeneration": 2 if seen else 1},
    }


def pod(number: int, *, content: str = "new", ready: bool = True, ending: bool = False) -> dict[str, Any]:
    metadata = {
        "name": f"s-{number}",
        "namespace": "n",
        "uid": f"uid-{number}",
        "annotations": {CONTENT_ANNOTATION: content},
        "ownerReferences": [{"kind": "StatefulSet", "name": "s"}],
        **({"deletionTimestamp": "2026-03-01T12:00:00Z"} if ending else {}),
    }
    return {"metadata": metadata, "status": {"conditions": [{"type": "Ready", "status": str(ready)}]}}


def observed(pods: list[dict[str, Any]], owner: dict[str, Any] | None = None) -> Observed:
    children = {ObjectRef("v1", "Pod", "n", each["metadata"]["name"]): each for each in pods}
    children[ObjectRef("apps/v1", "StatefulSet", "n", "s")] = owner or stateful_set()
    return Observed(children=children)


@given(
    st.lists(st.tuples(st.sampled_from(["old", "new"]), st.booleans(), st.booleans()), max_size=6),
    st.integers(0, 6),
    st.sampled_from(["", "it cannot spare one"]),
)
def test_a_pod_that_serves_is_restarted_only_if_all_serve_and_the_service_is_well(
    states: list[tuple[str, bool, bool]], wanted: int, unhealthy: str
) -> None:
    pods = [pod(n, content=content, ready=ready, ending=ending) for n, (content, ready, ending) in enumerate(states)]

    rollout = next_restart(observed(pods), wanted=wanted, unhealthy=unhealthy)

    assert rollout.outdated == sum(content == "old" for content, _, _ in states)
    assert bool(rollout.message) == bool(rollout.outdated)
    if rollout.restart is not None:
        content, ready, ending = states[int(rollout.restart.ref.name.removeprefix("s-"))]
        assert content == "old"
        assert not any(ending for _, _, ending in states)
        if ready and not ending:
            assert all(ready for _, ready, _ in states)
            assert len(states) >= wanted
            assert not unhealthy


@given(st.integers(1, 6))
def test_a_rollout_ends_with_every_pod_restarted_once(count: int) -> None:
    pods = [pod(number, content="old") for number in range(count)]
    restarted = []
    for _ in range(count):
        rollout = next_restart(observed(pods), wanted=count, unhealthy="")
        assert rollout.restart is not None
        number = int(rollout.restart.ref.name.removeprefix("s-"))
        restarted.append(number)
        pods[number] = pod(number)

    assert sorted(restarted) == list(range(count))
    assert next_restart(observed(pods), wanted=count, unhealthy="").outdated == 0


def test_no_pod_is_restarted_before_the_statefulset_controller_has_seen_the_change() -> None:
    rollout = next_restart(observed([pod(0, content="old")], stateful_set(seen=False)), wanted=1, unhealthy="")

    assert rollout.restart is None


def test_a_deletion_names_the_very_pod() -> None:
    rollout = next_restart(observed([pod(0, content="old")]), wanted=1, unhealthy="")

    assert rollout.restart is not None
    assert rollout.restart.uid == "uid-0"
