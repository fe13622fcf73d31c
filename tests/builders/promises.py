"""What every cycle of the engine promises, seen from outside: taken down before it, and held against what it did.

Amounts are compared, not names: a node that holds too much already, or a tenant above its limit, may come down to it,
but nothing may get worse.
"""

from collections import Counter
from dataclasses import dataclass
from fractions import Fraction

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.decisions import Evict, Round, Start
from allotment_scheduler.core.entitlement.demand import Demand
from allotment_scheduler.core.entitlement.filling import Entitlement
from allotment_scheduler.core.eviction.rules import GANG
from allotment_scheduler.core.objects.pods import Pod
from allotment_scheduler.core.placement.placer import Placer
from allotment_scheduler.core.state.cluster import ClusterState

Excess = dict[tuple[str, str, int], int]
"""By node or tenant, pool ("": in all) and column: what is above what there may be."""


@dataclass(frozen=True)
class Promises:
    """A state before a cycle."""

    beyond_nodes: Excess
    beyond_limits: Excess
    gangs: dict[tuple[str, str], int]

    @classmethod
    def before(cls, state: ClusterState) -> "Promises":
        """Take down what counts."""
        state.settle()
        return cls(beyond_nodes(state), beyond_limits(state), {key: it.running for key, it in state.gangs.items()})

    def hold(self, done: Round, state: ClusterState) -> None:
        """Fail if the cycle broke a promise."""
        assert not done.troubles
        for name, then, now in (
            ("a node", self.beyond_nodes, beyond_nodes(state)),
            ("a limit", self.beyond_limits, beyond_limits(state)),
        ):
            worse = {key: (then.get(key, 0), over) for key, over in now.items() if over > then.get(key, 0)}
            assert not worse, f"{name} is exceeded by more than before: {worse}"
        started = {start.pod for start in done.starts}
        vain = {evict.pod for evict in done.evictions if evict.rule != GANG and evict.claimant not in started}
        assert not vain, f"evicted in vain: {vain}"
        for number, decision in enumerate(done.decisions):
            later = {each.pod for each in done.decisions[number:] if isinstance(each, Start)}
            assert not (isinstance(decision, Evict) and decision.pod in later), f"{decision.pod} started after all"
        self._gangs_are_whole(started, state)

    def _gangs_are_whole(self, started: set[tuple[str, str]], state: ClusterState) -> None:
        """No gang was cut, and none of which too few run was started in part."""
        for key, gang in state.gangs.items():
            if not 0 < gang.running < gang.min_member:
                continue
            then, now = self.gangs.get(key, 0), gang.running + len(gang.phantoms)
            assert gang.running >= then, f"{key} was cut from {then} to {gang.running}"
            if now >= gang.min_member:
                continue  # room is held for members that are expected
            begun = [pod.spec.name for pod in gang.members.values() if pod.key in started]
            assert not begun, f"{key} started in part: {begun}, and runs {now} of {gang.min_member}"


def beyond_nodes(state: ClusterState) -> Excess:
    """What pods hold beyond what their nodes have, those left out that are on their way out."""
    free = state.nodes.free.copy()
    for pod in on_their_way(state):
        if (node := state.nodes.by_name.get(pod.node or "")) is not None:
            for column, amount in pod.klass.amounts:
                free[column, node.index] += amount
    return {
        (node.spec.name, node.pool, column): -int(free[column, node.index])
        for node in state.nodes.ordered
        for column in range(free.shape[0])
        if free[column, node.index] < 0
    }


def on_their_way(state: ClusterState) -> list[Pod]:
    """Pods that are on their way out: starts count them, claims do not."""
    return [pod for pod in state.running.pods if pod is not None and pod.spec.deleting]


def beyond_limits(state: ClusterState) -> Excess:
    """What tenants use beyond their limits, in all and by pool, by sums of pods; but for those on their way out."""
    used: Counter[tuple[str, str, int]] = Counter()
    leaving = set(map(id, on_their_way(state)))
    for pod in (pod for pod in state.running.pods if pod is not None and id(pod) not in leaving):
        node = state.nodes.by_name.get(pod.node or "")
        for tenant in pod.leaf.path if pod.leaf is not None else ():
            for pool in {"", "" if node is None else node.pool}:
                used.update({(tenant.name, pool, column): amount for column, amount in pod.klass.amounts})
    found: Excess = {}
    for tenant in state.forest.by_name.values():
        for pool, caps in [("", tenant.limits), *tenant.limits_in.items()]:
            over = {(tenant.name, pool, c): used[tenant.name, pool, c] - cap for c, cap in caps.items()}
            found |= {key: amount for key, amount in over.items() if amount > 0}
    return found


def entitlement_is_as_from_scratch(engine: Engine) -> None:
    """What is kept of entitlement is what a look at everything finds."""
    kept, fresh = engine.demand.entitlement(), Demand(engine.state, engine.placer).entitlement()
    assert _cells(kept) == _cells(fresh)


def rows_are_as_from_scratch(engine: Engine) -> None:
    """Where pods may stand, and where they would, is kept as a look at everything finds it."""
    kept, fresh = engine.placer, Placer(engine.state)
    kept.sync()
    for key in [key for key in kept.rows if engine.state.lineup.is_represented(key[0], key[1])]:
        row, anew = kept.row(key), fresh.row(key)
        assert (row.allowed == anew.allowed).all(), f"where {row.klass.spec} may stand"
        assert (row.static == anew.static).all()
        assert (row.minds, row.blocks) == (anew.minds, anew.blocks)
        assert kept.feasible(row) == fresh.feasible(anew)
        assert kept.best(row) == fresh.best(anew)
        assert kept.slots(row) == fresh.slots(anew)


def _cells(found: Entitlement) -> dict[tuple[str, tuple[str, int]], Fraction]:
    return {
        (name, cell): amount for name in found.cells for cell, amount in found.cells[name].items() if amount
    }  # fmt: skip
