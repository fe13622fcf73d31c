"""Whom a change concerns."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from allotment_kube.client import Client
from allotment_operator.census import Census
from allotment_operator.kind import Key
from allotment_operator.reconcile.queue import WorkQueue
from allotment_operator.tenancy.change import affected
from allotment_operator.tenancy.estate import ServiceFacts
from allotment_operator.tenancy.network import NameServers
from allotment_operator.tenancy.register import Register
from builders.estates import a_pool, a_tenant, an_estate, held
from builders.toys import TOYS, Workbench
from fakes.api_server import FakeApiServer
from fakes.in_process import InProcessTransport

TENANTS = (
    a_tenant("retail"),
    a_tenant("payments", parent="retail", namespaces=["pay"]),
    a_tenant("fraud", parent="retail", namespaces=["fraud"]),
    a_tenant("markets"),
    a_tenant("risk", parent="markets", namespaces=["risk"]),
)


def a_register(
    *,
    services: Callable[[], Iterable[ServiceFacts]] = lambda: (),
    turnover: Callable[[], int] = lambda: 0,
    changed: Callable[[frozenset[str]], None] = lambda _: None,
) -> Register:
    client = Client(InProcessTransport(FakeApiServer()))
    return Register(
        client,
        namespace="allotment-system",
        dns=NameServers(),
        services=services,
        turnover=turnover,
        changed=changed,
    )


def test_nothing_concerns_nobody() -> None:
    estate = an_estate(*TENANTS)

    assert affected(estate, estate) == frozenset()


def test_a_tenant_concerns_those_above_and_below_it() -> None:
    before = an_estate(*TENANTS)
    after = an_estate(a_tenant("retail", suspended=True), *TENANTS[1:])

    assert affected(before, after) == {"retail", "payments", "fraud"}


def test_a_move_concerns_the_old_and_the_new_parent() -> None:
    before = an_estate(*TENANTS)
    after = an_estate(TENANTS[0], a_tenant("payments", parent="markets", namespaces=["pay"]), *TENANTS[2:])

    assert affected(before, after) == {"retail", "payments", "markets"}


def test_a_claim_concerns_its_rivals() -> None:
    before = an_estate(*TENANTS)
    after = an_estate(*TENANTS, a_tenant("rival", namespaces=["risk"]))

    assert affected(before, after) == {"rival", "risk"}


def test_a_claim_concerns_who_holds_the_namespace_without_listing_it_any_more() -> None:
    former, heir = a_tenant("former"), a_tenant("heir")
    before = an_estate(former, heir, namespaces=[held("pay", "former")])
    after = dataclasses.replace(before, tenants={"former": former, "heir": a_tenant("heir", namespaces=["pay"])})

    assert affected(before, after) == {"former", "heir"}


def test_a_new_parent_concerns_those_that_waited_for_it() -> None:
    orphan = a_tenant("orphan", parent="late")

    assert affected(an_estate(orphan), an_estate(orphan, a_tenant("late"))) == {"orphan", "late"}


def test_a_pool_concerns_everybody() -> None:
    assert len(affected(an_estate(*TENANTS), an_estate(*TENANTS, pools=[a_pool("gpu")]))) == len(TENANTS)


def test_a_namespace_concerns_who_lists_it_and_who_holds_it() -> None:
    before = an_estate(*TENANTS)
    after = dataclasses.replace(before, namespaces={"pay": held("pay", "fraud")})

    assert affected(before, after) == {"payments", "fraud"}


@pytest.mark.parametrize(
    ("bound", "want"),
    [
        ([{"kind": "KafkaCluster", "count": 2}], {"one", "two"}),
        ([{"kind": "KafkaCluster"}], {"one"}),
        (None, {"one"}),
    ],
    ids=["all that share a count", "itself where nothing is counted above", "itself where nothing is bounded"],
)
def test_a_service_that_comes_or_goes_concerns(bound: list[dict[str, Any]] | None, want: set[str]) -> None:
    heard: list[frozenset[str]] = []
    register = a_register(changed=heard.append)
    register._told = an_estate(
        a_tenant("top", services=bound),
        a_tenant("one", parent="top", namespaces=["one"]),
        a_tenant("two", parent="top", namespaces=["two"]),
        a_tenant("other", namespaces=["other"]),
    )
    register._namespaces = {"one": held("one", "one")}

    register.services_changed("one")

    assert heard == [want]


async def test_a_picture_lasts_until_a_service_comes_or_goes_by_whichever_way() -> None:
    """After a restart namespaces are heard of before services: what was let go then would be let go with them in it."""
    bench = Workbench()
    register = a_register(
        services=lambda: [ServiceFacts(each.kind, each.namespace, each.name) for each in bench.engine.known()],
        turnover=lambda: bench.engine.turnover,
    )
    census = Census(bench.client, bench.engine, WorkQueue[Key](), kinds=["Toy"])
    key = bench.put("events")
    assert register.estate().services_in("play") == ()

    await census.take()

    assert register.estate().services_in("play") == (ServiceFacts("Toy", "play", "events"),)
    assert register.estate() is register.estate()
    bench.server.remove(TOYS, "events", "play")
    await bench.engine.reconcile(key)
    assert register.estate().services_in("play") == ()
