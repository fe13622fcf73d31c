"""Brute force on tiny clusters: whether a unit fits at all, and the cheapest way there is to make room for it.

Placement tries every node for every pod. Plans try every victim that a rule allows, in every order, and keep the one
that costs fewest last-choice pods, then fewest pods. Rules, limits and "who helps" are the engine's own: it is the
search that is proven here, not the rules. No brakes, no disruption budgets, no neighbours' constraints.
"""

import random
from dataclasses import dataclass, field, replace

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.eviction.plans import Attempt
from allotment_scheduler.core.eviction.rules import rule
from allotment_scheduler.core.eviction.victims import Victim, victim_of
from allotment_scheduler.core.fairness.limits import open_pools
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.pods import PodKey, PodSpec, SchedulingSpec
from allotment_scheduler.core.objects.units import ExpectedMember, Unit
from allotment_scheduler.core.placement.eligibility import beyond_guarantee, limits_met
from allotment_scheduler.core.state.cluster import ClusterState
from allotment_scheduler.core.state.trial import Trial
from allotment_scheduler.shell.succession import hold_rooms
from builders.scheduling import World

Cost = tuple[int, int]
"""Pods: those of the last choice, and all."""
MOST_SETS = 3000
"""Sets of victims looked at for one claimant; worlds are so small that few need more."""


def tiny(seed: int, *, elastic: bool = True, unlike: bool = True) -> World:
    """Up to three nodes and four leaves, with running and waiting pods and gangs of everybody."""
    rng = random.Random(seed)
    world = World()
    nodes = [f"n{number}" for number in range(rng.randint(1, 3))]
    for name in nodes:
        world.node(name, cpu=rng.randint(1, 5), gpu=rng.choice([0, 0, 2]), labels={"name": name})
    bounds: list[dict[str, int]] = [{}, {}, {"cpu": rng.randint(0, 6)}, {"cpu": rng.randint(0, 6), "gpu": 1}]
    inner = [f"d{number}" for number in range(rng.randint(0, 2))]
    for name in inner:
        limits: dict[str, int] = rng.choice([{}, {}, {"cpu": rng.randint(1, 6)}])
        world.inner(name, weight=rng.choice(["1", "2", "0"]), limits=limits, guaranteed=rng.choice(bounds))
    leaves = [f"t{number}" for number in range(rng.randint(1, 4))]
    for name in leaves:
        limits = rng.choice([{}, {}, {}, {"cpu": rng.randint(1, 5)}])
        weight = rng.choice(["1", "1", "2", "0"])
        world.tenant(name, rng.choice(["", *inner]), weight=weight, limits=limits, guaranteed=rng.choice(bounds))
    for number in range(rng.randint(3, 8)):
        _workload(world, rng, f"w{number}", rng.choice(leaves), nodes, elastic=elastic, unlike=unlike)
    return world


def _workload(
    world: World, rng: random.Random, name: str, leaf: str, nodes: list[str], *, elastic: bool, unlike: bool
) -> None:
    size, runs = rng.choice([1, 1, 1, 2, 2, 3]), rng.random() < 0.5
    priority = rng.choice([0, 0, 0, 1, 2])
    if size > 1:
        minimum = rng.randint(1, size) if elastic else size
        world.gang(leaf, name, minimum, priority=rng.choice([None, None, 1, 3]))
    for member in range(size):
        there = ((("name", rng.choice(nodes)),)) if unlike and rng.random() < 0.3 else ()
        world.pod(
            leaf,
            f"{name}-{member}",
            on=rng.choice(nodes) if runs else None,
            group=name if size > 1 else None,
            priority=priority if rng.random() < 0.8 else 2,
            cpu=rng.randint(1, 3),
            gpu=rng.choice([0, 0, 0, 1]),
            spec=SchedulingSpec((), node_selector=there),
            more={"preemptible": rng.random() < 0.9, "recreated": rng.random() < 0.8},
        )


