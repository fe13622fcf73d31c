"""Claims and volumes that come, change and go alter what is known of the pods that name them, and nothing else.

Beside other changes they come in `test_engine_machine`.
"""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.filters.volumes import ONE_POD
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.attachments import Attachments, Claim, StorageClass, Supply, Volume
from allotment_scheduler.core.objects.nodes import NodeSpec, PoolSpec
from allotment_scheduler.core.objects.pods import SchedulingSpec
from allotment_scheduler.core.objects.selectors import LabelSelector, NodeSelectorTerm, Requirement
from allotment_scheduler.core.settings import Settings
from allotment_scheduler.core.state.invariants import check
from builders.promises import entitlement_is_as_from_scratch, rows_are_as_from_scratch
from builders.scheduling import World

ON_N1 = (NodeSelectorTerm((Requirement("name", "In", ("n1",)),)),)
CLAIMS = st.builds(
    Claim, st.sampled_from("ab"), st.sampled_from("xy"), storage_class=st.sampled_from(["fast", None]),
    volume=st.sampled_from([None, None, "u", "v"]), awaits=st.sampled_from([None, None, "u", "v"]),
    access_modes=st.sampled_from([(), (ONE_POD,)]), selected_node=st.sampled_from([None, None, "n1"]),
)  # fmt: skip
VOLUMES = st.builds(
    Volume, st.sampled_from("uvw"), storage_class=st.sampled_from(["fast", None]), capacity=st.integers(0, 2),
    claimed_by=st.one_of(st.none(), st.tuples(st.sampled_from("ab"), st.sampled_from("xy"))),
    available=st.booleans(), deleting=st.booleans(), nodes=st.sampled_from([None, ON_N1]),
    driver=st.sampled_from([None, "csi"]), handle=st.sampled_from("gh"),
)  # fmt: skip
Change = tuple[bool, Claim | Volume]
CHANGES: st.SearchStrategy[Change] = st.tuples(st.sampled_from([True, True, True, False]), st.one_of(CLAIMS, VOLUMES))


def told(attached: Attachments) -> Supply:
    """The supply of somebody who is told once what there is."""
    anew = Attachments()
    for claim in attached.claims.values():
        anew.put(claim)
    for volume in attached.volumes.values():
        anew.put(volume)
    return anew.supply


@settings(max_examples=50, deadline=None)
@given(st.lists(CHANGES, max_size=20))
def test_after_any_history_the_supply_is_as_from_scratch(steps: list[Change]) -> None:
    attached = Attachments()
    for stays, item in steps:
        if stays:
            attached.put(item)
        else:
            attached.drop(item)

    assert attached.supply == told(attached)


def waiting_for(*items: Claim | Volume, claims: tuple[str, ...] = ("data",)) -> Engine:
    """Two nodes, and a pod that waits for its claims, after a cycle in which it did not start."""
    world = World().node("n0", cpu=2, labels={"name": "n0"}).node("n1", cpu=2, labels={"name": "n1"}).tenant("t")
    for item in (StorageClass("fast", waits=True, provisions=False), *items):
        world.events.append(ev.StorageSeen(item))
    world.pod("t", "p", cpu=1, spec=SchedulingSpec((), claims=claims))
    engine = Engine(world.state(), Settings.timeless())
    engine.cycle(1.0)
    return engine


LATER: list[tuple[str, list[Claim | Volume], list[Claim | Volume]]] = [
    ("its claim comes", [Volume("v", "fast", nodes=ON_N1)], [Claim("t", "data", "fast")]),
    ("its claim is bound", [Volume("v", "fast", nodes=ON_N1), Claim("t", "data", None)],
     [Claim("t", "data", None, volume="v")]),
    ("the volume of its claim comes", [Claim("t", "data", "fast", volume="v")], [Volume("v", "fast", nodes=ON_N1)]),
    ("a volume comes that it can take", [Claim("t", "data", "fast")], [Volume("v", "fast", nodes=ON_N1)]),
    ("a volume is set aside for it", [Claim("t", "data", "fast"), Volume("v", "fast", nodes=ON_N1, available=False)],
     [Volume("v", "fast", nodes=ON_N1, claimed_by=("t", "data"))]),
    ("a volume is asked for no more", [Claim("t", "data", "fast"), Volume("v", "fast", nodes=ON_N1),
     Claim("t", "other", "fast", awaits="v")], [Claim("t", "other", "fast")]),
]  # fmt: skip


@pytest.mark.parametrize(("before", "then"), [each[1:] for each in LATER], ids=[each[0] for each in LATER])
def test_a_pod_starts_once(before: list[Claim | Volume], then: list[Claim | Volume]) -> None:
    engine = waiting_for(*before)
    layout = engine.state.nodes.layout_version
    assert engine.state.pods["t", "p"].node is None

    engine.state.apply_all(ev.StorageSeen(item) for item in then)

    assert [start.node for start in engine.cycle(2.0).starts] == ["n1"]
    assert engine.state.nodes.layout_version == layout, "nothing is laid out anew for it"


GONE: list[tuple[str, Claim | Volume]] = [
    ("its claim goes", Claim("t", "data", "fast")),
    ("the only volume goes", Volume("v", "fast")),
]


