"""Restarts after a change: one at a time, and never one that the service cannot spare."""

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allotment_operator.plans.actions import ObjectRef
from allotment_operator.plans.outcome import Observed
from allotment_operator.plans.rollout import next_restart
from allotment_operator.plans.workload import CERTIFICATE_ENDS_ANNOTATION, CONTENT_ANNOTATION

NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


def stateful_set(*, content: str = "new", seen: bool = True) -> dict[str, Any]:
    return {
        "kind": "StatefulSet",
        "metadata": {"name": "s", "namespace": "n", "generation": 2},
        "spec": {"template": {"metadata": {"annotations": {CONTENT_ANNOTATION: content}}}},
        "status": {"observedGeneration": 2 if seen else 1},
    }


def pod(
    number: int,
    *,
    content: str = "new",
    ready: bool = True,
    ending: bool = False,
    days: float | None = None,
    minutes: float = 60,
) -> dict[str, Any]:
    """A pod so many minutes old, whose certificate is good for so many days."""
    created = (NOW - dt.timedelta(minutes=minutes)).isoformat()
    ends: dict[str, str] = (
        {} if days is None else {CERTIFICATE_ENDS_ANNOTATION: (NOW + dt.timedelta(days=days)).isoformat()}
    )
    metadata: dict[str, Any] = {
        "name": f"s-{number}",
        "namespace": "n",
        "uid": f"uid-{number}",
        "annotations": {CONTENT_ANNOTATION: content, **ends},
        "creationTimestamp": created,
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

    rollout = next_restart(observed(pods), wanted=wanted, unhealthy=unhealthy, now=NOW)

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
        rollout = next_restart(observed(pods), wanted=count, unhealthy="", now=NOW)
        assert rollout.restart is not None
        number = int(rollout.restart.ref.name.removeprefix("s-"))
        restarted.append(number)
        pods[number] = pod(number)

    assert sorted(restarted) == list(range(count))
    assert next_restart(observed(pods), wanted=count, unhealthy="", now=NOW).outdated == 0


def test_no_pod_is_restarted_before_the_statefulset_controller_has_seen_the_change() -> None:
    rollout = next_restart(observed([pod(0, content="old")], stateful_set(seen=False)), wanted=1, unhealthy="", now=NOW)

    assert rollout.restart is None


def test_a_deletion_names_the_very_pod() -> None:
    rollout = next_restart(observed([pod(0, content="old")]), wanted=1, unhealthy="", now=NOW)

    assert rollout.restart is not None
    assert rollout.restart.uid == "uid-0"


OLD, GOOD, LATE, OVER = ({"content": "old", "days": days} for days in (60, 20, 0.5, -1))
WAITING, STARTING = {"ready": False}, {"ready": False, "minutes": 1}
ILL = "nobody can log in"


@pytest.mark.parametrize(
    ("pods", "unhealthy", "want_restart", "want_warning"),
    [
        pytest.param([OLD, OLD, WAITING], "", None, False, id="there is time"),
        pytest.param([GOOD, GOOD, WAITING], "", None, True, id="people are warned"),
        pytest.param([GOOD, GOOD, GOOD], ILL, None, True, id="people are warned where all run"),
        pytest.param([GOOD, GOOD, GOOD], "", "s-2", False, id="nothing is in the way"),
        pytest.param([LATE, LATE, WAITING], "", "s-1", False, id="on the last day nothing is waited for"),
        pytest.param([GOOD, LATE, WAITING], "", "s-1", False, id="who ends first goes first"),
        pytest.param([LATE, LATE, STARTING], "", None, True, id="but for one that is just starting"),
        pytest.param([LATE, LATE], "", None, True, id="or has still to come"),
        pytest.param([OVER, OVER, OVER], ILL, "s-2", False, id="too late: the service is never well again"),
        pytest.param([OVER, OVER, STARTING], ILL, "s-1", False, id="too late: none can serve before the others"),
    ],
)
def test_a_certificates_end_is_not_waited_for(
    pods: list[dict[str, Any]], unhealthy: str, want_restart: str | None, *, want_warning: bool
) -> None:
    found = observed([pod(number, **each) for number, each in enumerate(pods)])

    rollout = next_restart(found, wanted=3, unhealthy=unhealthy, now=NOW)

    assert (rollout.restart.ref.name if rollout.restart else None) == want_restart
    assert ("runs out at 2026-03-" in rollout.warning) == want_warning


@pytest.mark.parametrize("ends", ["soon", "2026-01-01T00:00:00", ""])
def test_an_end_that_cannot_be_read_is_none(ends: str) -> None:
    old = pod(0, content="old")
    old["metadata"]["annotations"][CERTIFICATE_ENDS_ANNOTATION] = ends

    rollout = next_restart(observed([old]), wanted=1, unhealthy=ILL, now=NOW)

    assert (rollout.restart, rollout.warning) == (None, "")
