"""What follows for a tenant from those above it."""

import dataclasses
from typing import Any

import pytest

from allotment_api.tenant import Tenant
from allotment_operator.tenancy import entitlement
from allotment_operator.tenancy.entitlement import NO_IMAGE
from builders.estates import a_pool, a_tenant, an_estate, held

OPS = {"name": "ops", "role": "owner"}


class TestPools:
    @pytest.mark.parametrize(
        ("top", "leaf", "want"),
        [
            ({}, {}, {"cpu", "gpu"}),
            ({}, {"nodePools": ["cpu"]}, {"cpu"}),
            ({"nodePools": ["gpu"]}, {}, {"gpu"}),
            ({"nodePools": ["gpu"]}, {"nodePools": ["cpu"]}, set()),
            ({"nodePools": ["cpu", "risk"]}, {}, {"cpu"}),
        ],
        ids=[
            "all that admit it",
            "those it names",
            "those that a tenant above names",
            "what both name is nothing",
            "a pool for others stays closed",
        ],
    )
    def test_are_those_that_nobody_excludes(self, top: dict[str, Any], leaf: dict[str, Any], want: set[str]) -> None:
        estate = an_estate(
            a_tenant("top", **top),
            a_tenant("leaf", parent="top", **leaf),
            pools=[a_pool("cpu"), a_pool("gpu", "nvidia.com/gpu", tenants=["top"]), a_pool("risk", tenants=["risk"])],
        )

        assert set(entitlement.pools_of(estate, estate.chain("leaf"))) == want

    def test_bring_their_taints_as_tolerations(self) -> None:
        pools = [a_pool("gpu", "nvidia.com/gpu", "dedicated"), a_pool("cpu"), a_pool("big", "dedicated")]
        estate = an_estate(a_tenant("leaf"), pools=pools)

        policy = entitlement.policy_of(estate, estate.chain("leaf"))
        view = entitlement.view(estate, "leaf")

        assert policy.allowed_toleration_keys == ("dedicated", "nvidia.com/gpu")
        assert view is not None
        assert view.pools["gpu"].toleration_keys == ("dedicated", "nvidia.com/gpu")
        assert view.pools["cpu"].toleration_keys == ()


class TestGuarantees:
    @pytest.mark.parametrize(
        ("top", "leaf", "covered", "gap"),
        [
            ({}, {}, set(), ""),
            ({}, {"cpu": "4", "memory": "8Gi"}, {"cpu", "memory"}, ""),
            ({"cpu": "9", "memory": "9Gi"}, {"cpu": "4", "memory": "8Gi"}, {"cpu", "memory"}, ""),
            ({"cpu": "9"}, {"cpu": "4", "memory": "8Gi"}, {"cpu"}, "none of memory"),
            ({}, {"cpu": "4"}, {"cpu"}, "leaves out memory"),
            ({"cpu": "9", "memory": "9Gi"}, {}, set(), ""),
        ],
        ids=["none", "own", "within the one above", "wider than the one above", "half", "only above"],
    )
    def test_count_as_far_as_everybody_above_holds_them(
        self, top: dict[str, str], leaf: dict[str, str], covered: set[str], gap: str
    ) -> None:
        estate = an_estate(a_tenant("top", guaranteed=top), a_tenant("leaf", parent="top", guaranteed=leaf))
        chain = estate.chain("leaf")

        assert entitlement.guaranteed(chain) == covered
        assert (gap in entitlement.guarantee_gap(chain)) if gap else not entitlement.guarantee_gap(chain)


