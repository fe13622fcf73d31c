"""Nobody hands on more of networks and services than he has."""

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allotment_api.tenant import Tenant
from allotment_operator.tenancy import grants, plan
from allotment_operator.tenancy.quota import excess, resource_quota, service_counts
from builders.estates import NOW, a_tenant, an_estate, applied, held, observed, owner_of


def net(*egress: str, **doors: bool) -> dict[str, Any]:
    return {"policy": {"network": {"egress": list(egress), **doors}}}


def chain(*specs: dict[str, Any]) -> tuple[Tenant, ...]:
    """A tenant and those above it, the nearest first."""
    return tuple(a_tenant(f"t{number}", **spec) for number, spec in enumerate(specs))


class TestNetworks:
    @pytest.mark.parametrize(
        ("leaf", "top", "want"),
        [
            (["10.20.0.0/16"], ["10.0.0.0/8"], ("10.20.0.0/16",)),
            (["0.0.0.0/0"], ["10.0.0.0/8", "192.0.2.0/24"], ("10.0.0.0/8", "192.0.2.0/24")),
            (["10.0.0.0/8"], ["10.0.0.0/8"], ("10.0.0.0/8",)),
            (["10.0.0.0/8"], [], ()),
            (["10.0.0.0/8"], ["::/0"], ()),
            (["192.0.2.0/24"], ["10.0.0.0/8"], ()),
            ([], ["0.0.0.0/0"], ()),
        ],
    )
    def test_are_those_that_everybody_above_has_too(self, leaf: list[str], top: list[str], want: tuple[str]) -> None:
        assert grants.network(chain(net(*leaf), net(*top))).egress == want

    def test_may_cross_in_more_pairs_than_a_tenant_may_list(self) -> None:
        above = ["10.0.0.0/8", *(f"11.{number}.0.0/16" for number in range(63))]
        below = ["11.0.0.0/8", *(f"10.{number}.0.0/16" for number in range(63))]

        assert set(grants.network(chain(net(*below), net(*above))).egress) == {*above[1:], *below[1:]}

    @pytest.mark.parametrize(("leaf", "top", "want"), [(True, True, True), (True, False, False), (False, True, False)])
    def test_doors_are_open_where_everybody_opens_them(self, *, leaf: bool, top: bool, want: bool) -> None:
        tenants = chain(net(allowNodePort=leaf, allowLoadBalancer=leaf), net(allowNodePort=top, allowLoadBalancer=top))

        found = grants.network(tenants)

        assert (found.allow_node_port, found.allow_load_balancer) == (want, want)

    def test_of_a_namespace_are_the_granted_ones_in_its_walls_and_its_quota(self) -> None:
        estate = an_estate(
            a_tenant("top", **net("10.0.0.0/8")),
            a_tenant("leaf", parent="top", namespaces=["pay"], **net("0.0.0.0/0", allowNodePort=True)),
            namespaces=[held("pay", "leaf")],
        )
        seat = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "allotment-operator-tenant", "namespace": "pay", "uid": "u"},
        }
        outcome = plan.plan(estate.tenants["leaf"], owner_of("leaf"), observed(seat), estate, now=NOW)
        made = {(ref.kind, ref.name): manifest for ref, manifest in applied(outcome).items()}

        [opened] = made["NetworkPolicy", "allotment-egress"]["spec"]["egress"]
        assert [each["ipBlock"]["cidr"] for each in opened["to"]] == ["10.0.0.0/8"]
        assert made["TenantPolicy", "allotment"]["spec"]["allowNodePort"] is False
        assert made["ResourceQuota", "allotment"]["spec"]["hard"]["services.nodeports"] == "0"
        [narrowed] = [each for each in outcome.conditions if each.type == "Narrowed"]
        assert (narrowed.status, narrowed.reason) == ("True", "BeyondParent")
        assert "0.0.0.0/0 is closed as far as the tenant top above it does not have it" in narrowed.message
        assert "policy.network.allowNodePort has no effect" in narrowed.message


networks = st.lists(
    st.one_of(
        st.ip_addresses(v=4).flatmap(
            lambda a: st.integers(0, 32).map(lambda n: str(ipaddress.ip_network(f"{a}/{n}", strict=False)))
        ),
        st.sampled_from(["0.0.0.0/0", "10.0.0.0/8", "10.20.0.0/16", "::/0", "2001:db8::/32"]),
    ),
    max_size=4,
    unique=True,
)


@given(st.lists(networks, min_size=1, max_size=4), st.ip_addresses(v=4))
def test_an_address_is_reached_just_where_every_list_on_the_way_up_holds_it(
    lists: list[list[str]], address: ipaddress.IPv4Address
) -> None:
    def holds(nets: Any) -> bool:
        return any(address in ipaddress.ip_network(each) for each in nets)

    assert holds(grants.network(chain(*(net(*each) for each in lists))).egress) == all(map(holds, lists))


class TestServices:
    TOP = a_tenant("top", services=[{"kind": "KafkaCluster", "count": 2}, {"kind": "KafkaTopic"}])

    def test_of_a_kind_that_a_tenant_above_may_not_have_are_not_allowed(self) -> None:
        leaf = a_tenant("leaf", parent="top", namespaces=["pay"])
        estate = an_estate(self.TOP, leaf, namespaces=[held("pay", "leaf")])

        counts = service_counts(estate, leaf, "pay")

        assert counts["count/cassandraclusters.allotment.dev"] == "0"
        assert counts["count/kafkaclusters.allotment.dev"] == "2"
        assert "count/kafkatopics.allotment.dev" not in counts
        assert resource_quota(estate, leaf, "pay", {})["spec"]["hard"].items() >= counts.items()

    def test_are_counted_over_everything_below_the_tenant_that_bounds_them(self) -> None:
        estate = an_estate(
            self.TOP,
            a_tenant("one", parent="top", namespaces=["one"], services=[{"kind": "KafkaCluster", "count": 9}]),
            a_tenant("two", parent="top", namespaces=["two"]),
            namespaces=[held("one", "one"), held("two", "two")],
            services=[
                ("KafkaCluster", "one", "a", "2026-01-01"),
                ("KafkaCluster", "two", "b", "2026-01-02"),
                ("KafkaCluster", "two", "c", "2026-01-03"),
            ],
        )
        first, second, third = estate.services

        assert service_counts(estate, estate.tenants["one"], "one")["count/kafkaclusters.allotment.dev"] == "1"
        assert excess(estate, first) == excess(estate, second) == ""
        assert "The tenant top, above it, may have 2 of KafkaCluster and has 3" in excess(estate, third)

    @pytest.mark.parametrize(
        ("mine", "said"),
        [
            ([{"kind": "KafkaCluster", "count": 2}], ""),
            (None, ""),
            ([{"kind": "KafkaTopic"}], ""),
            ([{"kind": "KafkaCluster", "count": 3}], "3 of KafkaCluster is more than the 2 that the tenant top"),
            ([{"kind": "SparkCluster"}], "SparkCluster is not allowed by the tenant top"),
        ],
        ids=["as many", "no list of its own", "another without a count", "more", "another kind"],
    )
    def test_that_a_spec_asks_for_in_vain_are_told(self, mine: list[dict[str, Any]] | None, said: str) -> None:
        leaf = a_tenant("leaf", parent="top", services=mine)

        told = grants.overreach((leaf, self.TOP))

        assert said in told
        assert bool(told) == bool(said)
