"""What a tenant's plan does about each of its namespaces."""

import dataclasses
import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allotment_api.conditions import Condition
from allotment_api.labels import API_VERSION, OPERATOR_FIELD_MANAGER, TENANT_LABEL
from allotment_api.tenant import TenantStatus
from allotment_kube.client import Client
from allotment_kube.resources import PERSISTENT_VOLUME_CLAIMS, Resource
from allotment_operator.kind import ServiceRefusedError
from allotment_operator.plans.actions import Apply, Delete, Invoke, ObjectRef
from allotment_operator.plans.outcome import Observed, Outcome
from allotment_operator.tenancy import plan
from allotment_operator.tenancy.access import own_seat
from allotment_operator.tenancy.estate import SERVICE_KINDS, Estate, NamespaceFacts, ServiceFacts
from allotment_operator.tenancy.furniture import POD_SECURITY
from allotment_operator.tenancy.kind import TenantKind
from allotment_operator.tenancy.network import network_policies
from allotment_operator.tenancy.quota import excess, resource_quota, service_counts
from allotment_operator.tenancy.vacancy import Vacancy
from builders.estates import (
    NOW,
    a_tenant,
    all_actions,
    an_estate,
    applied,
    carried_out,
    held,
    leaving,
    observed,
    owner_of,
)
from fakes.api_server import FakeApiServer
from fakes.in_process import InProcessTransport

SEAT: dict[str, Any] = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "RoleBinding",
    "metadata": {"name": "allotment-operator-tenant", "namespace": "pay", "uid": "u-seat"},
}


NAMESPACE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Namespace",
    "metadata": {
        "name": "pay",
        "uid": "u-pay",
        "labels": {TENANT_LABEL: "payments"},
        "managedFields": [
            {
                "manager": OPERATOR_FIELD_MANAGER,
                "fieldsV1": {"f:metadata": {"f:labels": {f"f:{TENANT_LABEL}": {}}}},
            }
        ],
    },
}


def seat_of(tenant: str, name: str) -> dict[str, Any]:
    """A member's seat that a tenant gave."""
    metadata = {**SEAT["metadata"], "name": name, "uid": f"u-{name}", "labels": {"allotment.dev/instance": tenant}}
    return {**SEAT, "metadata": metadata}


def claim(**changed: Any) -> dict[str, Any]:
    """A claim that a Kafka cluster has left, with changes."""
    metadata = {
        "name": "data-events-main-0",
        "namespace": "pay",
        "uid": "u-claim",
        "labels": {
            "app.kubernetes.io/managed-by": "allotment",
            "allotment.dev/kind": "KafkaCluster",
            "allotment.dev/instance": "events",
        },
        **changed.pop("metadata", {}),
    }
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata,
        "status": {"phase": "Bound"},
        **changed,
    }


def planned(name: str, estate: Estate, *children: dict[str, Any]) -> Outcome:
    return plan.plan(estate.tenants[name], owner_of(name), observed(*children), estate, now=NOW)


def released(name: str, estate: Estate, *children: dict[str, Any]) -> Outcome | None:
    return plan.release(estate.tenants[name], owner_of(name), observed(*children), estate, now=NOW)


def condition(outcome: Outcome, type_: str = "Ready") -> Condition:
    return next(each for each in outcome.conditions if each.type == type_)


def phases(outcome: Outcome) -> dict[str, str]:
    return {each["name"]: each["phase"] for each in outcome.status["namespaces"]}


