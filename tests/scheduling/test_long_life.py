"""A long life leaves nothing behind: what the core keeps follows what there is, not what there has ever been.

Generation after generation of Jobs, gangs, namespaces, tenants, nodes and claims comes and goes, each with names and
labels of its own. Afterwards every table that can be reached from the engine is as large as before.
"""

import gc
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import asdict as fields_of_struct

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.attachments import Claim
from allotment_scheduler.core.objects.pods import PodAffinityTerm, PodSpec, SchedulingSpec, SpreadConstraint
from allotment_scheduler.core.objects.selectors import LabelSelector, Requirement
from allotment_scheduler.core.settings import Settings
from allotment_scheduler.core.state.cluster import ClusterState
from allotment_scheduler.core.state.invariants import check
from builders.scheduling import World, start_as_decided

ZONE = "topology.kubernetes.io/zone"


def own(job: str) -> LabelSelector:
    return LabelSelector((Requirement("job-name", "In", (job,)),))


def natures(job: str) -> list[SchedulingSpec]:
    """What pods of a Job may say about others of it, all in words of the Job's own."""
    return [
        SchedulingSpec(()),
        SchedulingSpec((), anti_affinity=(PodAffinityTerm(ZONE, own(job)),)),
        SchedulingSpec((), preferred_affinity=(PodAffinityTerm(ZONE, own(job), weight=5),)),
        SchedulingSpec((), spread=(SpreadConstraint(ZONE, 5, True, own(job)),)),
        SchedulingSpec(
            (), anti_affinity=(PodAffinityTerm(ZONE, LabelSelector(()), match_label_keys=("controller-uid",)),)
        ),
        SchedulingSpec((), claims=(f"data-{job}",)),
    ]


class Life:
    """A cluster in which nothing stays but one node, two tenants, a pod that runs and one that waits."""

    def __init__(self) -> None:
        self.world = World().node("n0", cpu=20, labels={ZONE: "a"}).tenant("a").tenant("b")
        self.world.pod("a", "service", cpu=1, labels={"app": "service"})
        self.world.pod("b", "too-large", cpu=50, labels={"app": "large"})
        self.engine = Engine(self.world.state(), Settings())
        self.around = [event for event in self.take() if not isinstance(event, ev.PodSeen)]
        self.now = 1000.0
        self.tell(())

    @property
    def state(self) -> ClusterState:
        return self.engine.state

    def tell(self, events: Iterable[ev.Event]) -> None:
        """Take in what happened, and decide."""
        self.state.apply_all(events)
        self.now += 400.0
        assert not self.engine.cycle(self.now).troubles

    def take(self) -> list[ev.Event]:
        """What was built since the last time."""
        events, self.world.events = self.world.events, []
        return events

    def job(self, tenant: str, job: str, nature: SchedulingSpec, **more: Any) -> list[tuple[str, str]]:
        """Two pods of a new Job; their keys."""
        labels = {"job-name": job, "controller-uid": f"uid-{job}"}
        given: dict[str, Any] = {"owner": f"uid-{job}", "owner_kind": "Job", "recreated": True, **more.pop("more", {})}
        for number in range(2):
            self.world.pod(tenant, f"{job}-{number}", spec=nature, labels=labels, more=given, **({"cpu": 4} | more))
        return [(tenant, f"{job}-{number}") for number in range(2)]

    def generation(self, number: int) -> None:
        """Everything new that one generation brings comes, lives and goes."""
        world, keys = self.world, list[tuple[str, str]]()
        world.events = []
        home, node = f"home-{number}", f"node-{number}"
        world.tenant(home, guaranteed={"cpu": 4}).node(node, cpu=6, labels={ZONE: f"zone-{number}", "host": node})
        world.events.append(ev.NamespaceSeen(f"extra-{number}", {"number": str(number)}, home))
        world.events.append(ev.BudgetSeen(ev.BudgetSpec("a", f"budget-{number}", LabelSelector(()), allowed=1)))
        for kind, nature in enumerate(natures(f"job-{number}")):
            job = f"job-{number}-{kind}"
            for name in nature.claims:
                world.events.append(ev.StorageSeen(Claim("a", name, volume=None)))
            keys += self.job("a", job, nature)
        world.gang("b", f"gang-{number}", 2)
        keys += self.job("b", f"gang-{number}", SchedulingSpec(()), group=f"gang-{number}")
        self.tell(self.take())
        keys += self.job(home, f"claimant-{number}", SchedulingSpec(()), cpu=2)
        keys += self.job("b", f"hopeless-{number}", SchedulingSpec(()), cpu=50)
        keys += self.job("b", f"lost-{number}", SchedulingSpec(()), group=f"undescribed-{number}")
        self.tell(self.take())
        self.tell(())
        assert self.state.running.size > len(natures("")), "some of it has run"
        for index, key in enumerate(keys):
            pod = self.state.pods.get(key)
            group = pod.spec.group if pod is not None else None
            self.state.apply(ev.PodGone(key, succeeded=index % 2 == 0, group=group))
        for name in natures(f"job-{number}")[-1].claims:
            self.state.apply(ev.StorageGone(Claim("a", name, volume=None)))
        self.state.apply(ev.GroupGone(("b", f"gang-{number}")))
        self.state.apply(ev.BudgetGone(("a", f"budget-{number}")))
        self.state.apply(ev.NamespaceGone(f"extra-{number}"))
        self.state.apply(ev.TenantGone(home))
        self.tell([ev.NodeGone(node)])

    def rest(self) -> None:
        """Time passes until whatever has a time limit is over."""
        for _ in range(2):
            self.now += 10 * 3600.0
            self.tell(())
        gc.collect()


