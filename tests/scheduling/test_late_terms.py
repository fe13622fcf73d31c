"""Terms and ports of pods that come later bind those of whose kind some run already."""

import pytest

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.objects.pods import PodAffinityTerm, SchedulingSpec, SpreadConstraint
from allotment_scheduler.core.objects.selectors import LabelSelector, Requirement
from allotment_scheduler.core.state.invariants import check
from builders.scheduling import World

HOST = "kubernetes.io/hostname"
WEB = LabelSelector((Requirement("app", "In", ("web",)),))
DB = LabelSelector((Requirement("app", "In", ("db",)),))
NO_WEB_HERE = SchedulingSpec((), anti_affinity=(PodAffinityTerm(HOST, WEB),))


def hosts(count: int) -> Engine:
    """Empty hosts n0, n1, …, of which n0 is the smallest, and a tenant."""
    world = World().tenant("t")
    for number in range(count):
        world.node(f"n{number}", labels={HOST: f"n{number}"}, cpu=4 + number)
    return Engine(world.state())


def arrive(engine: Engine, name: str, spec: SchedulingSpec, *, app: str = "", on: str | None = None) -> str | None:
    """A pod comes, running already or not, and a cycle decides; where it is then."""
    state = engine.state
    labels = {"app": app} if app else {}
    state.apply_all(World(clock=float(len(state.pods))).pod("t", name, on=on, cpu=1, spec=spec, labels=labels).events)
    engine.cycle(0.0)
    check(state)
    return state.pods["t", name].node


@pytest.mark.parametrize(
    "minding",
    [
        SchedulingSpec(()),
        SchedulingSpec((), preferred_anti_affinity=(PodAffinityTerm(HOST, WEB, weight=1),)),
        SchedulingSpec((), spread=(SpreadConstraint(HOST, 1, hard=False, selector=WEB),)),
        SchedulingSpec((), spread=(SpreadConstraint(HOST, 3, hard=True, selector=WEB),)),
        SchedulingSpec((), anti_affinity=(PodAffinityTerm(HOST, DB),)),
        SchedulingSpec((), host_ports=(("0.0.0.0", "TCP", 80),)),
    ],
    ids=["it minds nobody", "preferred", "soft spread", "hard spread", "required", "host port"],
)
@pytest.mark.parametrize("runs_already", [True, False])
def test_a_term_that_comes_later_keeps_the_next_of_a_kind_off(minding: SchedulingSpec, *, runs_already: bool) -> None:
    engine = hosts(3)
    first = arrive(engine, "web-0", minding, app="web")
    other = "n1" if first == "n2" else "n2"
    holder = arrive(engine, "holder", NO_WEB_HERE, on=other if runs_already else None)

    later = {arrive(engine, f"web-{number}", minding, app="web") for number in (1, 2)}

    assert holder is not None
    assert holder not in later


def test_what_draws_pods_counts_for_those_of_whose_kind_some_run_already() -> None:
    engine = hosts(3)
    minding = SchedulingSpec((), preferred_affinity=(PodAffinityTerm(HOST, DB, weight=1),))
    first = arrive(engine, "web-0", minding, app="web")
    other = "n1" if first != "n1" else "n0"
    arrive(engine, "puller", SchedulingSpec((), preferred_affinity=(PodAffinityTerm(HOST, WEB, weight=9),)), on=other)

    assert arrive(engine, "web-1", minding, app="web") == other


@pytest.mark.parametrize(
    ("wanted", "taken", "refused"),
    [("0.0.0.0", "10.0.0.1", True), ("10.0.0.1", "0.0.0.0", True), ("10.0.0.1", "10.0.0.2", False)],
)
def test_a_port_that_is_taken_later_at_another_address_is_taken(wanted: str, taken: str, *, refused: bool) -> None:
    engine = hosts(2)
    minding = SchedulingSpec((), host_ports=((wanted, "TCP", 80),))
    first = arrive(engine, "web-0", minding)
    other = "n1" if first == "n0" else "n0"
    arrive(engine, "holder", SchedulingSpec((), host_ports=((taken, "TCP", 80),)), on=other)

    assert arrive(engine, "web-1", minding) == (None if refused else other)


def test_ports_of_others_form_no_queue_anew() -> None:
    engine = hosts(2)
    arrive(engine, "web", SchedulingSpec((), host_ports=(("0.0.0.0", "TCP", 80),)))
    before = engine.state.counters.held_version

    arrive(engine, "udp", SchedulingSpec((), host_ports=(("0.0.0.0", "UDP", 80),)))
    arrive(engine, "next", SchedulingSpec((), host_ports=(("10.0.0.1", "TCP", 81),)))

    assert engine.state.counters.held_version == before
