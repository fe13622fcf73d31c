"""One round for one resource: read, plan, execute, report. The same for every kind.

Level-triggered: a round looks at what is, never at what happened, so a lost event costs time and nothing else. A round
that fails says why in the resource's conditions and comes back later; it never stops the rounds of others.

    1. the resource as it is now; gone, or being deleted: nothing to do here
    2. its spec must make sense; if not, say what to change, and wait for the change
    3. paused: leave everything as it is
    4. observe its children, its tenant and the service itself
    5. plan
    6. execute: the actions in order, then the lanes beside one another
    7. report
"""

import asyncio
import datetime as dt
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol
from weakref import WeakValueDictionary

from allotment_api.conditions import Condition, ConditionType, Reason, condition
from allotment_api.errors import InvalidManifestError
from allotment_api.labels import API_VERSION
from allotment_api.resource import Resource as ApiResource
from allotment_kube.client import Client
from allotment_kube.errors import ApiError, DeniedError, ForbiddenError, KubernetesError, NotFoundError, RejectedError
from allotment_kube.resources import NAMESPACES
from allotment_operator.events import transitions
from allotment_operator.kind import Key, Kind, Laned, Scattered, ServiceRefusedError, ServiceUnavailableError
from allotment_operator.plans.actions import Action, Manifest, ObjectRef
from allotment_operator.plans.outcome import Observed, Outcome, TenantView
from allotment_operator.plans.ownership import Owner, strangers
from allotment_operator.plans.release import all_claims, release
from allotment_operator.reconcile.asking import ask, in_time
from allotment_operator.reconcile.credentials import AuthorityMissingError
from allotment_operator.reconcile.degraded import SUCCEEDED, failed_round, has_served, in_words, partly_failed, whole
from allotment_operator.reconcile.executor import Executor
from allotment_operator.reconcile.lanes import side_by_side
from allotment_operator.reconcile.observer import Observer
from allotment_operator.reconcile.status import StatusWriter, foreign_conditions

_logger = logging.getLogger(__name__)

RESYNC_SECONDS = 300.0
"""How often a resource at rest is looked at again; a lost event costs at most this."""
PROBE_SECONDS = 60.0
"""How often a service is asked for its health."""
WAITING_SECONDS = 10.0
"""How often one is looked at whose spec or rights somebody else must mend."""


class Tenants(Protocol):
    """Who owns a namespace, as far as is known now."""

    def view(self, namespace: str) -> TenantView | None:
        """Return the tenant of a namespace, None if it belongs to nobody."""


class Allowances(Protocol):
    """How many services a tenant may have."""

    def excess(self, kind: str, namespace: str, name: str) -> str:
        """Say why a service is one too many; empty if it is not."""


class Events(Protocol):
    """Tells people about an object."""

    def note(self, about: Mapping[str, Any], *, reason: str, message: str, severity: Any) -> bool:  # noqa: ANN401 - Normal or Warning
        """Say something about an object."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything outside that the engine talks to."""

    client: Client
    executor: Executor
    observer: Observer
    statuses: StatusWriter
    tenants: Tenants
    clock: Callable[[], dt.datetime]
    events: Events | None = None
    allowances: Allowances | None = None
    resync_seconds: float = RESYNC_SECONDS
    probe_seconds: float = PROBE_SECONDS
    finalizer: str = ""
    """Without it a resource is not acted upon: it could vanish and leave behind what the round made. Empty: act."""