def sizes(root: object) -> dict[str, int]:
    """The lengths of all tables that can be reached, summed by the way that leads there."""
    found: dict[str, int] = {}
    seen: set[int] = set()
    todo: deque[tuple[str, object]] = deque([("engine", root)])
    while todo:
        path, thing = todo.popleft()
        if id(thing) in seen or isinstance(thing, str | bytes | int | float | type) or path.count(".") > 12:
            continue
        seen.add(id(thing))
        if isinstance(thing, np.ndarray):
            found[path] = found.get(path, 0) + thing.size
        elif hasattr(thing, "__len__"):
            found[path] = found.get(path, 0) + len(thing)
        todo += [(f"{path}.{name}", part) for name, part in parts_of(thing)]
    return found


def parts_of(thing: object) -> Iterator[tuple[str, object]]:
    if isinstance(thing, PodSpec):
        yield from fields_of_struct(thing).items()
    elif hasattr(thing, "items"):
        yield from (("*", part) for pair in list(thing.items()) for part in pair)
    elif isinstance(thing, list | tuple | set | frozenset):
        yield from (("*", part) for part in thing)
    if type(thing).__module__.startswith("allotment"):
        slots = (name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ()))
        names = dict.fromkeys([*getattr(thing, "__dict__", {}), *slots])
        yield from (
            (name, getattr(thing, name)) for name in names if not name.startswith("__") and hasattr(thing, name)
        )


def grown(life: Life, first: int, last: int) -> dict[str, tuple[int, int]]:
    """Tables that are larger after some generations than before."""
    life.rest()
    before = sizes(life.engine)
    for number in range(first, last):
        life.generation(number)
    life.rest()
    after = sizes(life.engine)
    return {path: (before.get(path, 0), size) for path, size in after.items() if size > before.get(path, 0)}


def test_a_long_life_leaves_nothing_behind() -> None:
    life = Life()
    for number in range(4):
        life.generation(number)
    assert grown(life, 4, 10) == {}


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_very_long_life_leaves_nothing_behind() -> None:
    life = Life()
    for number in range(20):
        life.generation(number)
    assert grown(life, 20, 1020) == {}


def test_cancelled_pods_behind_one_that_waits_are_forgotten() -> None:
    life = Life()
    for number in range(600):
        life.world.pod("b", f"p{number}", cpu=50)
        life.state.apply(life.take()[-1])
        life.state.apply(ev.PodGone(("b", f"p{number}")))
    lanes = [lane for queue in life.state.queues.values() for lane in queue.lanes.values()]
    assert sum(len(lane.line) + len(lane.early) for lane in lanes) < 200


STEPS = st.lists(st.tuples(st.integers(0, 4), st.sampled_from("ab"), st.integers(0, 5)), min_size=1, max_size=10)


@settings(max_examples=6, deadline=None)
@given(STEPS)
def test_after_any_history_what_is_interned_is_what_pods_need(steps: list[tuple[int, str, int]]) -> None:
    life = Life()
    for job, tenant, kind in steps:
        name = f"job-{job}"
        known = [key for key in life.state.pods if key[1].startswith(name)]
        if known:
            life.tell([ev.PodGone(key) for key in known])
        else:
            life.job(tenant, name, natures(name)[kind % 5])
            life.tell(life.take())
    state = life.state
    check(state)
    state.lineup.requeue_all()
    life.engine.placer.forget(state.lineup.row_keys())
    life.tell(())
    gc.collect()
    pods = state.pods.values()
    assert set(state.classes.values()) == {pod.klass for pod in pods}
    assert set(state.labelsets.values()) == {pod.labels for pod in pods}

    again = ClusterState()
    again.apply_all(life.around)
    again.apply_all(ev.PodSeen(pod.spec) for pod in pods)
    start_as_decided(again, {pod.key: pod.node for pod in pods if pod.node is not None and pod.spec.node is None})
    fresh = Engine(again, life.engine.settings)
    for engine in (life.engine, fresh):
        life.job("a", "newcomer", natures("job-0")[1])
        engine.state.apply_all(life.take())
    # Claims aside: who may go depends on when pods started and who was evicted, which the fresh one cannot know.
    kept, anew = (engine.cycle(life.now, claims=False) for engine in (life.engine, fresh))
    assert kept.decisions == anew.decisions