@pytest.mark.parametrize("gone", [each[1] for each in GONE], ids=[each[0] for each in GONE])
def test_a_pod_does_not_start_any_more_once(gone: Claim | Volume) -> None:
    engine = waiting_for(Claim("t", "data", "fast"), Volume("v", "fast"))
    engine.state.apply(ev.PodGone(("t", "p")))
    engine.state.apply(ev.StorageGone(gone))
    for event in World().pod("t", "q", cpu=1, spec=SchedulingSpec((), claims=("data",))).events:
        engine.state.apply(event)

    assert not engine.cycle(2.0).starts


def count_calls(of: object, name: str, monkeypatch: pytest.MonkeyPatch) -> list[None]:
    calls: list[None] = []
    called: Callable[..., object] = getattr(of, name)

    def counted(*given: object) -> object:
        calls.append(None)
        return called(*given)

    monkeypatch.setattr(of, name, counted)
    return calls


def test_only_who_names_a_claim_is_looked_at_when_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = waiting_for(claims=("mine",))
    world = World()
    for number in range(30):
        world.pod("t", f"other{number}", cpu=1, spec=SchedulingSpec((), claims=(f"claim{number}",)))
    engine.state.apply_all(world.events)
    engine.cycle(2.0)
    fitted = count_calls(engine.placer, "_fit", monkeypatch)
    version = engine.state.own_version

    for number in range(20):
        engine.state.apply(ev.StorageSeen(Claim("t", f"nobody's{number}")))
    engine.cycle(3.0)
    assert (len(fitted), engine.state.own_version) == (0, version)

    engine.state.apply(ev.StorageSeen(Claim("t", "mine", lost=True)))
    engine.cycle(4.0)
    assert len(fitted) == 1
    assert engine.state.own_version > version


def test_who_can_no_longer_start_on_the_node_reserved_for_it_is_reserved_another() -> None:
    """The volume that its claim is bound to turns out to be elsewhere."""
    world = World().node("n0", cpu=2, labels={"name": "n0"}).node("n1", cpu=2, labels={"name": "n1"}).tenant("t")
    world.events += [ev.StorageSeen(Volume("v")), ev.StorageSeen(Claim("t", "data", volume="v"))]
    for name, runtime in (("n0", 5000.0), ("n1", 8000.0)):
        world.pod("t", f"on-{name}", on=name, cpu=2, more={"max_runtime": runtime, "preemptible": False})
    world.pod("t", "p", cpu=1, spec=SchedulingSpec((), claims=("data",)))
    engine = Engine(world.state(), Settings(age=50.0))
    for now in (100.0, 200.0):
        engine.cycle(now)
    assert [reserved.nodes for reserved in engine.reservations.by_unit.values()] == [("n0",)]

    engine.state.apply(ev.StorageSeen(Volume("v", nodes=ON_N1)))
    engine.cycle(201.0)

    assert [reserved.nodes for reserved in engine.reservations.by_unit.values()] == [("n1",)]


def two_pools() -> World:
    """A node in either pool, partly full with pods of one tenant; pods of two tenants wait for claims."""
    world = World().tenant("a").tenant("b")
    for number, pool in enumerate(("p", "q")):
        spec = NodeSpec(f"n{number}", {"cpu": 7000, "pods": 100}, {"name": f"n{number}", "pool": pool},
                        volume_limits={"csi": 3})  # fmt: skip
        world.events.append(ev.NodeSeen(spec))
        world.pool(PoolSpec(pool, LabelSelector((Requirement("pool", "In", (pool,)),))))
        world.pod("a", f"on-{number}", on=f"n{number}", cpu=1, spec=SchedulingSpec((), claims=("x",)))
        world.pod("a", f"large-{number}", on=f"n{number}", cpu=1, more={"owner": "o"})
    for number, claims in enumerate([("x",), ("y",), ("x", "y"), ("y",), ()]):
        for tenant in ("a", "b"):
            world.pod(tenant, f"w{number}", cpu=1 + number % 3, spec=SchedulingSpec((), claims=claims))
    return world


@settings(max_examples=8, deadline=None)
@given(st.booleans(), st.lists(st.lists(CHANGES, min_size=1, max_size=3), min_size=3, max_size=6))
def test_whatever_is_kept_is_as_from_scratch(waits: bool, cycles: list[list[Change]]) -> None:
    keep_up(waits, cycles)


@pytest.mark.soak
@settings(max_examples=1000, deadline=None)
@given(st.booleans(), st.lists(st.lists(CHANGES, min_size=1, max_size=4), min_size=3, max_size=12))
def test_whatever_is_kept_is_as_from_scratch_for_long(waits: bool, cycles: list[list[Change]]) -> None:
    keep_up(waits, cycles)


def keep_up(waits: bool, cycles: list[list[Change]]) -> None:
    world = two_pools()
    world.events.append(ev.StorageSeen(StorageClass("fast", waits, driver="csi")))
    engine, now = Engine(world.state(), Settings(least_runtime=0.0)), 100.0
    engine.cycle(now)
    layout = engine.state.nodes.layout_version
    for changes in cycles:
        engine.state.apply_all(ev.StorageSeen(item) if stays else ev.StorageGone(item) for stays, item in changes)
        entitlement_is_as_from_scratch(engine)
        rows_are_as_from_scratch(engine)
        now += 1.0
        engine.cycle(now)
        check(engine.state)
        rows_are_as_from_scratch(engine)
        entitlement_is_as_from_scratch(engine)
    assert engine.state.nodes.layout_version == layout
