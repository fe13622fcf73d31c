"""What must never happen is noticed, and what may happen is not held against anybody."""

from typing import Any

import pytest

from allotment_cli.demo.checks import violations
from allotment_cli.demo.facts import JobFact
from builders.bank_pictures import node, picture, pod

JOB = {("fraud", "train"): JobFact("fraud", "train", parallelism=1, completions=9, succeeded=0, finished=False)}


def test_an_ordinary_picture_has_no_violation() -> None:
    seen = picture(pod("a", "fraud", on="n1"), pod("b", "research", on="n1"), nodes=(node("n1", cpu=8),))

    assert list(violations(seen)) == []


def test_a_node_with_more_than_it_holds_is_named_with_numbers() -> None:
    seen = picture(pod("a", "fraud", on="n1"), pod("b", "research", on="n1"), nodes=(node("n1", cpu=7),))

    assert list(violations(seen)) == ["node n1 holds 8000 cpu of 7000"]


def test_pods_that_ended_take_no_room() -> None:
    seen = picture(pod("a", "fraud", on="n1"), pod("b", "fraud", on="n1", phase="Failed"), nodes=(node("n1", cpu=4),))

    assert list(violations(seen)) == []


@pytest.mark.parametrize(
    ("second", "want"),
    [
        pytest.param({}, ["job fraud/train runs 2 pods of 1"], id="two at once"),
        pytest.param({"leaving": True}, [], id="one is leaving"),
        pytest.param({"phase": "Succeeded"}, [], id="one has ended"),
    ],
)
def test_a_job_runs_no_more_pods_than_it_asked_for(second: dict[str, Any], want: list[str]) -> None:
    pods = (pod("a", "fraud", on="n1", owner="train"), pod("b", "fraud", on="n1", owner="train", **second))

    assert list(violations(picture(*pods, jobs=JOB))) == want


def test_two_drivers_of_one_application_are_noticed() -> None:
    drivers = [
        pod(f"d{number}", "research", on="n", owner="backtest", kind="SparkApplication", component="driver")
        for number in (1, 2)
    ]

    assert list(violations(picture(*drivers))) == ["research/backtest has 2 drivers at once"]


def test_a_tenants_pod_for_another_scheduler_is_noticed() -> None:
    seen = picture(pod("x", "fraud", scheduler="default-scheduler"), pod("y", "kube-system", scheduler="other"))

    assert list(violations(seen)) == ["pod fraud/x names scheduler default-scheduler"]
