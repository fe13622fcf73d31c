"""Why a pod waits: one code, one sentence with numbers, and the smallest change that would start it now.

Codes, in the order in which they are looked for: `NotOurs`, `Deleted`, `UnknownTenant`, `InvalidRequest`,
`TenantSuspended`, `Quarantined`, `Gated`, `GangIncomplete`, `BeyondGuarantee`, `AboveLimit`, `Reserved`, `NoNodeFits`
(filters refuse every node, or a gang is larger than all of them), `Fragmented` (enough is free in all, but nowhere
together), `BehindFairShare` (what is free does not suffice, and others may keep what they have, or it is too late in
the round). The live scheduler adds what it alone knows (shell/jobs.py, shell/reporter.py): `OwnerGone`,
`GangIncomplete` while a pod's Job is not known yet, `Quarantined` after a refused Binding, and `Starting`.

An explanation never changes anything, and is made only when someone asks.
"""

from dataclasses import dataclass
from math import inf

import numpy as np

from allotment_api.quantities import format_units
from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.explanation.counterfactuals import slots, smaller_request, would_start
from allotment_scheduler.core.explanation.rivals import Rival, ahead_of, weighted_share
from allotment_scheduler.core.fairness.limits import exceeded_in
from allotment_scheduler.core.fairness.shares import is_guaranteed
from allotment_scheduler.core.filters.nodes import node_filters
from allotment_scheduler.core.filters.topology import DEVICES_LACKING
from allotment_scheduler.core.filters.volumes import binding_filters
from allotment_scheduler.core.objects.nodes import BoolVector
from allotment_scheduler.core.objects.pods import Pod
from allotment_scheduler.core.objects.resources import PODS, Column
from allotment_scheduler.core.objects.tenants import Tenant
from allotment_scheduler.core.objects.units import Home, Unit
from allotment_scheduler.core.placement.eligibility import barred_by_guarantee, barred_by_limit, limits_met
from allotment_scheduler.core.placement.placer import Row, never_fits
from allotment_scheduler.core.placement.reservations import OVERDUE


@dataclass(frozen=True, slots=True)
class Why:
    """A reason code with its sentence. `change`: what would start it now; `never`: no change of load would.

    `owed`: its tenants' guarantees cover it, and yet the cluster has no room for it, nor anybody who has to make some.
    """

    code: str
    message: str
    change: str | None = None
    never: bool = False
    owed: bool = False