class TestANamespaceThatIsListed:
    def test_is_made_with_the_operators_seat_first_and_nothing_else(self) -> None:
        outcome = planned("payments", an_estate(a_tenant("payments", namespaces=["pay"])))

        assert [action.ref for action in all_actions(outcome) if isinstance(action, Apply)] == [
            ObjectRef("v1", "Namespace", "", "pay"),
            own_seat("pay"),
        ]
        assert phases(outcome) == {"pay": "Pending"}
        assert outcome.requeue_after is not None

    def test_is_marked_as_ours_only_where_we_make_it(self) -> None:
        tenant = a_tenant("payments", namespaces=["pay"])
        made = applied(planned("payments", an_estate(tenant)))
        found = applied(planned("payments", an_estate(tenant, namespaces=[NamespaceFacts("pay")])))
        namespace = ObjectRef("v1", "Namespace", "", "pay")

        assert made[namespace]["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "allotment"
        assert "app.kubernetes.io/managed-by" not in found[namespace]["metadata"]["labels"]

    def test_is_furnished_walls_before_members(self) -> None:
        tenant = a_tenant("payments", namespaces=["pay"], members=[{"name": "devs", "role": "developer"}])
        outcome = planned("payments", an_estate(tenant, namespaces=[held("pay", "payments")]), SEAT)

        order = [f"{action.ref.kind} {action.ref.name}" for action in all_actions(outcome) if isinstance(action, Apply)]

        assert phases(outcome) == {"pay": "Ready"}
        assert condition(outcome).status == "True"
        assert order[-1] == "RoleBinding allotment-developer"
        assert order.index("NetworkPolicy allotment-default-deny") < order.index("TenantPolicy allotment")

    def test_loses_what_is_not_wanted_any_more(self) -> None:
        tenant = a_tenant("payments", namespaces=["pay"])
        former = seat_of("payments", "allotment-owner")
        outcome = planned("payments", an_estate(tenant, namespaces=[held("pay", "payments")]), SEAT, former)

        assert [action for action in all_actions(outcome) if isinstance(action, Delete)] == [
            Delete(ObjectRef.of(former), "u-allotment-owner")
        ]

    def test_has_its_present_members_put_right_before_a_new_one_whose_name_may_be_taken(self) -> None:
        members = [{"name": "pipeline", "role": "ci"}, {"name": "heads", "role": "owner"}]
        tenant = a_tenant("payments", namespaces=["pay"], members=members)
        estate = an_estate(tenant, namespaces=[held("pay", "payments")])
        outcome = planned("payments", estate, SEAT, seat_of("payments", "allotment-owner"))

        order = [action.ref.name for action in all_actions(outcome) if action.ref.kind == "RoleBinding"]

        assert order[-2:] == ["allotment-owner", "allotment-ci"]

    def test_holds_up_no_other_and_says_what_is_in_the_way(self) -> None:
        tenant = a_tenant("payments", namespaces=["pay", "new"])
        seats = SEAT, {**SEAT, "metadata": {**SEAT["metadata"], "namespace": "new"}}
        outcome = planned(
            "payments", an_estate(tenant, namespaces=[held(it, "payments") for it in ("pay", "new")]), *seats
        )
        assert set(outcome.lanes) == {"pay", "new"}
        assert not outcome.actions

        noted = plan.note_failures(tenant, outcome, {"new": "refused"})
        status = TenantStatus.model_validate({"namespaces": [{"name": "new", "phase": "Ready"}]})
        later = plan.note_failures(tenant.model_copy(update={"status": status}), outcome, {"new": "refused"})

        assert noted.status["namespaces"][1] == {"name": "new", "phase": "Pending", "message": "refused"}
        assert condition(noted).message == "1 of 2 namespaces are ready; new: refused"
        assert later.status["namespaces"][1] == {"name": "new", "phase": "Ready", "message": "refused"}
        assert condition(later).status == "True"

    @pytest.mark.parametrize(("minutes", "want"), [(0, plan.EAGER_SECONDS), (5, plan.REFUSED_SECONDS)])
    def test_is_tried_again_soon_where_the_seat_is_new(self, minutes: int, want: float) -> None:
        tenant = a_tenant("payments", namespaces=["pay"])
        taken = (NOW - dt.timedelta(minutes=minutes, seconds=1)).isoformat().replace("+00:00", "Z")
        seat = {**SEAT, "metadata": {**SEAT["metadata"], "creationTimestamp": taken}}
        outcome = planned("payments", an_estate(tenant, namespaces=[held("pay", "payments")]), seat)

        assert outcome.retry_after == want

    def test_is_left_to_an_older_tenant_that_lists_it_too(self) -> None:
        tenants = [a_tenant("old", namespaces=["pay"]), a_tenant("new", born=1, namespaces=["pay", "mine"])]
        outcome = planned("new", an_estate(*tenants, namespaces=[held("pay", "old")]))

        assert phases(outcome) == {"pay": "Taken", "mine": "Pending"}
        assert condition(outcome).reason == "NamespaceTaken"
        assert "old" in condition(outcome).message
        assert {ref.name for ref in applied(outcome) if ref.kind == "Namespace"} == {"mine"}

    def test_is_not_taken_from_a_younger_tenant_that_has_it_and_lists_it(self) -> None:
        tenants = [a_tenant("old", namespaces=["pay"]), a_tenant("new", born=1, namespaces=["pay"])]
        estate = an_estate(*tenants, namespaces=[held("pay", "new")])
        outcome = planned("old", estate, SEAT, seat_of("new", "allotment-owner"))

        assert phases(outcome) == {"pay": "Taken"}
        assert not all_actions(outcome)
        assert "The tenant new has this namespace too" in condition(outcome).message

    def test_is_taken_over_with_its_walls_up_and_without_the_former_members(self) -> None:
        tenants = [a_tenant("from"), a_tenant("to", born=1, namespaces=["pay"])]
        estate = an_estate(*tenants, namespaces=[held("pay", "from")])
        wall = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
        wall["metadata"] = {"name": "allotment-default-deny", "namespace": "pay"}  # type: ignore[assignment]  # plain data
        former = seat_of("from", "allotment-owner")
        outcome = planned("to", estate, SEAT, former, wall)

        assert [str(action.ref) for action in all_actions(outcome)] == [
            "RoleBinding pay/allotment-owner",
            "Namespace pay",
            "RoleBinding pay/allotment-operator-tenant",
        ]
        assert applied(outcome)[ObjectRef("v1", "Namespace", "", "pay")]["metadata"]["labels"][TENANT_LABEL] == "to"
        assert phases(outcome) == {"pay": "Pending"}
        assert not all_actions(planned("from", estate, SEAT, former, wall))

    def test_is_taken_over_from_a_paused_tenant_once_that_is_being_deleted(self) -> None:
        tenants = [
            leaving(a_tenant("from", paused=True, namespaces=["pay"])),
            a_tenant("to", born=1, namespaces=["pay"]),
        ]
        outcome = planned("to", an_estate(*tenants, namespaces=[held("pay", "from")]), SEAT)

        assert applied(outcome)[ObjectRef("v1", "Namespace", "", "pay")]["metadata"]["labels"][TENANT_LABEL] == "to"

    @pytest.mark.parametrize(
        ("spec", "said"),
        [({"paused": True}, "spec.paused"), ({"parent": "ghost"}, "ghost")],
        ids=["paused", "stuck"],
    )
    def test_stays_with_a_tenant_that_is_left_alone_and_the_message_says_why(
        self, spec: dict[str, Any], said: str
    ) -> None:
        tenants = [a_tenant("from", **spec), a_tenant("to", namespaces=["pay"])]
        outcome = planned("to", an_estate(*tenants, namespaces=[held("pay", "from")]), SEAT)

        assert said in outcome.status["namespaces"][0]["message"]
        assert not all_actions(outcome)

    def test_stays_with_a_tenant_of_which_nothing_can_be_read(self) -> None:
        estate = an_estate(a_tenant("to", namespaces=["pay"]), namespaces=[held("pay", "from")])
        outcome = planned("to", dataclasses.replace(estate, unreadable={"from": "spec.weight: too odd"}), SEAT)

        assert "which cannot be read: spec.weight" in outcome.status["namespaces"][0]["message"]
        assert not all_actions(outcome)

    def test_of_a_tenant_that_vanished_is_taken_over_and_its_rules_are_replaced(self) -> None:
        estate = an_estate(a_tenant("to", namespaces=["pay"]), namespaces=[held("pay", "ghost")])
        rules = {
            "apiVersion": "allotment.dev/v1alpha1",
            "kind": "TenantPolicy",
            "metadata": {"name": "allotment", "namespace": "pay", "uid": "u-rules"},
            "spec": {"tenant": "ghost"},
        }
        outcome = planned("to", estate, SEAT, rules)

        assert Delete(ObjectRef.of(rules), "u-rules") in all_actions(outcome)
        assert phases(outcome) == {"pay": "Pending"}

    def test_that_is_being_deleted_is_waited_for(self) -> None:
        estate = an_estate(
            a_tenant("payments", namespaces=["pay"]), namespaces=[held("pay", "payments", terminating=True)]
        )
        outcome = planned("payments", estate)

        assert phases(outcome) == {"pay": "Terminating"}
        assert not all_actions(outcome)


class TestAGuarantee:
    @pytest.mark.parametrize(
        ("spec", "status", "says"),
        [
            ({}, {"usage": {"cpu": "3", "memory": "1Gi", "pods": "2"}}, ""),
            ({}, {"usage": {"cpu": "3", "nvidia.com/gpu": "1"}}, "leaves out nvidia.com/gpu, which some"),
            ({}, {"entitlement": {"cpu": "3", "nvidia.com/gpu": "1"}}, "leaves out nvidia.com/gpu, which some"),
            ({}, {"entitlement": {"nvidia.com/gpu": "0"}}, ""),
            ({"pools": {"gpu": {"guaranteed": {"nvidia.com/gpu": "4"}}}}, {"usage": {"nvidia.com/gpu": "1"}}, ""),
        ],
        ids=["covers what runs", "not what runs", "not what waits", "nothing of it is there", "covers it in one pool"],
    )
    def test_that_leaves_out_what_pods_request_is_incomplete(
        self, spec: dict[str, Any], status: dict[str, Any], says: str
    ) -> None:
        tenant = a_tenant("payments", guaranteed={"cpu": "4", "memory": "8Gi"}, **spec)
        tenant = tenant.model_copy(update={"status": TenantStatus.model_validate(status)})

        told = condition(planned("payments", an_estate(tenant)), "GuaranteeIncomplete")

        assert (told.status, told.reason) == (("True", "ResourceMissing") if says else ("False", "AsExpected"))
        assert says in told.message

    def test_that_nobody_gave_covers_nothing(self) -> None:
        told = condition(planned("payments", an_estate(a_tenant("payments"))), "GuaranteeIncomplete")

        assert (told.status, told.reason) == ("False", "NoGuarantee")


class TestANamespaceThatIsListedNoMore:
    def test_is_let_go_and_never_deleted(self) -> None:
        outcome = planned("payments", an_estate(a_tenant("payments"), namespaces=[held("pay", "payments")]), SEAT)

        assert Delete(own_seat("pay"), "u-seat") in all_actions(outcome)
        assert not any(action.ref.kind == "Namespace" for action in all_actions(outcome) if isinstance(action, Delete))
        last = all_actions(outcome)[-1]
        assert isinstance(last, Apply)
        assert last.manifest["metadata"] == {
            "name": "pay",
            "uid": "uid-pay",
            "labels": {"app.kubernetes.io/managed-by": "allotment", **POD_SECURITY},
        }

    async def test_is_looked_into_first_and_kept_if_there_is_a_service_that_nobody_told_of(self) -> None:
        estate = an_estate(a_tenant("payments"), namespaces=[held("pay", "payments")])
        server = FakeApiServer()
        topics = Resource.custom(API_VERSION, "KafkaTopic", "kafkatopics")
        server.register(topics)
        kind = TenantKind(lambda: estate, Vacancy(Client(InProcessTransport(server))))
        seen = observed(SEAT, NAMESPACE)
        tenant = estate.tenants["payments"]
        outcomes = [kind.plan(tenant, seen, now=NOW), kind.release(tenant, seen, now=NOW)]

        looks = [next(iter(outcome.lanes["pay"])) for outcome in outcomes if outcome is not None]
        assert looks == [Invoke("confirm-empty", "pay")] * 2
        await kind.perform(tenant, seen, Invoke("confirm-empty", "pay"))
        server.put(topics, {"metadata": {"name": "orders", "namespace": "pay"}, "spec": {}})
        with pytest.raises(ServiceRefusedError, match="KafkaTopic pay/orders"):
            await kind.perform(tenant, seen, Invoke("confirm-empty", "pay"))

    def test_is_kept_while_it_has_services(self) -> None:
        estate = an_estate(
            a_tenant("payments"), namespaces=[held("pay", "payments")], services=[("KafkaCluster", "pay", "events")]
        )
        outcome = planned("payments", estate, SEAT)

        assert not all_actions(outcome)
        assert "KafkaCluster pay/events" in outcome.status["namespaces"][0]["message"]

    @pytest.mark.parametrize(
        ("spec", "said"),
        [
            ({}, "It goes to the tenant heir."),
            ({"paused": True}, "It goes to the tenant heir, which is paused: set its spec.paused to false."),
            (
                {"parent": "ghost"},
                "It goes to the tenant heir, which is stuck: the parent ghost of heir does not exist",
            ),
        ],
        ids=["at once", "when it is not paused any more", "when it can stand"],
    )
    def test_goes_as_it_stands_to_a_tenant_that_lists_it(self, spec: dict[str, Any], said: str) -> None:
        estate = an_estate(
            a_tenant("payments"),
            a_tenant("heir", born=1, namespaces=["pay"], **spec),
            namespaces=[held("pay", "payments")],
            services=[("KafkaCluster", "pay", "events")],
        )
        outcome = planned("payments", estate, SEAT)

        assert not all_actions(outcome)
        assert said in outcome.status["namespaces"][0]["message"]


class TestATenantThatCannotStand:
    def test_changes_nothing_and_says_why(self) -> None:
        tenant = a_tenant("payments", parent="ghost", namespaces=["pay"])
        outcome = planned("payments", an_estate(tenant, namespaces=[held("pay", "payments")]), SEAT)

        assert not all_actions(outcome)
        assert condition(outcome, "Valid").reason == "ParentNotFound"
        assert condition(outcome).status == "False"


class TestRelease:
    def test_is_done_when_nothing_is_held(self) -> None:
        assert released("payments", an_estate(a_tenant("payments", namespaces=["pay"]))) is None

    def test_waits_for_services_and_names_them(self) -> None:
        estate = an_estate(
            a_tenant("payments", namespaces=["pay"]),
            namespaces=[held("pay", "payments")],
            services=[("KafkaCluster", "pay", "events")],
        )
        outcome = released("payments", estate)

        assert outcome is not None
        assert not all_actions(outcome)
        assert condition(outcome).reason == "DeletionBlocked"
        assert "KafkaCluster pay/events" in condition(outcome).message

    def test_by_cascade_deletes_services_before_namespaces(self) -> None:
        tenant = a_tenant("payments", namespaces=["pay"], deletionPolicy="Cascade")
        full = an_estate(tenant, namespaces=[held("pay", "payments")], services=[("KafkaCluster", "pay", "events")])
        empty = an_estate(tenant, namespaces=[held("pay", "payments")])
        first, then = released("payments", full), released("payments", empty, SEAT)

        assert first is not None
        assert then is not None
        assert [str(action.ref) for action in all_actions(first) if isinstance(action, Delete)] == [
            "KafkaCluster pay/events"
        ]
        assert all_actions(then) == (Delete(ObjectRef("v1", "Namespace", "", "pay"), "uid-pay"),)

    def test_lets_go_of_a_namespace_that_was_there_before(self) -> None:
        estate = an_estate(a_tenant("payments", namespaces=["pay"]), namespaces=[held("pay", "payments", ours=False)])
        outcome = released("payments", estate)

        assert outcome is not None
        [last] = all_actions(outcome)
        assert isinstance(last, Apply)
        assert last.manifest["metadata"]["labels"] == POD_SECURITY

    def test_lets_go_of_a_namespace_in_which_a_service_retained_a_volume_and_says_so(self) -> None:
        estate = an_estate(a_tenant("payments", namespaces=["pay"]), namespaces=[held("pay", "payments")])
        first = released("payments", estate, SEAT, seat_of("payments", "allotment-owner"), claim())
        last = released("payments", estate, SEAT, claim())

        assert first is not None
        assert last is not None
        assert condition(first).reason == "VolumesRetained"
        assert "services retained 1 volume (PersistentVolumeClaim data-events-main-0)" in condition(first).message
        assert [str(action.ref) for action in all_actions(first)] == ["RoleBinding pay/allotment-owner"]
        assert [str(action.ref) for action in all_actions(last)] == [
            "RoleBinding pay/allotment-operator-tenant",
            "Namespace pay",
        ]
        assert TENANT_LABEL not in applied(last)[ObjectRef("v1", "Namespace", "", "pay")]["metadata"]["labels"]

    @pytest.mark.parametrize(
        "changed",
        [{"status": {"phase": "Pending"}}, {"metadata": {"deletionTimestamp": "2026-03-01T12:00:00Z"}}],
        ids=["that never got a volume", "that is going"],
    )
    def test_deletes_a_namespace_with_a_claim(self, changed: dict[str, Any]) -> None:
        estate = an_estate(a_tenant("payments", namespaces=["pay"]), namespaces=[held("pay", "payments")])
        outcome = released("payments", estate, SEAT, claim(**changed))

        assert outcome is not None
        assert all_actions(outcome) == (Delete(ObjectRef("v1", "Namespace", "", "pay"), "uid-pay"),)

    def test_takes_its_seat_before_it_judges_what_is_in_a_namespace(self) -> None:
        estate = an_estate(a_tenant("payments", namespaces=["pay"]), namespaces=[held("pay", "payments")])
        outcome = released("payments", estate)

        assert outcome is not None
        assert [str(action.ref) for action in all_actions(outcome)] == ["RoleBinding pay/allotment-operator-tenant"]

    async def test_looks_for_volumes_once_more_before_it_deletes_a_namespace(self) -> None:
        estate = an_estate(a_tenant("payments"), namespaces=[held("pay", "payments")])
        server = FakeApiServer()
        server.register(Resource.custom(API_VERSION, "KafkaTopic", "kafkatopics"))
        kind = TenantKind(lambda: estate, Vacancy(Client(InProcessTransport(server))))
        outcome = released("payments", estate, SEAT)
        assert outcome is not None
        look, deletion = outcome.lanes["pay"]
        assert isinstance(look, Invoke)
        assert isinstance(deletion, Delete)

        await kind.perform(estate.tenants["payments"], observed(), look)
        server.put(PERSISTENT_VOLUME_CLAIMS, claim())
        with pytest.raises(ServiceRefusedError, match="data-events-main-0"):
            await kind.perform(estate.tenants["payments"], observed(), look)

    def test_leaves_a_namespace_and_what_is_in_it_to_a_tenant_that_lists_it(self) -> None:
        tenant = leaving(a_tenant("payments", namespaces=["pay", "own"], deletionPolicy="Cascade"))
        estate = an_estate(
            tenant,
            a_tenant("heir", born=1, namespaces=["pay"]),
            namespaces=[held("pay", "payments"), held("own", "payments")],
            services=[("KafkaCluster", "pay", "events")],
        )
        outcome = released("payments", estate, {**SEAT, "metadata": {**SEAT["metadata"], "namespace": "own"}})

        assert outcome is not None
        assert [str(action.ref) for action in all_actions(outcome)] == ["Namespace own"]
        assert "pay: It goes to the tenant heir." in condition(outcome).message

    def test_waits_for_the_tenants_below(self) -> None:
        outcome = released("retail", an_estate(a_tenant("retail"), a_tenant("payments", parent="retail")))

        assert outcome is not None
        assert "payments" in condition(outcome).message


@given(
    members=st.lists(st.sampled_from(["owner", "developer", "viewer", "ci"]), max_size=4),
    egress=st.lists(st.sampled_from(["10.0.0.0/8", "0.0.0.0/0", "2001:db8::/32"]), unique=True),
    services=st.none() | st.lists(st.sampled_from(sorted(SERVICE_KINDS)), unique=True),
    ours=st.booleans(),
)
def test_a_plan_that_was_carried_out_changes_nothing_more(
    members: list[str], egress: list[str], services: list[str] | None, *, ours: bool
) -> None:
    tenant = a_tenant(
        "payments",
        namespaces=["pay"],
        members=[{"name": f"g{number}", "role": role} for number, role in enumerate(members)],
        policy={"network": {"egress": egress}},
        services=None if services is None else [{"kind": kind, "count": 3} for kind in services],
    )
    estate = an_estate(tenant, namespaces=[held("pay", "payments", ours=ours)])

    def look(children: dict[ObjectRef, Any]) -> Outcome:
        return plan.plan(tenant, owner_of("payments"), Observed(children=children), estate, now=NOW)

    first = look({own_seat("pay"): SEAT})
    after = carried_out({own_seat("pay"): SEAT}, first)
    second = look(after)

    assert carried_out(after, second) == after
    assert not any(isinstance(action, Delete) for action in all_actions(second))


class TestTheNetwork:
    def render(self, *egress: str) -> dict[str, Any]:
        policies = network_policies("pay", {}, tenant="payments", egress=egress, operator_namespace="sys")
        return {each["metadata"]["name"]: each["spec"] for each in policies}

    def test_denies_everything_first(self) -> None:
        assert next(iter(self.render())) == "allotment-default-deny"
        assert self.render()["allotment-default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}

    def test_opens_outside_networks_but_not_the_clouds_credentials(self) -> None:
        [rule] = self.render("0.0.0.0/0", "10.1.0.0/16", "169.254.169.254/32")["allotment-egress"]["egress"]

        assert rule["to"] == [
            {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.169.254/32"]}},
            {"ipBlock": {"cidr": "10.1.0.0/16"}},
            {"ipBlock": {"cidr": "169.254.169.254/32"}},
        ]

    def test_has_no_door_outside_without_need(self) -> None:
        assert "allotment-egress" not in self.render()


@pytest.mark.parametrize(
    ("network", "closed"),
    [
        ({}, {"services.nodeports", "services.loadbalancers"}),
        ({"allowNodePort": True}, {"services.loadbalancers"}),
        ({"allowLoadBalancer": True}, set()),
    ],
    ids=["closed", "node ports", "load balancers, which take node ports as well"],
)
def test_ways_in_from_outside_are_closed_by_quota_as_well(network: dict[str, bool], closed: set[str]) -> None:
    tenant = a_tenant("payments", namespaces=["pay"], policy={"network": network})
    hard = resource_quota(an_estate(tenant), tenant, "pay", {})["spec"]["hard"]

    assert {name for name, count in hard.items() if count == "0"} == closed
    assert not {"requests.cpu", "requests.memory", "limits.cpu", "pods"} & hard.keys()


class TestExcess:
    SERVICES = (
        ("KafkaCluster", "one", "old", "2026-01-01T00:00:00Z"),
        ("KafkaCluster", "two", "new", "2026-02-01T00:00:00Z"),
        ("KafkaUser", "one", "u", "2026-01-01T00:00:00Z"),
    )

    def excess(self, services: Any, kind: str, namespace: str, name: str) -> str:
        tenant = a_tenant("payments", namespaces=["one", "two"], services=services)
        spaces = [held("one", "payments"), held("two", "payments")]
        estate = an_estate(tenant, namespaces=spaces, services=self.SERVICES)
        return excess(estate, ServiceFacts(kind, namespace, name))

    def test_is_the_youngest_where_two_slipped_in_at_once(self) -> None:
        services = [{"kind": "KafkaCluster", "count": 1}]

        assert self.excess(services, "KafkaCluster", "one", "old") == ""
        assert "may have 1 of KafkaCluster and has 2" in self.excess(services, "KafkaCluster", "two", "new")

    def test_is_every_service_of_a_kind_that_the_tenant_may_not_have(self) -> None:
        assert "may have KafkaCluster: ask" in self.excess([{"kind": "KafkaCluster"}], "KafkaUser", "one", "u")
        assert "no services" in self.excess([], "KafkaUser", "one", "u")

    def test_is_nothing_where_nothing_is_bounded(self) -> None:
        assert self.excess(None, "KafkaUser", "one", "u") == ""
        assert self.excess([{"kind": "KafkaCluster"}], "KafkaCluster", "two", "new") == ""


class TestServiceCounts:
    def counts(self, services: Any, *present: tuple[str, str, str]) -> dict[str, str]:
        tenant = a_tenant("payments", namespaces=["one", "two"], services=services)
        return service_counts(an_estate(tenant, services=present), tenant, "one")

    def test_are_unbounded_where_nothing_is_said(self) -> None:
        assert self.counts(None) == {}

    def test_close_every_kind_that_is_not_listed(self) -> None:
        counts = self.counts([{"kind": "KafkaCluster"}])

        assert "count/kafkaclusters.allotment.dev" not in counts
        assert counts["count/cassandraclusters.allotment.dev"] == "0"
        assert len(counts) == len(SERVICE_KINDS) - 1

    def test_are_for_all_namespaces_together(self) -> None:
        elsewhere = ("KafkaCluster", "two", "b")
        counts = self.counts([{"kind": "KafkaCluster", "count": 3}], ("KafkaCluster", "one", "a"), elsewhere)

        assert counts["count/kafkaclusters.allotment.dev"] == "2"
