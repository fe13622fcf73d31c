"""Brakes: how long a workload is kept from claiming, and what is forgotten when."""

import pytest

from allotment_scheduler.core.eviction.brakes import Brakes, workload
from allotment_scheduler.core.objects.pods import Pod
from allotment_scheduler.core.settings import Settings
from builders.scheduling import World

SETTINGS = Settings(
    backoff=60.0, longest_backoff=300.0, evictions_per_hour=2, evictions_per_cycle=3, least_runtime=100.0
)


def pods_of(world: World) -> list[Pod]:
    return list(world.state().pods.values())


def single(**more: object) -> Pod:
    return pods_of(World().node("n", cpu=9).tenant("a").pod("a", "p", on="n", cpu=1, more=dict(more)))[0]


def test_a_backoff_doubles_up_to_its_bound_and_no_further() -> None:
    brakes, pod, now, lengths = Brakes(SETTINGS), single(), 1000.0, []
    for _ in range(5):
        brakes.evicted(pod, "R2", now)
        lengths.append(brakes.backoffs["a/p"].until - now)
        now = brakes.backoffs["a/p"].until + 1.0

    assert lengths == [60.0, 120.0, 240.0, 300.0, 300.0]


def test_any_number_of_evictions_has_a_finite_backoff() -> None:
    brakes, pod = Brakes(SETTINGS), single()
    brakes.evicted(pod, "R2", 0.0)
    brakes.backoffs["a/p"].evictions = 5000
    brakes.evicted(pod, "R2", 10_000.0)

    assert brakes.backoffs["a/p"].until == 10_300.0


def test_pods_of_a_workload_that_go_together_are_one_setback() -> None:
    brakes = Brakes(SETTINGS)
    for pod in pods_of(World().node("n", cpu=9).tenant("a").pods("a", 3, on="n", cpu=1, more={"owner": "job"})):
        brakes.evicted(pod, "P", 1000.0)

    assert (brakes.backoffs["job"].evictions, brakes.backoffs["job"].until) == (1, 1060.0)


@pytest.mark.parametrize(
    ("after", "next_length"),
    [(1.0, 120.0), (299.0, 120.0), (300.0, 60.0)],
    ids=["at once", "while it is remembered", "when it is forgotten"],
)
def test_a_setback_is_remembered_as_long_as_the_longest_backoff(after: float, next_length: float) -> None:
    brakes, pod = Brakes(SETTINGS), single()
    brakes.evicted(pod, "R2", 1000.0)
    brakes.begin_cycle(1060.0 + after)
    brakes.evicted(pod, "R2", 1060.0 + after)

    assert brakes.backoffs["a/p"].until == 1060.0 + after + next_length


def test_after_a_clock_was_set_back_no_backoff_is_longer_than_a_new_one() -> None:
    brakes, pod = Brakes(SETTINGS), single()
    for now in (10_000.0, 10_100.0):
        brakes.evicted(pod, "R2", now)
    brakes.begin_cycle(500.0)

    assert brakes.backoffs["a/p"].until == 620.0
    assert brakes.windows["a"].start == 500.0


def test_a_workload_may_claim_from_the_end_of_its_backoff_on() -> None:
    state = World().node("n", cpu=9).tenant("a").pod("a", "p", cpu=1).state()
    brakes, unit = Brakes(SETTINGS), state.pods["a", "p"].unit
    brakes.evicted(state.pods["a", "p"], "R2", 1000.0)

    assert [brakes.may_claim(unit, now) for now in (1000.0, 1059.0, 1060.0)] == [False, False, True]  # type: ignore[arg-type]  # a unit, as it waits


@pytest.mark.parametrize(("rule", "most"), [("R1", 3), ("P", 3), ("R2", 2)])
def test_a_tenant_loses_so_many_by_fairness_in_an_hour_and_all_so_many_in_a_cycle(rule: str, most: int) -> None:
    brakes = Brakes(SETTINGS)
    pods = pods_of(World().node("n", cpu=9).tenant("a").pods("a", 5, on="n", cpu=1))
    gone = 0
    for pod in pods:
        if brakes.may_go(pod, rule, 1000.0):
            brakes.evicted(pod, rule, 1000.0)
            gone += 1

    assert gone == most
    brakes.begin_cycle(1001.0)
    assert brakes.may_go(pods[4], rule, 1001.0) == (rule != "R2")


@pytest.mark.parametrize(("later", "may"), [(3599.0, False), (3600.0, True)])
def test_the_hour_ends_after_an_hour(later: float, may: bool) -> None:
    brakes = Brakes(SETTINGS)
    pods = pods_of(World().node("n", cpu=9).tenant("a").pods("a", 3, on="n", cpu=1))
    for pod in pods[:2]:
        brakes.evicted(pod, "R2", 1000.0)
    brakes.begin_cycle(1000.0 + later)

    assert brakes.may_go(pods[2], "R2", 1000.0 + later) is may
    assert ("a" in brakes.windows) is not may
    brakes.evicted(pods[2], "R2", 1000.0 + later)
    assert brakes.windows["a"].used == (1 if may else 3)


@pytest.mark.parametrize(("ran", "may"), [(99.0, False), (100.0, True)])
def test_only_fairness_waits_for_a_least_runtime(ran: float, may: bool) -> None:
    brakes, pod = Brakes(SETTINGS), single()

    assert brakes.may_go(pod, "R2", pod.started + ran) is may
    assert brakes.may_go(pod, "R1", pod.started + ran)


def test_without_time_nothing_is_braked() -> None:
    brakes, pod = Brakes(Settings.timeless()), single()
    for _ in range(2000):
        brakes.evicted(pod, "R2", 0.0)

    assert brakes.may_go(pod, "R2", 0.0)
    assert not brakes.backoffs
    assert not brakes.windows


def test_a_workload_is_a_gang_an_owner_or_a_pod() -> None:
    world = World().node("n", cpu=9).tenant("a").gang("a", "g", 1)
    world.pod("a", "member", group="g", more={"owner": "job"}).pod("a", "owned", more={"owner": "job"}).pod(
        "a", "alone"
    )

    assert [workload(pod) for pod in pods_of(world)] == ["a/g", "job", "a/alone"]


def test_a_workload_that_loses_a_pod_in_each_backoff_waits_longer_every_time() -> None:
    brakes, pod, lengths = Brakes(SETTINGS), single(), []
    for number in range(8):
        now = 1000.0 + 50.0 * number
        brakes.evicted(pod, "R2", now)
        lengths.append(brakes.backoffs["a/p"].until - now)

    assert lengths == [60.0, 10.0, 120.0, 70.0, 20.0, 240.0, 190.0, 140.0]
