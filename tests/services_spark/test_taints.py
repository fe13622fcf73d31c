"""Which of an application's pods may run on tainted machines: those with business there."""

from typing import Any

import pytest

from allotment_api.labels import API_VERSION
from allotment_api.names import LabelSelector
from allotment_api.spark import SparkApplication
from allotment_operator.plans.outcome import NodePoolView, TenantView
from allotment_operator.plans.ownership import Owner
from allotment_operator.plans.preemption import Preemption
from allotment_operator.services.spark.pods import driver_pod, executor_template

TENANT = TenantView(
    "research",
    pools={
        "general": NodePoolView(LabelSelector(match_labels={"pool": "general"})),
        "a100": NodePoolView(LabelSelector(match_labels={"pool": "a100"}), ("nvidia.com/gpu",)),
    },
)
GPU = {"gpu": {"quantity": 1}}
THERE = {"nodeSelector": {"pool": "a100"}}
OWN = {"tolerations": [{"key": "nvidia.com/gpu", "operator": "Equal", "value": "present", "effect": "NoSchedule"}]}
TOLERATED = [{"key": "nvidia.com/gpu", "operator": "Exists"}]


@pytest.mark.parametrize(
    ("driver", "executor", "of_driver", "of_executors"),
    [
        pytest.param({}, {}, [], [], id="nobody asks for a device"),
        pytest.param({}, GPU, [], TOLERATED, id="only executors have GPUs"),
        pytest.param(GPU, {}, TOLERATED, [], id="only the driver has one"),
        pytest.param(THERE, {}, TOLERATED, [], id="the driver asks for the pool by its labels"),
        pytest.param({}, {**GPU, **OWN}, [], OWN["tolerations"], id="what the owner wrote himself is not said twice"),
    ],
)
def test_driver_and_executors_tolerate_what_each_has_business_with(
    driver: dict[str, Any], executor: dict[str, Any], of_driver: list[Any], of_executors: list[Any]
) -> None:
    application = SparkApplication.parse(
        {
            "apiVersion": API_VERSION,
            "kind": "SparkApplication",
            "metadata": {"name": "pi", "namespace": "research", "uid": "7"},
            "spec": {
                "type": "Python",
                "mainApplicationFile": "local:///pi.py",
                "driver": driver,
                "executor": {"instances": 2, **executor},
            },
        }
    )
    owner, preemption = Owner.of(application), Preemption.of(TENANT, requested=(), preemptible=True)

    made = driver_pod(application, owner, attempt=1, tenant=TENANT, preemption=preemption)
    template = executor_template(application, owner, tenant=TENANT, preemption=preemption)

    assert made["spec"]["tolerations"] == of_driver
    assert template["spec"]["tolerations"] == of_executors
