"""Carries out a plan's actions, in order, each by one or two idempotent requests.

It decides nothing: what exists and is as wanted costs at most one request and changes nothing. The first failure ends
the round and is raised as it came; its class says what the engine does next (`allotment_kube.errors`).

What was applied last, and the version that came of it, is remembered: if neither the wish nor the object has changed
since, no request is sent. That memory is a saving only; a restarted operator sends everything once.
"""

import datetime as dt
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, Protocol

import msgspec

from allotment_api.labels import INSTANCE_LABEL, KIND_LABEL, OPERATOR_FIELD_MANAGER
from allotment_kube.client import Client
from allotment_kube.errors import ConflictError, NotFoundError
from allotment_kube.resources import SECRETS, Resource
from allotment_operator.kind import Key, ServiceRefusedError
from allotment_operator.plans.actions import (
    Action,
    Apply,
    Delete,
    EnsureAuthority,
    EnsureCertificate,
    EnsureCredential,
    Invoke,
    Manifest,
    ObjectRef,
)
from allotment_operator.plans.ownership import descends
from allotment_operator.reconcile import credentials

_logger = logging.getLogger(__name__)
_REMEMBERED: Final = 65_536
_NOBODY: Final[tuple[Key, Manifest]] = (Key("", "", ""), {"metadata": {}})


class Audit(Protocol):
    """Takes note of what the operator did, for people and for the record."""

    def record(
        self,
        key: Key,
        *,
        action: str,
        subject: str,
        outcome: str,
        message: str = "",
        cause: Mapping[str, Any] | None = None,
    ) -> None:
        """Note one act."""


class Executor:
    """Executes actions against one API server.

    Args:
        client: with the operator's own rights.
        clock: the present time, with zone; certificates are dated by it.
        audit: told of every change and every failure.
    """

    def __init__(self, client: Client, *, clock: Callable[[], dt.datetime], audit: Audit | None = None) -> None:
        self._client = client
        self._clock = clock
        self._audit = audit
        self._applied: OrderedDict[ObjectRef, tuple[bytes, str]] = OrderedDict()

    async def execute(
        self,
        actions: Iterable[Action],
        *,
        perform: Callable[[Invoke], Awaitable[None]],
        observed: Mapping[ObjectRef, Manifest] | None = None,
        on_behalf_of: tuple[Key, Manifest] = _NOBODY,
    ) -> None:
        """Carry out all actions, in order; calls to the service itself through ``perform``.

        Args:
            actions: what should be true afterwards.
            perform: the kind's own way to call its service.
            observed: the objects as they were read at the start of the round.
            on_behalf_of: the custom resource, for the audit trail.

        Raises:
            ApiError: the first action that failed; those after it were not tried.
            AuthorityMissingError: a certificate was asked for before its authority.
            ServiceRefusedError: an object's name is taken by somebody else's.
        """
        for action in actions:
            subject = f"{action.operation} {action.subject}" if isinstance(action, Invoke) else str(action.ref)
            try:
                done = await self._execute(action, perform, observed or {})
            except Exception as error:
                self._record(on_behalf_of, _ATTEMPTS[type(action)], subject, "failed", str(error))
                raise
            if done:
                self._record(on_behalf_of, done, subject, "done")

    async def _execute(
        self, action: Action, perform: Callable[[Invoke], Awaitable[None]], observed: Mapping[ObjectRef, Manifest]
    ) -> str:
        """Return what was done: created, changed, deleted, invoked, or nothing."""
        match action:
            case Apply():
                return await self._apply(action.manifest, observed.get(action.ref))
            case Delete():
                return await self._delete(action, observed.get(action.ref))
            case Invoke():
                await perform(action)
                return "invoked"
            case EnsureCredential():
                live = await self._secret(action)
                return await self._write(credentials.credential(action, live), live)
            case EnsureAuthority():
                live = await self._secret(action)
                return await self._write(credentials.authority(action, live, now=self._clock()), live)
            case EnsureCertificate():
                live = await self._secret(action)
                signer = await self._client.find(SECRETS, action.authority.name, namespace=action.authority.namespace)
                return await self._write(credentials.certificate(action, live, signer, now=self._clock()), live)

    async def _apply(self, manifest: Manifest, live: Manifest | None) -> str:
        ref = ObjectRef.of(manifest)
        digest = hashlib.sha256(msgspec.json.encode(manifest, order="sorted")).digest()
        before = _version(live)
        if before and self._applied.get(ref) == (digest, before):
            self._applied.move_to_end(ref)
            return ""
        resource = await self._resource(ref.api_version, ref.kind)
        if not before:
            taken = await self._client.find(resource, ref.name, namespace=ref.namespace)
            refuse_anothers(taken, manifest)
        applied = await self._client.apply(resource, dict(manifest), manager=OPERATOR_FIELD_MANAGER, force=True)
        after = _version(applied)
        self._applied[ref] = (digest, after)
        self._applied.move_to_end(ref)
        if len(self._applied) > _REMEMBERED:
            self._applied.popitem(last=False)
        if after == before:
            return ""
        return "changed" if before else "created"

    async def _delete(self, action: Delete, live: Manifest | None) -> str:
        ref, uid = action.ref, action.uid or str(((live or {}).get("metadata") or {}).get("uid") or "")
        self._applied.pop(ref, None)
        resource = await self._resource(ref.api_version, ref.kind)
        try:
            await self._client.delete(resource, ref.name, namespace=ref.namespace, uid=uid)
        except NotFoundError:
            return ""
        except ConflictError:
            # Another object has taken the name meanwhile. The next round sees whose it is.
            _logger.info("%s was recreated and stays", ref)
            return ""
        return "deleted"

    async def _write(self, secret: Manifest | None, live: Manifest | None) -> str:
        return "" if secret is None else await self._apply(secret, live)

    async def _secret(self, action: EnsureCredential | EnsureAuthority | EnsureCertificate) -> dict[str, Any] | None:
        live = await self._client.find(SECRETS, action.ref.name, namespace=action.ref.namespace)
        wanted = {"apiVersion": "v1", "kind": "Secret", "metadata": action.metadata}
        refuse_anothers(live, wanted)
        return live

    async def _resource(self, api_version: str, kind: str) -> Resource[dict[str, Any]]:
        return await self._client.discover(api_version, kind)

    def _record(
        self, on_behalf_of: tuple[Key, Manifest], action: str, subject: str, outcome: str, message: str = ""
    ) -> None:
        if self._audit is not None:
            key, cause = on_behalf_of
            self._audit.record(key, action=action, subject=subject, outcome=outcome, message=message, cause=cause)


