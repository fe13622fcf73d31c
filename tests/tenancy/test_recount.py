"""A quota that Kubernetes could not count in full is counted again, and one that it could is left alone."""

from typing import Any

import pytest

from allotment_operator.tenancy.recount import counted, recounted

SPARE = "count/replicasets.apps"
KAFKA = "count/kafkaclusters.allotment.dev"
WANTED: dict[str, Any] = {"kind": "ResourceQuota", "spec": {"hard": {SPARE: "10000", KAFKA: "2"}}}


def live(spare: str, *used: str, seen: str | None = None) -> dict[str, Any]:
    """A quota as the API server holds it: bounds in canonical form, and the last count."""
    hard = {SPARE: spare, KAFKA: "2"}
    status = {"hard": {**hard, SPARE: seen or spare}, "used": dict.fromkeys(used, "0")} if used else {}
    return {"spec": {"hard": hard}, "status": status}


@pytest.mark.parametrize(
    ("found", "want", "full"),
    [
        pytest.param(None, "10000", False, id="a new one is written as it is"),
        pytest.param(live("10k"), "10000", False, id="one that nobody has looked at yet is waited for"),
        pytest.param(live("10k", SPARE, KAFKA), "10000", True, id="one that is counted stays"),
        pytest.param(live("10k", SPARE), "10001", False, id="one that lacks a kind is changed by one"),
        pytest.param(live("10001", SPARE), "10000", False, id="and back, if it still lacks it"),
        pytest.param(live("10001", SPARE, seen="10k"), "10001", False, id="a count under way is waited for"),
        pytest.param(live("10001", SPARE, KAFKA), "10001", True, id="the changed one stays once it is counted"),
        pytest.param(live("7", SPARE, KAFKA), "10000", True, id="what somebody else wrote is put right"),
    ],
)
def test_a_quota_is_counted_again_while_its_count_lacks_something(
    found: dict[str, Any] | None, want: str, full: bool
) -> None:
    assert recounted(WANTED, found)["spec"]["hard"] == {SPARE: want, KAFKA: "2"}
    assert counted(found) is full