class Engine:
    """Runs rounds for all kinds.

    Args:
        kinds: by the name of the kind.
        ports: the world.
    """

    def __init__(self, kinds: Mapping[str, Kind[Any]], ports: Ports) -> None:
        self._kinds = kinds
        self._ports = ports
        self._live: dict[Key, dict[str, Any]] = {}
        self.turnover = 0
        """How often a resource has come or gone, by whichever way it was learned."""
        self._locks: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()

    def saw(self, key: Key, manifest: dict[str, Any] | None) -> None:
        """Take note of a resource as a watch, a list or our own write shows it; None when it is gone.

        What is older than what is known is dropped: an event may be behind the last read.
        """
        if manifest is None:
            self.turnover += self._live.pop(key, None) is not None
            return
        known = self._live.get(key)
        another = known is None or known["metadata"]["uid"] != manifest["metadata"]["uid"]
        self.turnover += another
        if known is None or another or _version(manifest) >= _version(known):
            self._live[key] = manifest

    def resources(self, kind: str, namespace: str = "") -> list[dict[str, Any]]:
        """Return every resource of a kind as last seen, of one namespace where given."""
        return [
            manifest
            for key, manifest in self._live.items()
            if key.kind == kind and (not namespace or key.namespace == namespace)
        ]

    def known(self, kind: str = "", *, namespace: str = "") -> list[Key]:
        """Return the keys of the resources last seen, of one kind and namespace where given."""
        return [
            key
            for key in self._live
            if (not kind or key.kind == kind) and (not namespace or key.namespace == namespace)
        ]

    def knows(self, key: Key) -> bool:
        """Say whether a resource has been seen and is not known to be gone."""
        return key in self._live

    def tenant_of(self, key: Key) -> str:
        """Return the tenant of a resource, for logs; empty if there is none."""
        view = self._ports.tenants.view(key.namespace) if key.namespace else None
        return view.name if view else ""

    async def reconcile(self, key: Key) -> float | None:
        """Run one round; return after how many seconds to look again, None if never by itself.

        Raises:
            RetryError, ConflictError, …: what the caller should back off from; the conditions say it already.
        """
        async with self._alone(key):
            return await self._reconcile(key)

    async def _reconcile(self, key: Key) -> float | None:
        kind = self._kinds[key.kind]
        manifest = await self._read(key)
        if manifest is None or manifest["metadata"].get("deletionTimestamp"):
            return None
        if self._ports.finalizer and self._ports.finalizer not in (manifest["metadata"].get("finalizers") or ()):
            return None  # the event that brings it brings the key back
        try:
            resource = kind.model.parse(manifest, strict=False)
        except InvalidManifestError as error:
            await self._report(key, manifest, self._invalid(manifest, str(error)))
            return None
        if resource.spec.paused:  # every kind's spec has the pause switch; tested
            await self._report(key, manifest, [self._says(ConditionType.PAUSED, True, Reason.PAUSED_BY_USER, _PAUSED)])
            return None
        try:
            return await self._round(key, kind, resource, manifest)
        except (RejectedError, DeniedError, AuthorityMissingError, ServiceRefusedError) as error:
            # Waiting alone will not mend it: somebody must change the spec, a policy or a right.
            await self._report(key, manifest, self._failure(manifest, error))
            return WAITING_SECONDS
        except (ApiError, ServiceUnavailableError) as error:
            await self._report(key, manifest, self._failure(manifest, error))
            raise
        except KubernetesError:
            raise  # the Lease is lost, or the configuration: nothing of this resource
        except Exception as error:
            # A bug in one kind must show on its own resources, and nowhere else.
            text = f"{type(error).__name__}: {error}; this is a fault of the operator, see its log"
            await self._report(key, manifest, [failed_round(manifest, Reason.ERROR, text, now=self._ports.clock())])
            raise

    async def release(self, key: Key) -> str | None:
        """Take down what is left of a resource that is being deleted.

        Returns:
            What it still waits for, or None when nothing is left and the finalizer may go.
        """
        async with self._alone(key):
            return await self._release(key)

    async def _release(self, key: Key) -> str | None:
        kind = self._kinds[key.kind]
        manifest = await self._read(key)
        if manifest is None:
            return None
        resource = _readable(kind, manifest)
        if resource is None:
            # Nothing of it can be read, but its children carry its name, and what holds data stays.
            observed = _told_apart(
                Owner.read(kind.model.definition.kind, manifest), await self._children_of_deleted(kind, manifest)
            )
            outcome = release(observed, retain=all_claims(observed), now=self._ports.clock())
        else:
            observed = await self._observe(kind, resource, manifest)
            outcome = kind.release(resource, observed, now=self._ports.clock())
        if outcome is None:
            return None
        outcome, failures = await self._execute(outcome, key, kind, resource, seen=(manifest, observed))
        # Kinds share what is said of a deletion, and not every kind's status has all of it.
        fields = {name: value for name, value in outcome.status.items() if name in kind.status_fields}
        failed = partly_failed(failures, of=len(outcome.lanes), now=self._ports.clock())
        said = (*outcome.conditions, failed) if failed else outcome.conditions
        await self._report(key, manifest, said, fields)
        return "; ".join(each.message for each in said) or "its objects are being deleted"

    def _alone(self, key: Key) -> asyncio.Lock:
        """Return the lock of a key: a round still under way must not make again what a release takes down."""
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        return lock

    async def _read(self, key: Key) -> dict[str, Any] | None:
        """Read the resource from the API server: the watch may be behind, and a plan acts on what it is given."""
        try:
            resource = await self._ports.client.discover(API_VERSION, key.kind)
        except NotFoundError:
            self.saw(key, None)  # its definition is gone, and every resource with it
            return None
        found = await self._ports.client.find(resource, key.name, namespace=key.namespace)
        manifest = None if found is None else {"apiVersion": API_VERSION, "kind": key.kind, **found}
        self.saw(key, manifest)
        return manifest

    async def _round(self, key: Key, kind: Kind[Any], resource: ApiResource, manifest: dict[str, Any]) -> float:
        tenant = self._ports.tenants.view(key.namespace) if key.namespace else None
        if tenant is not None and tenant.frozen:
            text = f"Nothing is changed while {tenant.frozen}"
            await self._report(key, manifest, [failed_round(manifest, "TenantUnknown", text, now=self._ports.clock())])
            return WAITING_SECONDS
        observed = await self._observe(kind, resource, manifest)
        if too_many := self._excess(key, manifest, observed):
            await self._report(key, manifest, too_many)
            return self._ports.resync_seconds
        outcome = kind.plan(resource, observed, now=self._ports.clock())
        outcome, failures = await self._execute(outcome, key, kind, resource, seen=(manifest, observed))
        said = {
            each.type: each
            for each in (
                self._says(ConditionType.VALID, True, Reason.AS_EXPECTED, "The spec is valid."),
                self._says(ConditionType.PAUSED, False, Reason.AS_EXPECTED, "The operator is at work."),
                self._says(ConditionType.DEGRADED, False, Reason.AS_EXPECTED, SUCCEEDED),
                *self._no_excess_any_more(manifest),
                *outcome.conditions,  # a plan's own word wins
            )
        }
        said[ConditionType.DEGRADED] = whole(
            said[ConditionType.DEGRADED], observed, failures, of=len(outcome.lanes), now=self._ports.clock()
        )
        await self._report(key, manifest, said.values(), outcome.status)
        if failures and outcome.retry_after is not None:
            return outcome.retry_after
        if failures and len(failures) == len(outcome.lanes):
            return max(WAITING_SECONDS, outcome.requeue_after or 0.0)  # what fails for all is no single lane's fault
        if outcome.requeue_after is not None:
            return outcome.requeue_after
        return self._ports.probe_seconds if observed.health is not None else self._ports.resync_seconds

    def _excess(self, key: Key, manifest: Manifest, observed: Observed) -> list[Condition]:
        """Return what to say of a service that its tenant may not have; nothing if it may, or if it runs already."""
        if self._ports.allowances is None or _was_let_in(manifest, observed):
            return []
        reason = self._ports.allowances.excess(key.kind, key.namespace, key.name)
        if not reason:
            return []
        return [
            self._says(ConditionType.QUOTA_EXCEEDED, True, ConditionType.QUOTA_EXCEEDED, reason),
            self._says(ConditionType.READY, False, ConditionType.QUOTA_EXCEEDED, reason),
        ]

    async def _execute(
        self,
        outcome: Outcome,
        key: Key,
        kind: Kind[Any],
        resource: ApiResource | None,
        *,
        seen: tuple[Manifest, Observed],
    ) -> tuple[Outcome, dict[str, str]]:
        """Carry out an outcome; return it as it is to be reported, and what went wrong in which of its lanes."""
        manifest, observed = seen

        async def run(actions: Iterable[Action]) -> None:
            await self._ports.executor.execute(
                actions,
                perform=lambda action: in_time(kind.perform(resource, observed, action)),
                observed=observed.children,
                on_behalf_of=(key, manifest),
            )

        await run(outcome.actions)
        failed = await side_by_side(outcome.lanes, run)
        failures = {name: in_words(error) for name, error in failed.items()}
        if failures and isinstance(kind, Laned):
            outcome = kind.note_failures(resource, outcome, failures)
        return outcome, failures

    async def _observe(self, kind: Kind[Any], resource: ApiResource, manifest: dict[str, Any]) -> Observed:
        owner = Owner.read(kind.model.definition.kind, manifest)
        tenant = self._ports.tenants.view(owner.namespace) if owner.namespace else None
        deleted = bool(manifest["metadata"].get("deletionTimestamp"))
        if owner.namespace and tenant is None and not deleted:
            return Observed()  # nobody's namespace: we have no rights there, and the plan says so
        if isinstance(kind, Scattered):
            children = await self._ports.observer.scattered(
                owner,
                kind.scope,
                names=kind.namespaces(resource),
                labels=kind.namespace_labels(resource),
                deleted=deleted,
            )
            seen = Observed(children=children, tenant=tenant)
        elif deleted:
            seen = replace(_told_apart(owner, await self._children_of_deleted(kind, manifest)), tenant=tenant)
        else:
            seen = replace(_told_apart(owner, await self._ports.observer.children(owner, kind.scope)), tenant=tenant)
        if deleted:
            return seen
        health = await ask(lambda: kind.probe(resource, seen), served=_is_ready(manifest))
        return replace(seen, health=health)

    async def _children_of_deleted(self, kind: Kind[Any], manifest: Manifest) -> dict[ObjectRef, dict[str, Any]]:
        """Return what is left of a resource that is being deleted.

        In a namespace that is going, or is no tenant's, our rights are gone or never were: what may not be seen there
        goes by the namespace's own deletion, or by its owner references.
        """
        owner = Owner.read(kind.model.definition.kind, manifest)
        try:
            return await self._ports.observer.children(owner, kind.scope)
        except ForbiddenError:
            namespace = await self._ports.client.find(NAMESPACES.untyped, owner.namespace)
            going = namespace is None or bool(namespace["metadata"].get("deletionTimestamp"))
            if not going and self._ports.tenants.view(owner.namespace) is not None:
                raise
            return await self._ports.observer.children(owner, kind.scope, as_far_as_allowed=True)

    async def _report(
        self,
        key: Key,
        manifest: dict[str, Any],
        conditions: Iterable[Condition],
        fields: Mapping[str, Any] | None = None,
    ) -> None:
        resource = await self._ports.client.discover(API_VERSION, key.kind)
        before = manifest.get("status") or {}
        # What this round did not speak of stays as it was: a failed round must not wipe the last good answer.
        kept = {name: value for name, value in before.items() if name in self._kinds[key.kind].status_fields}
        said = list(conditions)
        types = {each.type for each in said}
        others = foreign_conditions(manifest)  # the scheduler speaks about the same Tenants
        kept_conditions = [
            Condition.model_validate(entry, extra="ignore")
            for entry in before.get("conditions") or []
            if entry["type"] not in types | others and entry["type"] in _OUR_CONDITIONS
        ]
        written = await self._ports.statuses.write(
            resource, manifest, conditions=[*said, *kept_conditions], fields={**kept, **(fields or {})}
        )
        if written is None:
            return
        if key in self._live:
            self.saw(key, {"apiVersion": API_VERSION, "kind": key.kind, **written})
        if self._ports.events is not None:
            for each, severity in transitions(before.get("conditions") or (), said):
                text = f"{each.type} is {each.status}: {each.message}"
                self._ports.events.note(manifest, reason=each.reason, message=text, severity=severity)

    def _no_excess_any_more(self, manifest: Manifest) -> list[Condition]:
        said = (manifest.get("status") or {}).get("conditions") or ()
        if not any(each["type"] == ConditionType.QUOTA_EXCEEDED for each in said):
            return []
        text = "Its tenant may have it."
        return [self._says(ConditionType.QUOTA_EXCEEDED, False, Reason.AS_EXPECTED, text)]

    def _invalid(self, manifest: Manifest, text: str) -> list[Condition]:
        said = [self._says(ConditionType.VALID, False, Reason.INVALID_SPEC, text)]
        known = {entry["type"] for entry in (manifest.get("status") or {}).get("conditions") or ()}
        if ConditionType.READY not in known:
            # What already runs goes on running and keeps its own answer; what never ran is not ready.
            said.append(self._says(ConditionType.READY, False, Reason.INVALID_SPEC, "See the condition Valid."))
        return said

    def _failure(self, manifest: Manifest, error: Exception) -> list[Condition]:
        reason = (error.reason if isinstance(error, ApiError) else "") or Reason.ERROR
        return [failed_round(manifest, reason, str(error), now=self._ports.clock())]

    def _says(self, type_: str, status: bool | None, reason: str, message: str) -> Condition:  # noqa: FBT001 - an answer
        return condition(type_, status, reason, message[:32000], now=self._ports.clock())


