"""A pod that comes back bound is what a whole translation would make of it, or there is no short way."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from allotment_api.labels import (
    CHECKPOINTED_AT_ANNOTATION,
    MAX_RUNTIME_ANNOTATION,
    POD_GROUP_LABEL,
    PREEMPTIBLE_LABEL,
    SCHEDULER_NAME,
)
from allotment_kube.pods import Pod
from allotment_scheduler.translation.bindings import bound_spec
from allotment_scheduler.translation.pods import pod_spec

OWNER = {"kind": "ReplicaSet", "name": "r", "uid": "u", "controller": True}


def pod(*, metadata: dict[str, Any], status: dict[str, Any], **spec: Any) -> Pod:
    """A pod with defaults for what does not matter."""
    named = {"name": "p", "namespace": "a", "uid": "1", "creationTimestamp": "2026-01-01T00:00:00Z", **metadata}
    containers = [{"name": "main", "resources": {"requests": {"cpu": "250m", "memory": "1Gi"}}}]
    given = {"schedulerName": SCHEDULER_NAME, "containers": containers, "priority": 7, **spec}
    return msgspec.convert({"metadata": named, "spec": given, "status": status}, Pod)


@pytest.mark.parametrize(
    ("metadata", "status", "want_short"),
    [
        pytest.param({}, {}, True, id="only the node"),
        pytest.param({"labels": {"app": "x", "topology.kubernetes.io/zone": "z"}}, {}, True, id="its node's zone"),
        pytest.param({}, {"startTime": "2026-01-01T00:01:00Z"}, True, id="started"),
        pytest.param({}, {"nominatedNodeName": "other"}, True, id="nominated"),
        pytest.param({"annotations": {"cni": "x"}}, {}, True, id="an annotation that says nothing to us"),
        pytest.param({"labels": {POD_GROUP_LABEL: "g"}}, {}, False, id="joined a group"),
        pytest.param({"labels": {PREEMPTIBLE_LABEL: "false"}}, {}, False, id="may not be evicted any more"),
        pytest.param({"annotations": {MAX_RUNTIME_ANNOTATION: "60"}}, {}, False, id="declares its end"),
        pytest.param(
            {"annotations": {CHECKPOINTED_AT_ANNOTATION: "2026-01-01T00:00:30Z"}}, {}, False, id="is checkpointed"
        ),
        pytest.param({"deletionTimestamp": "2026-01-01T00:01:00Z"}, {}, False, id="is being deleted"),
        pytest.param({"ownerReferences": []}, {}, False, id="is an orphan"),
        pytest.param(
            {}, {"containerStatuses": [{"name": "main", "resources": {"requests": {"cpu": "2"}}}]}, False, id="has more"
        ),
    ],
)
def test_the_short_way_ends_where_the_long_one_does(
    metadata: dict[str, Any], status: dict[str, Any], want_short: bool
) -> None:
    waiting = pod(metadata={"labels": {"app": "x"}, "ownerReferences": [OWNER]}, status={})
    changed = {"labels": {"app": "x"}, "ownerReferences": [OWNER], **metadata}
    bound = pod(metadata=changed, status=status, nodeName="n")
    known = pod_spec(waiting, gang="job/j", fragile=True)
    found = bound_spec(known, bound)
    assert (found is not None) == want_short
    assert found is None or found == pod_spec(bound, gang="job/j", fragile=True)
    assert bound_spec(replace(known, deleting=True, gated=True), bound) == found


def test_who_is_not_bound_goes_the_long_way() -> None:
    waiting = pod(metadata={}, status={})
    assert bound_spec(pod_spec(waiting), waiting) is None


def test_a_pod_that_counted_for_nothing_while_it_waited_is_translated_anew_once_it_is_bound() -> None:
    known = replace(pod_spec(pod(metadata={}, status={})), invalid="it asks for too much")

    assert bound_spec(known, pod(metadata={}, status={}, nodeName="n")) is None