_ATTEMPTS: Final[Mapping[type[Any], str]] = {
    Apply: "changed",
    Delete: "deleted",
    Invoke: "invoked",
    EnsureCredential: "changed",
    EnsureAuthority: "changed",
    EnsureCertificate: "changed",
}
"""What an action that failed was about to do."""


def refuse_anothers(live: Manifest | None, wanted: Manifest) -> None:
    """Keep off an object that is there under the name already and is somebody else's: apply would take it over.

    Raises:
        ServiceRefusedError: it is, or it is a RoleBinding to another role, which cannot change.
    """
    if live is not None and (bound := live.get("roleRef")) != wanted.get("roleRef"):
        raise ServiceRefusedError(
            f"{ObjectRef.of(wanted)} exists already and binds {(bound or {}).get('name')}: delete it"
        )
    ours = _identity(wanted)
    if ours is None or live is None:
        return
    theirs, references = _identity(live), wanted["metadata"].get("ownerReferences") or ()
    if theirs == ours and all(descends(live, each) for each in references):
        return
    whose = f"belongs to {theirs[0]} {theirs[1]}" if theirs and theirs != ours else "was made by somebody else"
    raise ServiceRefusedError(f"{ObjectRef.of(wanted)} exists already and {whose}: delete or rename one of the two")


def _identity(manifest: Manifest) -> tuple[str, str] | None:
    """Kind and name of the service that an object belongs to; None for what no service made.

    Tenants are no services: what they furnish their namespaces with may be there before them.
    """
    labels = manifest["metadata"].get("labels") or {}
    kind, instance = labels.get(KIND_LABEL), labels.get(INSTANCE_LABEL)
    return (kind, instance) if kind and instance and kind != "Tenant" else None


def _version(manifest: Manifest | None) -> str:
    return str(((manifest or {}).get("metadata") or {}).get("resourceVersion") or "")