class TestBounds:
    def test_become_only_narrower_downwards(self) -> None:
        estate = an_estate(
            a_tenant(
                "top", policy={"maxPriority": 100, "maxRuntimeSeconds": 3600, "allowedRegistries": ["reg.bank/retail"]}
            ),
            a_tenant(
                "leaf",
                parent="top",
                policy={
                    "maxPriority": 5000,
                    "maxRuntimeSeconds": 9000,
                    "defaultRuntimeSeconds": 8000,
                    "allowedRegistries": ["reg.bank/retail/pay", "docker.io/"],
                },
            ),
        )

        policy = entitlement.policy_of(estate, estate.chain("leaf"))

        assert policy.max_priority == 100
        assert policy.max_runtime_seconds == 3600
        assert policy.default_runtime_seconds == 3600
        assert policy.allowed_registries == ("reg.bank/retail/pay",)

    @pytest.mark.parametrize(
        ("top", "leaf", "want"),
        [
            pytest.param(["reg.bank"], ["reg.bank.evil.io/"], [NO_IMAGE], id="a longer host is another host"),
            pytest.param(["reg.bank"], ["reg.bank:5000/"], [NO_IMAGE], id="another port is another registry"),
            pytest.param(["reg.bank/retail"], ["reg.bank/retail-evil"], [NO_IMAGE], id="a longer name is another name"),
            pytest.param(["reg.bank/retail"], ["reg.bank/retail:2"], ["reg.bank/retail:2"], id="a tag of the same"),
            pytest.param(["reg.bank/retail"], ["reg.bank/retail@sha256"], ["reg.bank/retail@sha256"], id="a digest"),
            pytest.param(["reg.bank/retail"], ["reg.bank/"], ["reg.bank/retail"], id="no more than the one above"),
            pytest.param(["reg.bank/"], ["reg.bank"], ["reg.bank/"], id="with and without a slash"),
        ],
    )
    def test_of_images_end_at_a_border_of_the_name(self, top: list[str], leaf: list[str], want: list[str]) -> None:
        estate = an_estate(
            a_tenant("top", policy={"allowedRegistries": top}),
            a_tenant("leaf", parent="top", policy={"allowedRegistries": leaf}),
        )

        assert entitlement.policy_of(estate, estate.chain("leaf")).allowed_registries == tuple(want)

    def test_of_images_may_cross_in_more_pairs_than_a_tenant_may_list(self) -> None:
        above = ["a.bank/", *(f"b.bank/{number}" for number in range(63))]
        below = ["b.bank/", *(f"a.bank/{number}" for number in range(63))]
        estate = an_estate(
            a_tenant("top", policy={"allowedRegistries": above}),
            a_tenant("leaf", parent="top", policy={"allowedRegistries": below}),
        )

        found = entitlement.policy_of(estate, estate.chain("leaf")).allowed_registries

        assert set(found) == {*above[1:], *below[1:]}

    def test_that_have_nothing_in_common_admit_no_image(self) -> None:
        estate = an_estate(
            a_tenant("top", policy={"allowedRegistries": ["a.example/"]}),
            a_tenant("leaf", parent="top", policy={"allowedRegistries": ["b.example/"]}),
        )

        assert entitlement.policy_of(estate, estate.chain("leaf")).allowed_registries == (entitlement.NO_IMAGE,)

    def test_of_a_suspension_hold_below(self) -> None:
        estate = an_estate(a_tenant("top", suspended=True), a_tenant("leaf", parent="top"))

        assert entitlement.policy_of(estate, estate.chain("leaf")).suspended
        assert entitlement.view(estate, "leaf").suspended  # type: ignore[union-attr]  # it exists


class TestAView:
    """What a service's plan is told of its tenant."""

    @pytest.mark.parametrize(
        ("top", "leaf", "want"),
        [
            ({"allowNodePort": True}, {"allowNodePort": True, "allowLoadBalancer": True}, {"NodePort"}),
            ({"allowLoadBalancer": True}, {"allowLoadBalancer": True}, {"LoadBalancer"}),
            ({"allowNodePort": True, "allowLoadBalancer": True}, {}, set()),
        ],
        ids=["as far as everybody above it has it", "its own", "not what only others have"],
    )
    def test_holds_the_ways_in_from_outside(self, top: dict[str, Any], leaf: dict[str, Any], want: set[str]) -> None:
        estate = an_estate(
            a_tenant("top", policy={"network": top}), a_tenant("leaf", parent="top", policy={"network": leaf})
        )
        view = entitlement.view(estate, "leaf")

        assert view is not None
        assert view.ways_in == want

    def test_holds_the_tenants_namespaces_and_the_networks_that_everybody_above_has(self) -> None:
        estate = an_estate(
            a_tenant("top", policy={"network": {"egress": ["10.0.0.0/8"]}}),
            a_tenant(
                "leaf",
                parent="top",
                namespaces=["pay"],
                policy={"network": {"egress": ["10.20.0.0/16", "192.0.2.0/24"]}},
            ),
            namespaces=[held("pay", "leaf"), held("risk", "other")],
        )

        view = entitlement.view(estate, "leaf")

        assert view is not None
        assert (view.namespaces, view.egress, view.frozen) == (("pay",), ("10.20.0.0/16",), "")

    @pytest.mark.parametrize(
        ("tenants", "unreadable", "said"),
        [
            (
                [a_tenant("leaf", parent="odd")],
                {"odd": "spec.weight is bad"},
                "the tenant odd, above leaf, cannot be read",
            ),
            ([], {"leaf": "spec.weight is bad"}, "the tenant leaf cannot be read"),
            ([a_tenant("leaf", parent="ghost")], {}, "the parent ghost of leaf does not exist"),
        ],
        ids=["one above was never readable", "itself was never readable", "one above is missing"],
    )
    def test_is_frozen_where_bounds_are_missing(
        self, tenants: list[Tenant], unreadable: dict[str, str], said: str
    ) -> None:
        estate = dataclasses.replace(an_estate(*tenants), unreadable=unreadable)

        view = entitlement.view(estate, "leaf")

        assert view is not None
        assert said in view.frozen
        assert view.guaranteed == frozenset()
        assert view.egress == ()

    def test_is_none_of_a_tenant_that_does_not_exist(self) -> None:
        assert entitlement.view(an_estate(), "nobody") is None


def test_members_hold_their_role_in_everything_below() -> None:
    estate = an_estate(
        a_tenant("top", members=[{"name": "auditors", "role": "viewer"}, {"name": "devs", "role": "developer"}]),
        a_tenant("leaf", parent="top", members=[{"name": "devs", "role": "developer"}, OPS]),
    )

    members = entitlement.members_of(estate.chain("leaf"))

    assert {role: [each.name for each in named] for role, named in members.items()} == {
        "developer": ["devs"],
        "owner": ["ops"],
        "viewer": ["auditors"],
    }