class Explainer:
    """Explains waiting pods against one state."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.state = engine.state

    def why(self, pod: Pod) -> Why:
        """The reason why a pod does not run."""
        leaf, unit = pod.leaf, pod.unit
        kept_out = self._kept_out(pod)
        if kept_out is not None:
            return kept_out
        if leaf is None or not isinstance(unit, Unit) or not unit.live:
            return self._incomplete(pod)
        scope = self.engine.demand.scope_of
        beyond = barred_by_guarantee(unit, scope) if unit.shape.fixed else None
        if beyond is not None:
            return self._beyond(unit, *beyond)
        blocker = barred_by_limit(unit, scope)
        if blocker is not None:
            return self._above_limit(unit, blocker)
        reservation = self.engine.reservations.by_unit.get(unit.first.key)
        if reservation is not None:
            return Why("Reserved", f"{reservation.words}; {self._expected(reservation.eta)}")
        return self._room_kept(unit) or self._no_room(unit)

    def _expected(self, eta: float) -> str:
        """When a unit with a reservation starts."""
        left = eta - self.state.now
        if left <= 0:
            return OVERDUE
        return f"it is expected to start {'when enough has ended' if eta == inf else f'in {left:.0f} s'}"

    def _kept_out(self, pod: Pod) -> Why | None:
        """Why a pod is in no queue; None where it is in one, or waits for its gang."""
        leaf = pod.leaf
        if not pod.spec.ours:
            return Why("NotOurs", "another scheduler is to place it")
        if pod.spec.deleting:
            return Why("Deleted", "it is being deleted", never=True)
        if leaf is None:
            return Why("UnknownTenant", self._unowned(pod.spec.namespace), never=True)
        if pod.invalid:
            return Why("InvalidRequest", pod.invalid, never=True)
        if leaf.suspended:
            above = next(tenant for tenant in leaf.path[::-1] if tenant.suspended)
            return Why("TenantSuspended", f"tenant {above.shown_name} is suspended: it starts nothing new")
        if pod.set_aside is not None:
            when = f", next try in {pod.set_aside.until - self.state.now:.0f} s" if pod.set_aside.until < inf else ""
            text = f"deciding about it has failed {pod.times_set_aside} time(s){when}: {pod.set_aside.message}"
            return Why("Quarantined", text, never=pod.set_aside.until == inf)
        if pod.spec.gated:
            return Why("Gated", "the pod has scheduling gates: it waits until their owner removes them")
        return None

    def _unowned(self, namespace: str) -> str:
        """Why a namespace has no tenant: nobody lists it, or the tenant that does is not in force."""
        state = self.state
        owners = [name for name, spec in state.tenant_specs.items() if namespace in spec.namespaces]
        owners += [owner] if (owner := state.namespace_tenants.get(namespace)) is not None else []
        for name in owners:
            if name in state.forest.problems:
                return f"its tenant {name} is not in force: {state.forest.problems[name]}"
        return f"namespace {namespace} belongs to no tenant: list it under spec.namespaces of one"

    def _incomplete(self, pod: Pod) -> Why:
        gang = pod.gang
        if gang is None:
            return Why("BehindFairShare", "it was evicted just now: it waits for its next turn")
        if gang.spec is None:
            return Why("GangIncomplete", f"PodGroup {gang.key[1]} does not exist: create it")
        if gang.spec.paused:
            return Why("GangIncomplete", f"its PodGroup {gang.key[1]} is paused", f"resume PodGroup {gang.key[1]}")
        there = sum(not member.spec.deleting for member in gang.members.values()) + len(gang.phantoms)
        needed = gang.min_member
        if there < needed:
            text = f"{there} of {needed} pods of group {gang.key[1]} exist"
            return Why("GangIncomplete", text, f"create {needed - there} more")
        kept = sum(1 for member in gang.members.values() if member.node is None and not self.state.lineup.waits(member))
        if not kept:
            text = f"group {gang.key[1]} needs {needed} pods, and others come first: it starts after them"
            return Why("GangIncomplete", text)
        text = f"{there} of {needed} pods of group {gang.key[1]} exist, but {kept} of them may not start"
        return Why("GangIncomplete", text)

    def _beyond(self, unit: Unit, tenant: Tenant, column: Column | None) -> Why:
        if column is None:
            text = f"it may not be preempted, and no guarantee of tenant {tenant.shown_name} covers it"
            text += self._pool_by_pool(unit, tenant)
            never = not any(above.has_guarantee for above in unit.leaf.path)
            change = self._preemptible(unit, "guarantee the tenant what it requests")
            return Why("BeyondGuarantee", text, change, never=never)
        name = self.state.resources.called(column, unit.first.klass.spec.requests)
        cap = (tenant.guaranteed or {}).get(column, 0)
        asked = dict(unit.shape.fixed_asks)[column]
        taken = tenant.fixed[column] + tenant.held_fixed.get(("", column), 0)
        text = (
            f"it may not be preempted: tenant {tenant.shown_name} uses {format_units(name, taken)} "
            f"{name} of that kind and this asks for {format_units(name, asked)}, "
            f"but {format_units(name, cap)} are guaranteed"
        )
        never = not tenant.guaranteed_in and asked > cap
        return Why("BeyondGuarantee", text, self._preemptible(unit, "raise the guarantee"), never=never)

    def _preemptible(self, unit: Unit, otherwise: str) -> str:
        """What would end the lack of a guarantee, and whether that alone would start it."""
        change = f"make it preemptible, or {otherwise}"
        return change if would_start(self.engine.gangs, unit, preemptible=True) else f"{change}; then it waits for room"

    def _pool_by_pool(self, unit: Unit, tenant: Tenant) -> str:
        """What of a request a tenant's guarantee falls short of in each pool where it has one."""
        resources, out = self.state.resources, list[str]()
        where = self.engine.demand.scope(unit)
        for pool, caps in sorted(tenant.guaranteed_in.items()):
            if pool not in unit.shape.pools:
                out.append(f"pool {pool} is closed to it")
                continue
            if where and pool not in where:
                out.append(f"pool {pool} has no node for it")
                continue
            fixed = [used + tenant.held_fixed.get((pool, Column(c)), 0) for c, used in enumerate(tenant.fixed_at(pool))]
            column, asked = max(unit.shape.fixed_asks, key=lambda it: fixed[it[0]] + it[1] - caps.get(it[0], 0))
            name = resources.called(column, unit.first.klass.spec.requests)
            out.append(
                f"in pool {pool} {format_units(name, caps.get(column, 0))} {name} are guaranteed, "
                f"{format_units(name, fixed[column])} are in use by such pods, and this asks for "
                f"{format_units(name, asked)}"
            )
        return f": {'; '.join(out)}" if out else ""

    def _above_limit(self, unit: Unit, tenant: Tenant) -> Why:
        names = self.state.resources.names
        for column, amount in unit.shape.amounts:
            cap = tenant.limits.get(column)
            if cap is not None and tenant.taken(column) + amount > cap:
                name, used = names[column], tenant.taken(column)
                text = (
                    f"tenant {tenant.shown_name} uses {format_units(name, used)} of its limit of "
                    f"{format_units(name, cap)} {name}, and this asks for {format_units(name, amount)}"
                )
                found = smaller_request(self.state, self.engine.placer, unit)
                return Why(
                    "AboveLimit",
                    text,
                    found.by_limit(names) if found else None,
                    never=amount > cap or self._too_large(unit),
                )
        return self._above_limit_of_pools(unit, tenant)

    def _above_limit_of_pools(self, unit: Unit, tenant: Tenant) -> Why:
        """Limits of single pools are in the way in all pools where it could run."""
        scope, names = sorted(self.engine.demand.scope(unit) or unit.shape.pools), self.state.resources.names
        if unit.shape.size > 1:
            pools = ", ".join(pool for pool in scope if pool in tenant.limits_in)
            text = f"the limits of tenant {tenant.shown_name} for pools ({pools}) leave too little"
            return Why("AboveLimit", f"{text} for all {unit.shape.size} pods that start together")
        never, parts = True, []
        for pool in scope:
            exceeded = exceeded_in(unit.leaf, unit.shape.amounts, pool)
            if exceeded is not None:
                whose, column, amount = exceeded
                cap, name = whose.limits_in[pool][column], names[column]
                never &= amount > cap
                used, most, asked = (format_units(name, it) for it in (whose.taken_at(pool, column), cap, amount))
                parts.append(
                    f"in pool {pool} tenant {whose.shown_name} uses {used} of its limit of {most} {name}, "
                    f"and this asks for {asked}"
                )
        return Why("AboveLimit", f"it may start in no pool where it could run: {'; '.join(parts)}", never=never)

    def _too_large(self, unit: Unit) -> bool:
        """Whether some pod of a unit fits on no node that it may use, however empty."""
        rows = (self.engine.placer.row(key) for key, _ in unit.shape.parts)
        return any(never_fits(row, self.state.nodes.allocatable) for row in rows)

    def _room_kept(self, unit: Unit) -> Why | None:
        """Why a unit waits beside room that would take it; None where there is none. It never says for whom it is."""
        gangs, holds, pools = self.engine.gangs, self.engine.holds, limits_met(unit.leaf, unit.shape)[1]
        if self.state.stale or not gangs.fits(unit, pools):
            return None
        mark = holds.close(holds.seats())
        try:
            if not gangs.fits(unit, pools):
                return Why("Reserved", "the room that is free is held for pods that are to come back")
            holds.close(self.engine.reservations.rooms(self.state.now))
            if not gangs.fits(unit, pools):
                return Why("Reserved", "the room that is free is reserved for larger units that have waited for long")
        finally:
            holds.open(mark)
        return Why("BehindFairShare", "there is room for it: it is decided soon")

    def _no_room(self, unit: Unit) -> Why:
        placer, nodes = self.engine.placer, self.state.nodes
        pools = limits_met(unit.leaf, unit.shape)[1]
        rows = [placer.row((klass, seen, pools)) for (klass, seen, _), _ in unit.shape.parts]
        lacking = next((row for row in rows if placer.best(row) < 0), None)
        short, change = lacking or rows[0], self._change(unit)
        if not short.allowed.any() or any(never_fits(row, nodes.allocatable) for row in rows):
            return Why("NoNodeFits", self._by_filter(short), change, never=True)
        most = self._seats(unit, rows[0], nodes.allocatable)
        if most is not None and most < unit.shape.size:
            text = f"its {unit.shape.size} pods start together, and even empty nodes have room for {most} of them"
            return Why("NoNodeFits", text + self._in_one_domain(unit), change, never=True)
        around = short.neighbours.mask(but_for=DEVICES_LACKING)  # devices are room: others may give it up
        if around is not None and not (short.allowed & around & placer.fits(short)).any():
            fits = short.allowed & placer.fits(short)
            if fits.any():
                return Why("NoNodeFits", self._by_filter(short), change)
        anywhere = np.logical_or.reduce([row.allowed for row in rows])
        enough = all(
            int(np.maximum(nodes.free[column][anywhere], 0).sum()) >= amount for column, amount in unit.shape.amounts
        )
        if not enough:
            return Why("BehindFairShare", self._behind(unit, short), change, owed=self._owed(unit))
        if lacking is not None:
            text = f"enough is free in all, but no node has it together: {self._by_filter(short)}"
        else:
            text = f"enough is free in all, but not for its {unit.shape.size} pods at once: "
            seats = self._seats(unit, rows[0], nodes.free)
            text += f"{seats} of them fit" if seats is not None else "each of them fits by itself"
            text += self._in_one_domain(unit)
        return Why("Fragmented", text, change)

    def _owed(self, unit: Unit) -> bool:
        """Whether a unit has its guarantees' room to ask for, and may ask; who was evicted just now asks later."""
        engine, state = self.engine, self.state
        if any(map(state.is_spent, unit.pods)) or not engine.brakes.may_claim(unit, state.now):
            return False
        return is_guaranteed(unit.leaf, unit.asks, engine.demand.scope(unit))

    def _seats(self, unit: Unit, row: Row, free: np.ndarray[tuple[int, int], np.dtype[np.int64]]) -> int | None:
        """How many pods of a gang of equal pods fit at once, within one domain if they must; None for all others."""
        if unit.shape.size == 1 or len(unit.shape.parts) > 1 or row.blocks:
            return None
        by_node = slots(free, row.allowed, dict(row.klass.room))
        key = self._one_domain(unit)
        if key is None:
            return int(by_node.sum())
        codes, values = self.state.nodes.label_codes(key)
        return max((int(by_node[codes == domain].sum()) for domain in range(len(values))), default=0)

    def _one_domain(self, unit: Unit) -> str | None:
        """The label in one of whose domains all pods of a unit must be."""
        spec = unit.gang.spec if unit.gang is not None else None
        return spec.topology_key if spec is not None and spec.topology_required else None

    def _in_one_domain(self, unit: Unit) -> str:
        key = self._one_domain(unit)
        return f" within one domain of {key}" if key is not None else ""

    def _by_filter(self, row: Row) -> str:
        """How many nodes each filter refuses; a node counts for the first that does."""
        nodes, placer = self.state.nodes, self.engine.placer
        left: BoolVector = np.ones(len(nodes.ordered), dtype=np.bool_)
        parts: list[str] = []

        def refuse(name: str, passing: BoolVector) -> None:
            nonlocal left
            refused = int((left & ~passing).sum())
            if refused:
                parts.append(f"{refused} {name}")
            left = left & passing

        refuse("are in pools it may not use", placer.in_pools(row.key[2]))
        for name, passing in node_filters(row.klass.spec, nodes):
            refuse(name, passing)
        for name, passing in binding_filters(row.klass, self.state.attachments, nodes):
            refuse(name, passing)
        home = self._home(row)
        if home is not None:
            refuse(f"are not in {_named_home(home)}", home.nodes(nodes))
        if row.klass.spec.devices:
            refuse("do not have the devices that it asks for", self.state.counters.devices.possible(row.klass))
        for column, amount in row.klass.room:
            what = self.state.resources.called(column, row.klass.spec.requests)
            refuse(f"lack {what}" if column != PODS else "are full of pods", nodes.free[column] >= amount)
        for name, passing in row.neighbours.filters():
            refuse(name, passing)
        return f"0 of {len(nodes.ordered)} nodes fit: " + (", ".join(parts) or "there are none")

    def _home(self, row: Row) -> Home | None:
        """Where the pods of a row must stand because their gang does."""
        home = self.state.lineup.home(row.key[1])
        return home if home is not None and home.required else None

    def _behind(self, unit: Unit, row: Row) -> str:
        """What is free, whose turn it is, and by how much."""
        state, measure = self.state, self.state.measure
        names, free = state.resources.names, state.nodes.free
        lacking = []
        for column, amount in unit.asks:
            room = int(np.maximum(free[column][row.allowed], 0).sum())
            if room < amount:
                name = names[column]
                lacking.append(f"{format_units(name, amount)} {name} asked for, {format_units(name, room)} free")
        share, dominant = measure.dominant_share(unit.leaf)
        entitled = self.engine.demand.entitlement()
        home = self._home(row)
        text = (
            (", ".join(lacking) or "the nodes are full of pods")
            + (f" in {_named_home(home)}" if home is not None else "")
        ) + f"; tenant {unit.leaf.shown_name} has {float(share):.1%}"
        if dominant is not None:
            name, right = names[dominant], entitled.whole(unit.leaf, dominant)
            text += f" of all {name}, and is entitled to {format_units(name, right)} {name}"
        rival = ahead_of(state, unit, self.engine.demand.scope)
        if rival is not None:
            text += f"; {self._named(rival)}"
        return text

    def _named(self, rival: Rival) -> str:
        """Who is ahead, and by how much."""
        name, mine = rival.tenant.shown_name, rival.against.shown_name
        if rival.key[0] != rival.own_key[0]:
            return f"{name} is ahead: it is within its guarantee, {mine} is not"
        if rival.key[1] != rival.own_key[1]:
            return f"{name} is ahead: {mine} has weight 0 and is served last"
        theirs = weighted_share(self.state, rival.tenant, rival.key)
        own = weighted_share(self.state, rival.against, rival.own_key)
        return f"{name} is ahead with a weighted share of {float(theirs):.1%}, {mine} has {float(own):.1%}"

    def _change(self, unit: Unit) -> str | None:
        """The smallest reduction of its request that would start the unit now."""
        found = smaller_request(self.state, self.engine.placer, unit)
        return found.by_nodes(self.state.resources.names) if found is not None else None


def _named_home(home: Home) -> str:
    """The domains where a gang stands, in words."""
    return f"the domain of {home.key} where its group runs" if home.domains else f"any domain of {home.key}"
