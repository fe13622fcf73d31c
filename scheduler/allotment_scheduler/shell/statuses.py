"""The statuses of Tenants, NodePools and PodGroups: what each has, may have, and waits for.

Written by server-side apply under the scheduler's own field manager, only where something changed, and at most once
per object in `status_seconds`. An object that was made anew under its name has been told nothing. The operator owns the
other fields of a Tenant's status, its conditions Ready and Valid among them; ours is the condition Scheduled, which
says whether the present version of the object is in force.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from itertools import chain, islice
from math import inf
from typing import Any, Final, Protocol

from allotment_api.labels import SCHEDULER_FIELD_MANAGER
from allotment_api.quantities import format_resources
from allotment_kube.errors import ApiError, LeadershipLostError, NotFoundError
from allotment_kube.models import Object
from allotment_kube.resources import Resource
from allotment_scheduler.core.eviction.brakes import HOUR, workload
from allotment_scheduler.core.objects.nodes import Nodes
from allotment_scheduler.core.objects.tenants import OWN, Forest, Tenant
from allotment_scheduler.core.objects.units import Gang, member_of
from allotment_scheduler.core.placement.reservations import OVERDUE
from allotment_scheduler.core.report import tenant_report
from allotment_scheduler.shell.ledger import Phase
from allotment_scheduler.shell.loop import Scheduler
from allotment_scheduler.shell.settings import Settings
from allotment_scheduler.shell.teller import Key
from allotment_scheduler.shell.watches import NODE_POOLS, POD_GROUPS, TENANTS

_logger = logging.getLogger(__name__)
_AT_ONCE: Final = 4
_AT_A_TIME: Final = 256
"""Statuses that are made without a turn for anybody else."""
_DIGITS: Final = 6
_LONGEST: Final = 1000
_MOST_BACKOFFS: Final = 1024
_MOST_HOLDS: Final = 1024
_LAST_SECOND: Final = 253_402_300_799.0
"""The end of the year 9999."""
_AT_REST: Final = frozenset({"Running", "Finished"})
"""Phases of groups that wait for nothing."""
_Wanted = tuple[Resource[Any], Key, Callable[[], Object]]
"""An object, and what makes its status at that moment."""
_Due = tuple[Resource[Any], Key, Object]
"""An object, and its status."""


class ApplyingClient(Protocol):
    """What is needed of a client."""

    async def apply(
        self,
        resource: Resource[Any],
        body: Object,
        *,
        manager: str,
        force: bool = False,
        namespace: str = "",
        subresource: str = "",
        dry_run: bool = False,
    ) -> Any:  # noqa: ANN401 - the applied object, which nobody reads
        """Server-side apply."""


class Statuses:
    """Keeps the statuses up to date.

    Args:
        scheduler: whose state is told.
        settings: asked each time, because they change.
        now: seconds since the epoch.
        publish: given every tenant's report, for metrics.
        failed: told of every status that could not be made, which is a fault of ours.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        settings: Callable[[], Settings],
        *,
        now: Callable[[], float],
        publish: Callable[[list[dict[str, Any]]], None],
        failed: Callable[[], None] = lambda: None,
    ) -> None:
        self._scheduler = scheduler
        self._settings = settings
        self._now = now
        self._publish = publish
        self._failed = failed
        self._reports: list[dict[str, Any]] = []
        self._written: dict[tuple[str, Key], Object] = {}
        self._flipped: dict[tuple[str, Key], dict[str, tuple[str, str]]] = {}
        self._uids: dict[tuple[str, Key], str] = {}
        """Which object of its name each of these is about."""
        self._laid_out: tuple[Nodes | None, int] = (None, 0)
        """Of which layout of nodes `_shared` is true."""
        self._shared: dict[str, set[str]] = {}

    async def run(self, client: ApplyingClient) -> None:
        """Write until cancelled."""
        while True:
            await asyncio.sleep(self._settings().status_seconds)
            slots, due = asyncio.Semaphore(_AT_ONCE), list[_Due]()
            for batch in self.batches():
                due += batch
                await asyncio.sleep(0)
            await asyncio.gather(*(self._write(client, slots, *each) for each in due))

    def due(self) -> list[_Due]:
        """Statuses that differ from what was written last."""
        return [each for batch in self.batches() for each in batch]

    def batches(self) -> Iterator[list[_Due]]:
        """The same, of some objects at a time: the state may change from one batch to the next."""
        wanted = chain(self._tenants(), self._pools(), self._groups())
        alive: set[tuple[str, Key]] = set()
        self._scheduler.state.settle()
        while batch := list(islice(wanted, _AT_A_TIME)):
            alive.update((resource.kind, key) for resource, key, _ in batch)
            yield self._due_among(batch)
            self._scheduler.state.settle()
        for gone in [known for known in self._uids if known not in alive]:
            self._forget(gone)
        self._publish(self._reports)

    def _due_among(self, batch: list[_Wanted]) -> list[_Due]:
        """Statuses to be written. One that cannot be made keeps no other from being told."""
        found: list[_Due] = []
        for resource, key, make in batch:
            self._begin_anew((resource.kind, key))
            try:
                status = make()
            except Exception:
                self._failed()
                _logger.exception("the status of %s %s cannot be made", resource.kind, "/".join(key).strip("/"))
                continue
            if self._written.get((resource.kind, key)) != status:
                found.append((resource, key, status))
        return found

    def _begin_anew(self, known: tuple[str, Key]) -> None:
        """What was told of another object of this name says nothing of this one."""
        uid = self._scheduler.picture.uids.get(known, "")
        if self._uids.get(known) != uid:
            self._forget(known)
            self._uids[known] = uid

    def _forget(self, known: tuple[str, Key]) -> None:
        for index in (self._written, self._flipped, self._uids):
            index.pop(known, None)

    async def _write(
        self, client: ApplyingClient, slots: asyncio.Semaphore, resource: Resource[Any], key: Key, status: Object
    ) -> None:
        metadata = {"name": key[1], **({"namespace": key[0]} if key[0] else {})}
        # A mapping that has become empty is left out: applied as {}, where it had entries, it is merged to null, and
        # the whole status is refused. Left out, it goes with its entries.
        said = {name: value for name, value in status.items() if value != {}}
        try:
            async with slots:
                await client.apply(
                    resource,
                    {"metadata": metadata, "status": said},
                    manager=SCHEDULER_FIELD_MANAGER,
                    force=True,
                    subresource="status",
                )
        except NotFoundError:
            return
        except LeadershipLostError:
            raise
        except ApiError as error:
            _logger.warning("the status of %s %s cannot be written: %s", resource.kind, "/".join(key).strip("/"), error)
            return
        self._written[resource.kind, key] = status

    # --- tenants ------------------------------------------------------------------------------------------------

    def _tenants(self) -> Iterator[_Wanted]:
        scheduler = self._scheduler
        pending: dict[str, int] = {}
        for pod in scheduler.state.waiting():
            for above in pod.leaf.path if pod.leaf else ():
                pending[above.name] = pending.get(above.name, 0) + 1
        backoffs = self._backoffs()
        self._reports = []
        for name in [*scheduler.state.tenant_specs]:
            yield TENANTS, ("", name), partial(self._tenant_status, name, pending.get(name, 0), backoffs.get(name, []))
        for kind, key in [*scheduler.picture.problems]:
            if kind == "Tenant" and key[1] not in scheduler.state.tenant_specs:
                yield TENANTS, key, partial(self._refused, "Tenant", key)

    def _tenant_status(self, name: str, pending: int, backoffs: list[Object]) -> Object:
        forest, key = self._scheduler.state.forest, ("", name)
        tenant = forest.by_name.get(name)
        status: Object = {"conditions": [self._in_force("Tenant", key, _problems(forest, name))]}
        if tenant is None or name.endswith(OWN):
            return status
        report = tenant_report(self._scheduler.engine, tenant, pending)
        self._reports.append(report)
        return status | self._tenant(tenant, report) | self._evictions(tenant, backoffs)

    def _refused(self, kind: str, key: Key) -> Object:
        """The status of an object that was never in force."""
        return {"conditions": [self._in_force(kind, key, "")]}

    def _tenant(self, tenant: Tenant, report: Mapping[str, Any]) -> Object:
        state = self._scheduler.state
        measure, names = state.measure, state.resources.names
        shares = {
            names[column]: _rounded(measure.weighed(tenant, column) * measure.scale[column] / measure.denominator)
            for column in measure.columns
            if tenant.used[column]
        }
        status: Object = {
            "usage": format_resources({name: amount for name, amount in report["used"].items() if amount}),
            "entitlement": format_resources({name: int(amount) for name, amount in report["entitlement"].items()}),
            "shares": shares,
            "dominantShare": _rounded(report["dominantShare"]),
            "running": tenant.running,
            "pending": report["pending"],
        }
        if report["dominantResource"] is not None:
            status["dominantResource"] = report["dominantResource"]
        if report["weightedShare"] is not None:
            status["weightedShare"] = _rounded(report["weightedShare"])
        return status

    def _evictions(self, tenant: Tenant, backoffs: list[Object]) -> Object:
        """The tenant's eviction budget and back-offs, for a new leader to go on from."""
        found: Object = {}
        window = self._scheduler.engine.brakes.windows.get(tenant.name)
        if window is not None and self._now() - window.start < HOUR:
            found |= {"windowStart": stamp(window.start), "used": window.used}
        if backoffs:
            found["backoff"] = backoffs[:_MOST_BACKOFFS]
        return {"evictions": found} if found else {}

    def _backoffs(self) -> dict[str, list[Object]]:
        """The back-offs of evicted workloads, by the tenant whose they are; in one look at all pods."""
        kept = self._scheduler.engine.brakes.backoffs
        owners: dict[str, str] = {}
        for pod in self._scheduler.state.pods.values() if kept else ():
            if pod.leaf is not None and (name := workload(pod)) in kept:
                owners[name] = pod.leaf.shown_name
        found: dict[str, list[Object]] = {}
        for name, each in sorted(kept.items()):
            if name in owners:
                record = {"workload": name, "evictions": each.evictions, "until": stamp(each.until)}
                found.setdefault(owners[name], []).append(record)
        return found

    # --- node pools ---------------------------------------------------------------------------------------------

    def _pools(self) -> Iterator[_Wanted]:
        overlaps = self._overlaps()
        for name in [*self._scheduler.state.nodes.pools]:
            yield NODE_POOLS, ("", name), partial(self._pool_status, name, overlaps.get(name, set()))
        for kind, key in [*self._scheduler.picture.problems]:
            if kind == "NodePool" and key[1] not in self._scheduler.state.nodes.pools:
                yield NODE_POOLS, key, partial(self._refused, "NodePool", key)

    def _overlaps(self) -> dict[str, set[str]]:
        """Pools that select nodes which others select, too, with those others; looked at when the layout changes."""
        nodes = self._scheduler.state.nodes
        if self._laid_out != (nodes, nodes.layout_version):
            overlaps: dict[str, set[str]] = {}
            for node in nodes.ordered:
                selecting = [name for name, spec in nodes.pools.items() if spec.selector.matches(node.spec.labels)]
                for name in selecting if len(selecting) > 1 else ():
                    overlaps.setdefault(name, set()).update(other for other in selecting if other != name)
            self._laid_out, self._shared = (nodes, nodes.layout_version), overlaps
        return self._shared

    def _pool_status(self, name: str, both: set[str]) -> Object:
        state, key = self._scheduler.state, ("", name)
        members = state.nodes.members(name)
        usable = [node.index for node in members if node.usable]
        allocatable = state.nodes.allocatable[:, usable].sum(axis=1)
        taken = allocatable - state.nodes.free[:, usable].sum(axis=1)
        amounts, usage = (state.resources.by_name(each.tolist()) for each in (allocatable, taken))
        ready = "no node of the pool is ready" if not usable else ""
        shared = f"it shares nodes with {', '.join(sorted(both))}: the first by name has them" if both else ""
        overlap = "SharedNodes" if both else "AsExpected"
        return {
            "observedGeneration": self._scheduler.picture.generations.get(("NodePool", key), 0),
            "nodes": len(members),
            "readyNodes": len(usable),
            "allocatable": format_resources(amounts),
            "usage": format_resources({it: amount for it, amount in usage.items() if amount > 0}),
            "conditions": [
                self._condition("NodePool", key, "Ready", good=bool(usable), reason="NodesReady", but=ready),
                self._condition("NodePool", key, "Overlapping", good=bool(both), reason=overlap, but=shared),
                self._in_force("NodePool", key, ""),
            ],
        }

    # --- pod groups ---------------------------------------------------------------------------------------------

    def _groups(self) -> Iterator[_Wanted]:
        picture = self._scheduler.picture
        known = list(picture.known("PodGroup"))
        for key in known:
            gang = self._scheduler.state.gangs.get(key)
            if gang is not None and gang.spec is not None:
                yield POD_GROUPS, key, partial(self._group_status, key, gang)
        for kind, key in [*picture.problems]:
            if kind == "PodGroup" and key not in known:
                yield POD_GROUPS, key, partial(self._refused, "PodGroup", key)

    def _group_status(self, key: Key, gang: Gang) -> Object:
        phase, message = self._phase(gang)
        wrong = ("PodGroup", key) in self._scheduler.picture.problems
        runs = phase in _AT_REST
        status: Object = {
            "observedGeneration": self._scheduler.picture.generations["PodGroup", key],
            "phase": phase,
            "members": len(gang.members),
            "running": gang.running,
            "finished": max(gang.succeeded, len(gang.finished)),
            "conditions": [
                self._in_force("PodGroup", key, "")
                if wrong
                else self._condition("PodGroup", key, "Scheduled", good=runs, reason=phase, but=message)
            ],
        }
        if message:
            status["message"] = message[:_LONGEST]
        reservation = self._reservation(gang)
        if reservation:
            status["reservation"] = reservation
        bounded = self._bounded(gang)
        if bounded:
            status["conditions"].append(
                self._condition("PodGroup", key, "PriorityBounded", good=True, reason="AboveCeiling", but=bounded)
            )
        return status

    def _reservation(self, gang: Gang) -> Object:
        """Room held for the group: for members that are announced, and for those that wait for victims to go."""
        held = Counter((member_of(room), room.node) for room in gang.phantoms)
        until = gang.held_since + (gang.spec.expected_timeout if gang.spec is not None else 0.0)
        ledger = self._scheduler.ledger
        for key in gang.members:
            start = ledger.starts.get(key)
            if start is None or start.phase is not Phase.WAITING:
                continue
            held["pod", start.node] += 1
            deadline = ledger.undertakings[start.unit].deadline
            until = max(until, deadline or start.since)
        if not held:
            return {}
        holds = [{"member": member, "node": node, "count": count} for (member, node), count in sorted(held.items())]
        return {"until": stamp(until), "holds": holds[:_MOST_HOLDS]}

    def _awaited(self, gang: Gang) -> str:
        """The nodes reserved for a group that fits nowhere yet, and when it will."""
        by_unit = self._scheduler.engine.reservations.by_unit
        found = next((by_unit[key] for key in gang.members if key in by_unit), None)
        if found is None:
            return ""
        if found.eta <= self._scheduler.state.now:
            when = OVERDUE
        else:
            when = f"it fits at {stamp(found.eta)} at the latest" if found.eta < inf else "when it fits is not known"
        return f"; {found.words} for it; {when}"

    def _bounded(self, gang: Gang) -> str:
        """Whether the tenant's bound on priorities takes something off the group's; in words."""
        leaf = self._scheduler.state.forest.leaf_of_namespace.get(gang.key[0])
        asked = gang.spec.priority if gang.spec is not None else None
        if leaf is None or asked is None or asked <= leaf.highest_priority:
            return ""
        most = leaf.highest_priority
        return (
            f"its priority class says {asked}, tenant {leaf.shown_name} may use up to {most}: it is served with {most}"
        )

    def _phase(self, gang: Gang) -> tuple[str, str]:
        held = len(gang.phantoms)
        there = [pod for pod in gang.members.values() if not pod.spec.deleting]
        bound = sum(pod.spec.node is not None for pod in there)
        done = 0 if gang.members else max(gang.succeeded, len(gang.finished))
        if gang.spec is not None and done >= gang.spec.min_member:
            return "Finished", ""
        if bound >= gang.min_member:
            return "Running", ""
        if gang.running + held >= gang.min_member:
            if held:
                return "Reserved", f"room is held for {held} members that have not come yet"
            return "Starting", f"{bound} of {gang.min_member} members are bound"
        if bound:
            return "Degraded", f"{bound} of {gang.min_member} members run; the rest is being brought back"
        missing = gang.min_member - len(there)
        if missing > 0:
            return "Pending", f"{missing} of {gang.min_member} members are still to be created"
        return "Pending", f"{gang.min_member} members wait for room to run at once{self._awaited(gang)}"

    # --- conditions ---------------------------------------------------------------------------------------------

    def _in_force(self, kind: str, key: Key, problem: str) -> Object:
        """Whether the object's present version is what the scheduler goes by, and which version that is said of."""
        picture = self._scheduler.picture
        found, generation, said = picture.problems.get((kind, key)), picture.generations.get((kind, key)), problem
        if found is not None:
            kept = f"generation {generation} stays in force" if generation is not None else "it is not in force"
            said, generation = f"{found.message}; {kept}", found.generation or generation
        condition = self._condition(kind, key, "Scheduled", good=not said, reason="AsExpected", but=said)
        return condition | ({"observedGeneration": generation} if generation else {})

    def _condition(self, kind: str, key: Key, type_: str, *, good: bool, reason: str, but: str) -> Object:
        status = "True" if good else "False"
        word = reason if good or type_ == "Overlapping" else ("NoNodes" if type_ == "Ready" else "InvalidSpec")
        if kind == "PodGroup" and not good and (kind, key) not in self._scheduler.picture.problems:
            word = "Waiting"
        return {
            "type": type_,
            "status": status,
            "reason": word,
            "message": but[:_LONGEST],
            "lastTransitionTime": self._since(kind, key, type_, status),
        }

    def _since(self, kind: str, key: Key, type_: str, status: str) -> str:
        """Since when a condition says what it says: a former leader may have written it."""
        flipped = self._flipped.setdefault((kind, key), {})
        before = flipped.get(type_) or self._scheduler.picture.conditions.get((kind, key), {}).get(type_)
        if before is None or before[0] != status or not before[1]:
            before = (status, stamp(self._now()))
        flipped[type_] = before
        return before[1]


def _problems(forest: Forest, tenant: str) -> str:
    """Why a tenant is not in force, or what of it is not."""
    whole = forest.problems.get(tenant)
    if whole is not None:
        return whole
    return "; ".join(text for name, text in forest.problems.items() if name.startswith(f"{tenant}:"))


def stamp(seconds: float) -> str:
    """A time as the API writes it; one that no calendar has becomes the last that it has."""
    return datetime.fromtimestamp(int(min(max(seconds, 0.0), _LAST_SECOND)), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _rounded(share: float) -> float:
    return round(share, _DIGITS)