_OUR_CONDITIONS = frozenset(each.value for each in ConditionType)
_NEVER_BEGUN = frozenset({ConditionType.QUOTA_EXCEEDED.value, Reason.INVALID_SPEC.value})
"""Reasons of Ready=False that rounds give which end before anything is made."""
_PAUSED = "spec.paused is true: the operator changes nothing until it is false again."


def _told_apart(owner: Owner, found: Mapping[ObjectRef, Manifest]) -> Observed:
    """Return what was found by an owner's labels, its own children apart from what only wears them."""
    foreign = strangers(owner, found)
    return Observed({ref: each for ref, each in found.items() if ref not in foreign}, strangers=foreign)


def _was_let_in(manifest: Manifest, observed: Observed) -> bool:
    """Say whether a service was begun when it was within its tenant's count: that holds, whatever the count becomes.

    What it says of itself decides. Children alone prove nothing: volumes outlive a service, and a tenant's members can
    make objects that pass for its children.
    """
    ready = _ready(manifest)
    if ready is None:
        return False
    if ready["status"] == "True" or has_served(manifest):
        return True
    return bool(observed.children) and ready["reason"] not in _NEVER_BEGUN


def _is_ready(manifest: Manifest) -> bool:
    ready = _ready(manifest)
    return ready is not None and ready["status"] == "True"


def _ready(manifest: Manifest) -> Mapping[str, Any] | None:
    """Return what the last round said of Ready."""
    said = (manifest.get("status") or {}).get("conditions") or ()
    return next((each for each in said if each["type"] == ConditionType.READY), None)


def _version(manifest: Mapping[str, Any]) -> int:
    """Resource versions of one kind are ordered integers (KEP-5504)."""
    return int(manifest["metadata"]["resourceVersion"])


def _readable(kind: Kind[Any], manifest: Mapping[str, Any]) -> Any:  # noqa: ANN401 - the kind's own model, or None
    """Read as much of a resource as can be read: a spec that is refused today may have been acted upon yesterday."""
    bare = {name: value for name, value in manifest.items() if name != "status"}
    for attempt in (manifest, bare, {**bare, "spec": {}}):
        try:
            return kind.model.parse(attempt, strict=False)
        except InvalidManifestError:
            continue
    return None
