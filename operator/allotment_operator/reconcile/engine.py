"""One round for one resource: read, plan, execute, report. The same for every kind.

Level-triggered: a round looks at what is, never at what happened, so a lost event costs time and nothing else. A round
that fails says why in the resource's conditions and comes back later; it never stops the rounds of others.

    1. the resource as last seen; gone, or being deleted: nothing to do here
    2. its spec must make sense; if not, say what to change, and wait for the change
    3. paused: leave everything as it is
    4. observe its children, its tenant and the service itself
    5. plan
    6. execute
    7. report
"""

import datetime as dt
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from allotment_api.conditions import Condition, ConditionType, Reason, condition
from allotment_api.errors import InvalidManifestError
from allotment_api.labels import API_VERSION
from allotment_api.resource import Resource as ApiResource
from allotment_kube.client import Client
from allotment_kube.errors import ApiError, DeniedError, RejectedError
from allotment_kube.resources import Resource
from allotment_operator.kind import Key, Kind, ServiceRefusedError, ServiceUnavailableError
from allotment_operator.plans.outcome import Observed, Outcome, TenantView
from allotment_operator.plans.ownership import Owner
from allotment_operator.reconcile.credentials import AuthorityMissingError
from allotment_operator.reconcile.executor import Executor
from allotment_operator.reconcile.observer import Observer
from allotment_operator.reconcile.status import StatusWriter

_logger = logging.getLogger(__name__)

RESYNC_SECONDS = 300.0
"""How often a resource at rest is looked at again; a lost event costs at most this."""
WAITING_SECONDS = 10.0
"""How often one is looked at whose spec or rights somebody else must mend."""


class Tenants(Protocol):
    """Who owns a namespace, as far as is known now."""

    def view(self, namespace: str) -> TenantView | None:
        """Return the tenant of a namespace, None if it belongs to nobody."""


