"""The provisioner's decisions: one step at a time, and none where there is nothing to do."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allotment_local.real_node.disk import MINIMUM_SIZE, rounded
from allotment_local.real_node.volumes import Expand, Provision, Remove, Step, decide

MEBIBYTE = 1 << 20


def claim(*, asks: str = "1Gi", has: str = "", node: str = "", phase: str = "Pending", **fields: Any) -> dict[str, Any]:
    annotations = {"volume.kubernetes.io/selected-node": node} if node else {}
    return {
        "metadata": {"name": "data", "namespace": "ns", "uid": "u1", "annotations": annotations, **fields},
        "spec": {"storageClassName": "local-disk", "resources": {"requests": {"storage": asks}}},
        "status": {"phase": phase, **({"capacity": {"storage": has}} if has else {})},
    }


def volume(*, phase: str = "Bound", policy: str = "Delete", storage_class: str = "local-disk") -> dict[str, Any]:
    terms = [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["real-1"]}]}]
    return {
        "metadata": {"name": "pvc-u1"},
        "spec": {
            "storageClassName": storage_class,
            "persistentVolumeReclaimPolicy": policy,
            "nodeAffinity": {"required": {"nodeSelectorTerms": terms}},
        },
        "status": {"phase": phase},
    }


GIBIBYTE = 1 << 30


@pytest.mark.parametrize(
    ("claimed", "made", "want"),
    [
        pytest.param(claim(), None, None, id="nobody uses the claim yet"),
        pytest.param(claim(node="real-1"), None, Provision("pvc-u1", "real-1", GIBIBYTE), id="a node is chosen"),
        pytest.param(claim(node="real-1", deletionTimestamp="now"), None, None, id="the claim is going"),
        pytest.param(claim(node="real-1"), volume(phase="Available"), None, id="made, not bound yet"),
        pytest.param(claim(node="real-1", phase="Bound", has="1Gi"), volume(), None, id="all is well"),
        pytest.param(
            claim(node="real-1", phase="Bound", asks="2Gi", has="1Gi"),
            volume(),
            Expand("pvc-u1", "real-1", 2 * GIBIBYTE),
            id="the claim asks for more",
        ),
        pytest.param(claim(phase="Bound", asks="1Mi", has="300Mi"), volume(), None, id="rounded up, not to be shrunk"),
        pytest.param(None, volume(phase="Released"), Remove("pvc-u1", "real-1"), id="the claim is gone"),
        pytest.param(None, volume(phase="Released", policy="Retain"), None, id="kept on purpose"),
        pytest.param(None, volume(phase="Released", storage_class="other"), None, id="somebody else's volume"),
        pytest.param(None, volume(phase="Bound"), None, id="the claim is not seen yet"),
    ],
)
def test_each_state_has_its_step(
    claimed: dict[str, Any] | None, made: dict[str, Any] | None, want: Step | None
) -> None:
    assert decide(claimed, made) == want


def test_claims_of_other_classes_are_left_alone() -> None:
    foreign = claim(node="real-1")
    foreign["spec"]["storageClassName"] = "other"

    assert decide(foreign, None) is None


@given(st.integers(0, 1 << 50))
def test_a_disk_holds_what_was_asked_in_whole_mebibytes(size: int) -> None:
    assert rounded(size) >= max(size, MINIMUM_SIZE)
    assert rounded(size) % MEBIBYTE == 0
    assert rounded(size) < max(size, MINIMUM_SIZE) + MEBIBYTE
    assert rounded(rounded(size)) == rounded(size)
