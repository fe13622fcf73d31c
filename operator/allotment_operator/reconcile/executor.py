"""Carries out a plan's actions, in order, each by one or two idempotent requests.

It decides nothing: what exists and is as wanted costs one request and changes nothing. The first failure ends the
round and is raised as it came; its class says what the engine does next (`allotment_kube.errors`).
"""

import datetime as dt
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from allotment_api.labels import OPERATOR_FIELD_MANAGER
from allotment_kube.client import Client
from allotment_kube.errors import ConflictError, NotFoundError
from allotment_kube.resources import SECRETS, Resource
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
from allotment_operator.reconcile import credentials

_logger = logging.getLogger(__name__)


class Executor:
    """Executes actions against one API server.

    Args:
        client: with the operator's own rights.
        clock: the present time, with zone; certificates are dated by it.
    """

    def __init__(self, client: Client, *, clock: Callable[[], dt.datetime]) -> None:
        self._client = client
        self._clock = clock

    async def execute(self, actions: Iterable[Action], *, perform: Callable[[Invoke], Awaitable[None]]) -> None:
        """Carry out all actions, in order; calls to the service itself through ``perform``.

        Raises:
            ApiError: the first action that failed; those after it were not tried.
            AuthorityMissingError: a certificate was asked for before its authority.
        """
        for action in actions:
            match action:
                case Apply():
                    await self._apply(action.manifest)
                case Delete():
                    await self._delete(action)
                case Invoke():
                    await perform(action)
                case EnsureCredential():
                    await self._write(credentials.credential(action, await self._secret(action.ref)))
                case EnsureAuthority():
                    live = await self._secret(action.ref)
                    await self._write(credentials.authority(action, live, now=self._clock()))
                case EnsureCertificate():
                    live, signer = await self._secret(action.ref), await self._secret(action.authority)
                    await self._write(credentials.certificate(action, live, signer, now=self._clock()))

    async def _apply(self, manifest: Manifest) -> None:
        resource = await self._resource(manifest["apiVersion"], manifest["kind"])
        await self._client.apply(resource, dict(manifest), manager=OPERATOR_FIELD_MANAGER, force=True)

    async def _delete(self, action: Delete) -> None:
        ref = action.ref
        resource = await self._resource(ref.api_version, ref.kind)
        try:
            await self._client.delete(resource, ref.name, namespace=ref.namespace, uid=action.uid or "")
        except NotFoundError:
            return
        except ConflictError:
            # Another object has taken the name meanwhile. The next round sees whose it is.
            _logger.info("%s was recreated and stays", ref)

    async def _write(self, secret: Manifest | None) -> None:
        if secret is not None:
            await self._apply(secret)

    async def _secret(self, ref: ObjectRef) -> dict[str, Any] | None:
        return await self._client.find(SECRETS, ref.name, namespace=ref.namespace)

    async def _resource(self, api_version: str, kind: str) -> Resource[dict[str, Any]]:
        return await self._client.discover(api_version, kind)
