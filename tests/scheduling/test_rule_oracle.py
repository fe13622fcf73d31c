"""P, R1 and R2 against books of their own: who may go for whom, in random clusters, also with pools."""

from hypothesis import HealthCheck, given, settings

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.decisions import Evict, Round, Start
from allotment_scheduler.core.eviction.rules import rule
from allotment_scheduler.core.eviction.victims import victim_of
from allotment_scheduler.core.objects.pods import PodKey
from allotment_scheduler.core.simulate import run_to_fixpoint
from builders.rule_oracle import Books
from builders.scheduling import World
from builders.worlds import worlds

SETTINGS = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def books(world: World) -> Books:
    """Of the world as it is told, with what everybody is entitled to: no start or eviction moves that."""
    engine = Engine(world.state())
    found, several = engine.demand.entitlement(), len(engine.state.measure.capacity) > 1

    def entitled(name: str, resource: str, pools: frozenset[str]):  # type: ignore[no-untyped-def]  # noqa: ANN202 - below
        tenant, column = engine.state.forest.by_name[name], engine.state.resources.column(resource)
        return found.of(tenant, column, tuple(pools) if several else None)

    return Books.of(world.events, entitled)


def scope(ledger: Books, pods: list[PodKey]) -> frozenset[str]:
    """Pools with a node that would take one of the pods if it were empty."""
    return frozenset(
        ledger.pool_of(node.name)
        for node in ledger.nodes.values()
        for key in pods
        if not node.taints
        and all(node.allocatable.get(name, 0) >= amount for name, amount in ledger.pods[key].scheduling.requests)
    )


def replay(ledger: Books, done: Round) -> None:
    """Carry a cycle out, step by step, and ask by which rule each victim goes."""
    units: dict[PodKey, list[PodKey]] = {}
    for start in done.starts:
        units.setdefault(start.unit, []).append(start.pod)
    left = list(done.decisions)
    while left:
        first = left.pop(0)
        if isinstance(first, Start):
            ledger.on[first.pod] = first.node
            continue
        step = ledger.step(first.pod)
        others = [left.pop(0) for _ in step[1:]]
        assert {it.pod for it in [first, *others]} == set(step), "a gang goes whole"
        assert all(isinstance(it, Evict) and (it.claimant, it.rule) == (first.claimant, first.rule) for it in others)
        claimants = units[first.claimant]
        assert first.rule in ledger.rules(claimants, step, scope(ledger, claimants)), first
        assert all(ledger.pods[key].preemptible for key in step)
        for key in step:
            del ledger.on[key]


@SETTINGS
@given(worlds(rich=True))
def test_every_eviction_of_a_simulation_is_by_a_rule(world: World) -> None:
    ledger, evicted = books(world), set[PodKey]()

    for done in run_to_fixpoint(Engine(world.state()), world.clock).rounds:
        by_rights = {evict.claimant for evict in done.evictions if evict.rule != "P"}
        again = {start.unit for start in done.starts if start.pod in evicted}
        assert not by_rights & again, "who was evicted claims by P alone"
        replay(ledger, done)
        evicted |= {evict.pod for evict in done.evictions}


@SETTINGS
@given(worlds(rich=True))
def test_a_victim_may_go_exactly_if_the_books_say_so(world: World) -> None:
    engine = Engine(world.state())
    engine.cycle(world.clock, claims=False)
    state, ledger = engine.state, books(world)
    ledger.on = {key: pod.node for key, pod in state.pods.items() if pod.node is not None}

    for unit in [unit for queue in state.queues.values() for unit in queue.waiting()]:
        claim, pods = engine.planner._claim(unit), [pod.key for pod in unit.pods]
        if unit.shape.fixed and claim.several_pools:
            continue  # where it may run also hangs on where its guarantee has room
        for pod in [pod for pod in state.pods.values() if pod.node is not None and pod.gang is not unit.gang]:
            victim = victim_of(pod, state)
            if victim is None or not claim.asks:
                continue
            got, want = rule(claim, victim), ledger.rules(pods, [it.key for it in victim.pods], scope(ledger, pods))
            assert got in want if got else not want, f"{unit.first} for {pod}: {got}, not {want}"


def test_the_books_count_pods_by_hand() -> None:
    """Of the oracle itself: a world whose sums anybody can check."""
    world = World().node("n", cpu=4).inner("d", guaranteed={"cpu": 1}).tenant("a", "d").tenant("b")
    world.pods("a", 3, on="n", cpu=1).pod("b", "claims", cpu=2)
    ledger = books(world)

    assert [ledger.used(name, "cpu") for name in ("a", "d", "b")] == [3000, 3000, 0]
    assert ledger.rules([("b", "claims")], [("a", "p0")], scope(ledger, [("b", "claims")])) == {"R2"}
    del ledger.on["a", "p0"]
    assert ledger.rules([("b", "claims")], [("a", "p1")], frozenset(("",))) == set(), "d is at what it is entitled to"
    assert ledger.asked([("a", "p1")]) == {"cpu": 1000}
