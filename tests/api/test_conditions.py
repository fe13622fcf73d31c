from datetime import UTC, datetime, timedelta

import pytest

from allotment_api.conditions import Condition, ConditionType, condition, find, is_true, merge

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)


def ready(status: bool | None, reason: str = "AsExpected", *, now: datetime = NOON) -> Condition:
    return condition("Ready", status, reason, now=now)


def test_a_condition_that_stays_keeps_its_time_and_takes_the_new_words() -> None:
    (merged,) = merge([ready(status=False, reason="WaitingForPods")], [ready(status=False, reason="Error", now=LATER)])

    assert merged.last_transition_time == NOON
    assert merged.reason == "Error"


def test_a_condition_that_flips_takes_the_new_time() -> None:
    (merged,) = merge([ready(status=False)], [ready(status=True, now=LATER)])

    assert merged.last_transition_time == LATER


def test_conditions_of_others_stay_where_they_are() -> None:
    theirs = condition("GuaranteeIncomplete", status=True, reason="X", now=NOON)

    merged = merge(
        [theirs, ready(status=True)], [ready(status=False), condition("Paused", status=True, reason="Y", now=NOON)]
    )

    assert [each.type for each in merged] == ["GuaranteeIncomplete", "Ready", "Paused"]
    assert merged[0] is theirs


@pytest.mark.parametrize(("status", "wanted"), [(True, "True"), (False, "False"), (None, "Unknown")])
def test_the_three_answers(status: bool | None, wanted: str) -> None:
    assert ready(status).status == wanted
    assert is_true([ready(status)], ConditionType.READY) == (status is True)


def test_what_is_not_there_is_neither_found_nor_true() -> None:
    assert find([ready(status=True)], "Paused") is None
    assert not is_true([], "Ready")


def test_a_condition_is_written_as_kubernetes_writes_it() -> None:
    written = condition(
        "Ready", status=True, reason="AsExpected", message="all well", now=NOON, generation=3
    ).manifest()

    assert written == {
        "type": "Ready",
        "status": "True",
        "reason": "AsExpected",
        "message": "all well",
        "lastTransitionTime": "2026-01-31T12:00:00Z",
        "observedGeneration": 3,
    }
    assert Condition.model_validate(written).manifest() == written