class Audit(Protocol):
    """Takes note of what the operator did, for people and for the record."""

    def record(self, key: Key, *, action: str, outcome: str, message: str) -> None:
        """Note one act."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything outside that the engine talks to."""

    client: Client
    executor: Executor
    observer: Observer
    statuses: StatusWriter
    tenants: Tenants
    clock: Callable[[], dt.datetime]


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

    def saw(self, key: Key, manifest: dict[str, Any] | None) -> None:
        """Take note of a resource as the watch shows it; None when it is gone.

        A round reads what the last round wrote: an event that is older than our own status write is dropped.
        """
        if manifest is None:
            self._live.pop(key, None)
            return
        known = self._live.get(key)
        same = known is not None and known["metadata"]["uid"] == manifest["metadata"]["uid"]
        if not same or _version(manifest) >= _version(self._live[key]):
            self._live[key] = manifest

    def resources(self, kind: str) -> list[dict[str, Any]]:
        """Return every resource of a kind as last seen."""
        return [manifest for key, manifest in self._live.items() if key.kind == kind]

    async def reconcile(self, key: Key) -> float | None:
        """Run one round; return after how many seconds to look again, None if never by itself.

        Raises:
            RetryError, ConflictError, …: what the caller should back off from; the conditions say it already.
        """
        manifest = self._live.get(key)
        if manifest is None or manifest["metadata"].get("deletionTimestamp"):
            return None
        kind = self._kinds[key.kind]
        try:
            resource = kind.model.parse(manifest, strict=False)
        except InvalidManifestError as error:
            await self._report(key, manifest, [self._says(ConditionType.VALID, False, Reason.INVALID_SPEC, str(error))])
            return None
        if resource.spec.paused:  # every kind's spec has the pause switch; tested
            await self._report(key, manifest, [self._says(ConditionType.PAUSED, True, Reason.PAUSED_BY_USER, _PAUSED)])
            return None
        try:
            outcome = await self._round(kind, resource, manifest)
        except (RejectedError, DeniedError, AuthorityMissingError, ServiceRefusedError) as error:
            # Waiting alone will not mend it: somebody must change the spec, a policy or a right.
            await self._report(key, manifest, self._failure(error))
            return WAITING_SECONDS
        except (ApiError, ServiceUnavailableError) as error:
            await self._report(key, manifest, self._failure(error))
            raise
        return outcome.requeue_after if outcome.requeue_after is not None else RESYNC_SECONDS

    async def release(self, key: Key, manifest: dict[str, Any]) -> str | None:
        """Take down what is left of a resource that is being deleted.

        Returns:
            What it still waits for, or None when nothing is left and the finalizer may go.
        """
        kind = self._kinds[key.kind]
        try:
            resource = kind.model.parse(manifest, strict=False)
        except InvalidManifestError:
            # It was never acted upon with this spec, but perhaps with an older one: its labels are all that is needed.
            resource = kind.model.parse({**manifest, "spec": {}}, strict=False)
        observed = await self._observe(kind, resource, manifest)
        outcome = kind.release(resource, observed, now=self._ports.clock())
        if outcome is None:
            return None
        await self._execute(kind, resource, observed, outcome)
        await self._report(key, manifest, outcome.conditions, outcome.status)
        return "; ".join(each.message for each in outcome.conditions) or "its objects are being deleted"

    async def _round(self, kind: Kind[Any], resource: ApiResource, manifest: dict[str, Any]) -> Outcome:
        observed = await self._observe(kind, resource, manifest)
        outcome = kind.plan(resource, observed, now=self._ports.clock())
        await self._execute(kind, resource, observed, outcome)
        key = Key(kind.model.definition.kind, manifest["metadata"].get("namespace", ""), manifest["metadata"]["name"])
        healthy = (
            self._says(ConditionType.VALID, True, Reason.AS_EXPECTED, "The spec is valid."),
            self._says(ConditionType.PAUSED, False, Reason.AS_EXPECTED, "The operator is at work."),
            self._says(ConditionType.DEGRADED, False, Reason.AS_EXPECTED, "Every step of the last round succeeded."),
        )
        await self._report(key, manifest, (*healthy, *outcome.conditions), outcome.status)
        return outcome

    async def _execute(self, kind: Kind[Any], resource: ApiResource, observed: Observed, outcome: Outcome) -> None:
        await self._ports.executor.execute(
            outcome.actions, perform=lambda action: kind.perform(resource, observed, action)
        )

    async def _observe(self, kind: Kind[Any], resource: ApiResource, manifest: dict[str, Any]) -> Observed:
        owner = owner_of(kind, manifest)
        children = await self._ports.observer.children(owner, kind.scope)
        tenant = self._ports.tenants.view(owner.namespace)
        seen = Observed(children=children, tenant=tenant)
        if manifest["metadata"].get("deletionTimestamp"):
            return seen
        return Observed(children=children, tenant=tenant, health=await kind.probe(resource, seen))

    async def _report(
        self,
        key: Key,
        manifest: dict[str, Any],
        conditions: Iterable[Condition],
        fields: Mapping[str, Any] | None = None,
    ) -> None:
        resource = await self._resource(key.kind)
        before = manifest.get("status") or {}
        # What this round did not speak of stays as it was: a failed round must not wipe the last good answer.
        kept = {name: value for name, value in before.items() if name in self._kinds[key.kind].status_fields}
        said = list(conditions)
        types = {each.type for each in said}
        said += [
            Condition.model_validate(entry, extra="ignore")
            for entry in before.get("conditions") or []
            if entry["type"] not in types and entry["type"] in ConditionType
        ]
        fields = {**kept, **(fields or {})}
        written = await self._ports.statuses.write(resource, manifest, conditions=said, fields=fields)
        if written is not None and key in self._live:
            self.saw(key, written)

    async def _resource(self, kind: str) -> Resource[dict[str, Any]]:
        return await self._ports.client.discover(API_VERSION, kind)

    def _failure(self, error: Exception) -> list[Condition]:
        reason = (error.reason if isinstance(error, ApiError) else "") or Reason.ERROR
        return [self._says(ConditionType.DEGRADED, True, reason, str(error))]

    def _says(self, type_: str, status: bool | None, reason: str, message: str) -> Condition:  # noqa: FBT001 - an answer
        return condition(type_, status, reason, message[:32000], now=self._ports.clock())


_PAUSED = "spec.paused is true: the operator changes nothing until it is false again."


def owner_of(kind: Kind[Any], manifest: Mapping[str, Any]) -> Owner:
    """Return the identity that a resource's children carry."""
    metadata = manifest["metadata"]
    return Owner(
        API_VERSION, kind.model.definition.kind, metadata.get("namespace", ""), metadata["name"], metadata["uid"]
    )


def _version(manifest: Mapping[str, Any]) -> int:
    """Resource versions of one kind are ordered integers (KEP-5504)."""
    return int(manifest["metadata"]["resourceVersion"])
