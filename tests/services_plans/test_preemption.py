"""What a service is told of evictions: no more safety than its tenant's guarantee gives."""

import datetime as dt

import pytest

from allotment_api.labels import PREEMPTIBLE_LABEL
from allotment_operator.plans.outcome import TenantView
from allotment_operator.plans.preemption import Preemption

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("guaranteed", "preemptible", "label", "answer", "said"),
    [
        ({"cpu", "memory"}, False, "false", ("False", "AsExpected"), "only within the guarantee of tenant payments"),
        ({"cpu"}, False, "true", ("True", "NoGuarantee"), "no guarantee for memory"),
        ({"cpu"}, True, "true", ("False", "AsExpected"), "as spec.preemptible asks for"),
    ],
    ids=["guaranteed", "not guaranteed", "as asked for"],
)  # fmt: skip
def test_it_is_said_whether_the_pods_may_go_and_what_they_may_wait_for(
    guaranteed: set[str], preemptible: bool, label: str, answer: tuple[str, str], said: str
) -> None:
    tenant = TenantView("payments", frozenset(guaranteed))
    judged = Preemption.of(tenant, requested=["cpu", "memory"], preemptible=preemptible)
    told = judged.condition(now=NOW)

    assert judged.labels == {PREEMPTIBLE_LABEL: label}
    assert (told.status, told.reason) == answer
    assert said in told.message
