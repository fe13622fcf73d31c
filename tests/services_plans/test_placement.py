"""Which taints a service's pods tolerate: those of the pools that they have business in, and no others."""

from collections.abc import Mapping

import pytest

from allotment_api.names import LabelSelector
from allotment_api.service import Placement
from allotment_operator.plans.outcome import NodePoolView, TenantView
from allotment_operator.plans.placement import pod_placement, toleration_keys

GENERAL = NodePoolView(LabelSelector(match_labels={"pool": "general"}))
A100 = NodePoolView(LabelSelector(match_labels={"pool": "a100"}), ("nvidia.com/gpu",))
FPGA = NodePoolView(
    LabelSelector.model_validate({"matchExpressions": [{"key": "card", "operator": "In", "values": ["u55", "u280"]}]}),
    ("bank/fpga",),
)
ALL = {"general": GENERAL, "a100": A100, "fpga": FPGA}
PLAIN = ("cpu", "memory", "ephemeral-storage", "hugepages-2Mi")


@pytest.mark.parametrize(
    ("pools", "requests", "node_selector", "want"),
    [
        pytest.param(ALL, PLAIN, {}, (), id="a pod without devices keeps off tainted machines"),
        pytest.param(ALL, (*PLAIN, "nvidia.com/gpu"), {}, ("bank/fpga", "nvidia.com/gpu"),
                     id="a pod with a device runs only where that is, so it may tolerate all"),
        pytest.param(ALL, PLAIN, {"pool": "a100", "zone": "a"}, ("nvidia.com/gpu",),
                     id="labels that a pool selects by ask for it"),
        pytest.param(ALL, ("nvidia.com/gpu",), {"pool": "a100"}, ("nvidia.com/gpu",), id="and for that one alone"),
        pytest.param(ALL, PLAIN, {"pool": "general"}, (), id="a pool without taints needs none"),
        pytest.param(ALL, PLAIN, {"card": "u280"}, ("bank/fpga",), id="an expression is met by its value"),
        pytest.param(ALL, PLAIN, {"card": "other"}, (), id="another value asks for nothing"),
        pytest.param({"a100": A100}, PLAIN, {}, ("nvidia.com/gpu",), id="who has only tainted machines runs there"),
        pytest.param({}, PLAIN, {}, (), id="who has no pools tolerates nothing"),
    ],
)  # fmt: skip
def test_a_pod_tolerates_the_taints_of_the_pools_it_has_business_in(
    pools: Mapping[str, NodePoolView], requests: tuple[str, ...], node_selector: dict[str, str], want: tuple[str, ...]
) -> None:
    tenant = TenantView("research", pools=pools)

    assert toleration_keys(tenant, requests=requests, node_selector=node_selector) == want


def test_a_named_pool_is_tolerated_whatever_its_pods_request() -> None:
    tenant = TenantView("research", pools=ALL)
    placement = Placement.model_validate({"nodePool": "fpga"})

    made = pod_placement(placement, tenant, selector={"app": "x"}, requests=PLAIN)

    assert made["tolerations"] == [{"key": "bank/fpga", "operator": "Exists"}]


def test_pods_of_a_service_without_devices_carry_no_toleration() -> None:
    made = pod_placement(Placement(), TenantView("research", pools=ALL), selector={"app": "x"}, requests=PLAIN)

    assert "tolerations" not in made