def state_of(seed: int, *, rooms: bool) -> ClusterState:
    """A tiny world as a state; with `rooms`, some of its running gangs announce members and hold room for them."""
    state, rng = tiny(seed).state(), random.Random(seed)
    for gang in [gang for gang in state.gangs.values() if rooms and gang.running]:
        assert gang.spec is not None
        needs = SchedulingSpec((("cpu", 1000 * rng.randint(1, 2)),))
        member = ExpectedMember("x", 2, PodSpec(gang.key[0], "x", needs, group=gang.key[1]))
        minimum = gang.running + rng.choice([0, 0, 2])
        state.apply(ev.GroupSeen(replace(gang.spec, min_member=minimum, expected=(member,))))
        hold_rooms(state, gang.key, [("x", rng.choice(state.nodes.ordered).spec.name) for _ in range(2)], since=0.0)
    return state


def waiting(engine: Engine) -> list[Unit]:
    """Units that wait and may claim by every rule, as far as guarantees let them start."""
    state = engine.state
    units = [unit for queue in state.queues.values() for unit in queue.waiting()]
    return [
        unit for unit in units
        if not any(map(state.is_spent, unit.pods))
        and not (unit.shape.fixed and beyond_guarantee(unit.leaf, unit.shape) is not None)
    ]  # fmt: skip


def fits(engine: Engine, unit: Unit, trial: Trial) -> bool:
    """Whether limits and nodes take the unit as things stand in the trial, whatever the order of its pods."""
    blocked, pools = limits_met(unit.leaf, unit.shape)
    return blocked is None and _seats(engine, unit, pools, trial, 0)


def _seats(engine: Engine, unit: Unit, pools: tuple[str, ...], trial: Trial, position: int) -> bool:
    if position == len(unit.pods):
        return True
    pod, state = unit.pods[position], engine.state
    klass, seen, _ = state.lineup.row_key(pod)
    row = engine.placer.row((klass, seen, open_pools(unit.leaf, pod.klass.amounts, pools)))
    for index in range(len(state.nodes.ordered)):
        if row.allowed[index] and all(state.nodes.free[column, index] >= amount for column, amount in row.klass.room):
            mark = trial.mark()
            trial.start(pod, index)
            found = _seats(engine, unit, pools, trial, position + 1)
            trial.rollback(mark)
            if found:
                return True
    return False


@dataclass
class Search:
    """The cheapest plan for one unit, by trying all; on one node only, if it is named."""

    engine: Engine
    unit: Unit
    on: str | None = None
    best: Cost | None = None
    seen: set[frozenset[PodKey]] = field(default_factory=set)

    def run(self) -> Cost | None:
        """What the cheapest plan costs, None if there is none."""
        self.claim = self.engine.planner._claim(self.unit)
        self.usable = Attempt(self.engine.planner, self.unit, self.claim, {}).usable
        self.blocked = limits_met(self.unit.leaf, self.unit.shape)[0]
        with self.engine.state.trial() as trial:
            self._go_on(trial, frozenset(), (0, 0))
        return self.best

    @property
    def complete(self) -> bool:
        """Whether everything was looked at."""
        return len(self.seen) < MOST_SETS

    def _go_on(self, trial: Trial, gone: frozenset[PodKey], cost: Cost) -> None:
        if gone in self.seen or not self.complete or (self.best is not None and cost >= self.best):
            return
        self.seen.add(gone)
        if fits(self.engine, self.unit, trial):
            self.best = cost
            return
        for victim in self._victims():
            if rule(self.claim, victim) is not None:
                mark = trial.mark()
                for pod in victim.places:
                    trial.evict(pod)
                last = sum(pod.spec.last_choice for pod in victim.pods)
                keys = gone | {pod.key for pod in victim.pods}
                self._go_on(trial, keys, (cost[0] + last, cost[1] + len(victim.pods)))
                trial.rollback(mark)

    def _victims(self) -> list[Victim]:
        found: dict[PodKey, Victim] = {}
        for pod in list(self.engine.state.pods.values()):
            own = pod.gang is not None and pod.gang is self.unit.gang
            victim = None if pod.node is None or own else victim_of(pod, self.engine.state)
            if victim is not None and self._helps(victim):
                found.setdefault(victim.pods[0].key, victim)
        return list(found.values())

    def _helps(self, victim: Victim) -> bool:
        """It is below the limit in the way, or stands where the claimant could run."""
        if self.on is not None and all(pod.node != self.on for pod in victim.places):
            return False
        nodes = self.engine.state.nodes.by_name
        return (self.blocked is not None and self.blocked in victim.leaf.path) or any(
            self.usable[nodes[pod.node or ""].index] for pod in victim.places
        )
