"""Requests to the Kubernetes API in the API's own terms.

The client turns verbs on kinds (`Resource[T]`) into requests, repeats what may be repeated (see `retries`), and returns
objects of the kind's type. It holds no state about the cluster: caches are the reflector's business.

With a `guard` (a Lease held by this process) every write first asks for its time budget and is cut off within it: a
deposed leader sends nothing. Reads are not guarded.

Bodies may be dicts, Structs or encoded bytes. Typed objects are views with fields missing, so write dicts.
"""

import asyncio
import builtins
import copy
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, Generic, Literal, Protocol, Self, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from .configuration import Configuration, load_configuration
from .decoding import UndecodableObject, decode_list, decode_object
from .errors import ApiError, ConflictError, GoneError, InvalidError, NotFoundError, error_from_response
from .http_transport import DEFAULT_CONNECTIONS, HttpTransport
from .models import Object
from .patches import Patch
from .resources import NODES, PODS, Resource, path_segment
from .retries import DEFAULT_RETRIES, RetryPolicy
from .transport import APPLY_PATCH, Observer, Request, Response, Transport

T = TypeVar("T")
Body = Object | bytes | msgspec.Struct
Propagation = Literal["Background", "Foreground", "Orphan"]

DEFAULT_TIMEOUT: Final = 30.0
DEFAULT_PAGE_SIZE: Final = 500


class Guard(Protocol):
    """Leave to write, for a limited time."""

    def write(self) -> AbstractContextManager[float]:
        """Enter a write; yields the seconds it may take. Raises `LeadershipLostError` if there are none."""


class Client:
    """Speaks to one API server as one user; close it, or use it as an async context."""

    def __init__(
        self,
        transport: Transport,
        *,
        namespace: str = "default",
        retries: RetryPolicy = DEFAULT_RETRIES,
        timeout: float = DEFAULT_TIMEOUT,
        guard: Guard | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.transport = transport
        self.namespace = namespace
        self.rng = rng or random.Random()  # noqa: S311 - jitter
        self._retries = retries
        self._timeout = timeout
        self._guard = guard
        self._urgent = False
        self._discovered: dict[str, dict[str, Resource[Object]]] = {}

    @classmethod
    def connect(
        cls,
        configuration: Configuration | Path | None = None,
        *,
        connections: int = DEFAULT_CONNECTIONS,
        user_agent: str = "allotment",
        observer: Observer | None = None,
        retries: RetryPolicy = DEFAULT_RETRIES,
        rng: random.Random | None = None,
    ) -> Self:
        """A client over HTTP; without a configuration, to the cluster kubectl would use. Connects on first use."""
        if not isinstance(configuration, Configuration):
            configuration = load_configuration(configuration)
        transport = HttpTransport(configuration, connections=connections, user_agent=user_agent, observer=observer)
        return cls(transport, namespace=configuration.namespace, retries=retries, rng=rng)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the transport, also for the copies made by `guarded` and `patiently`."""
        await self.transport.close()

    def guarded(self, guard: Guard) -> Self:
        """A client on the same connections whose writes need the guard's leave."""
        twin = copy.copy(self)
        twin._guard = guard  # noqa: SLF001 - our own copy
        return twin

    def patiently(
        self, *, retries: RetryPolicy | None = None, timeout: float | None = None, urgent: bool = False
    ) -> Self:
        """A client of the same server with other patience; what is urgent waits behind nothing that is not."""
        twin = copy.copy(self)
        twin._urgent = urgent or self._urgent  # noqa: SLF001 - our own copy
        twin._retries = retries or self._retries  # noqa: SLF001 - our own copy
        twin._timeout = timeout or self._timeout  # noqa: SLF001 - our own copy
        return twin

    # Reading

    async def get(self, resource: Resource[T], name: str, *, namespace: str = "", subresource: str = "") -> T:
        """Read one object, or one of its subresources in the object's own type."""
        path = resource.item(name, namespace, subresource)
        response = await self.call(Request("GET", path, label=_label(resource, subresource)))
        return decode_object(resource.model, response.body, f"GET {path}")

    async def find(self, resource: Resource[T], name: str, *, namespace: str = "") -> T | None:
        """Read one object, None if it does not exist."""
        try:
            return await self.get(resource, name, namespace=namespace)
        except NotFoundError:
            return None

    async def list(
        self, resource: Resource[T], *, namespace: str = "", label_selector: str = "", field_selector: str = ""
    ) -> builtins.list[T]:
        """All objects of a kind, of one namespace or (empty) of all, read page by page at one resource version."""
        found: builtins.list[T] = []
        pages = self.pages(resource, namespace=namespace, label_selector=label_selector, field_selector=field_selector)
        async for page in pages:
            if page.first:
                found.clear()
            found.extend(page.items)
        return found

    async def pages(
        self,
        resource: Resource[T],
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        page_size: int = DEFAULT_PAGE_SIZE,
        on_undecodable: Callable[[UndecodableObject], None] | None = None,
    ) -> AsyncGenerator["Page[T]", None]:
        """The pages of a list, all at one resource version.

        If the continue token expires on the way, the list starts over in one unpaged request: a page with `first` set
        then comes a second time, and what came before it must be forgotten.
        """
        path = resource.collection(namespace)
        continue_token, limit, first = "", page_size, True
        while True:
            query = _query(
                labelSelector=label_selector, fieldSelector=field_selector, limit=limit, **{"continue": continue_token}
            )
            try:
                response = await self.call(Request("GET", path, query, label=_label(resource)))
            except GoneError:
                if not continue_token:
                    raise
                continue_token, limit, first = "", 0, True
                continue
            page = decode_list(resource.model, response.body, f"GET {path}", on_undecodable)
            yield Page(page.items or [], page.metadata.resource_version, first, not page.metadata.continue_)
            continue_token, first = page.metadata.continue_, False
            if not continue_token:
                return

    # Writing

    async def create(self, resource: Resource[T], body: Body, *, namespace: str = "", dry_run: bool = False) -> T:
        """Create an object. `OutcomeUnknownError` means: look for it before trying again."""
        if resource.namespaced and not namespace:
            namespace = self._namespace_of(body)
        request = Request(
            "POST", resource.collection(namespace), _query(dryRun=dry_run), _encode(body), label=_label(resource)
        )
        response = await self.call(request)
        return decode_object(resource.model, response.body, request.line)

    async def replace(self, resource: Resource[T], body: Object, *, namespace: str = "", subresource: str = "") -> T:
        """Put a whole object; with `metadata.resourceVersion` set, only over the version that was read."""
        metadata = body["metadata"]
        path = resource.item(metadata["name"], namespace or metadata.get("namespace", ""), subresource)
        response = await self.call(Request("PUT", path, "", _encode(body), label=_label(resource, subresource)))
        return decode_object(resource.model, response.body, f"PUT {path}")

    async def delete(
        self,
        resource: Resource[Any],
        name: str,
        *,
        namespace: str = "",
        uid: str = "",
        resource_version: str = "",
        propagation: Propagation = "Background",
        grace_period: int | None = None,
    ) -> None:
        """Ask for an object's deletion, with preconditions where given; finalizers may make it take a while."""
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        preconditions = {"uid": uid, "resourceVersion": resource_version}
        if uid or resource_version:
            options["preconditions"] = {key: value for key, value in preconditions.items() if value}
        if grace_period is not None:
            options["gracePeriodSeconds"] = grace_period
        path = resource.item(name, namespace)
        # Deleting one incarnation twice is deleting it once; without a uid the second try might hit a successor.
        request = Request("DELETE", path, "", _encode(options), label=_label(resource))
        await self.call(request, idempotent=bool(uid))

    async def patch(
        self, resource: Resource[T], name: str, patch: Patch, *, namespace: str = "", subresource: str = ""
    ) -> T:
        """Change part of an object.

        Raises:
            ConflictError: a precondition of the patch failed.
        """
        path = resource.item(name, namespace, subresource)
        request = Request("PATCH", path, "", patch.encode(), patch.content_type, label=_label(resource, subresource))
        try:
            response = await self.call(request)
        except InvalidError as error:
            if await self._is_stale(patch, resource, name, namespace):
                raise ConflictError(error.message, request=request.line, code=409, status=error.status) from error
            raise
        return decode_object(resource.model, response.body, request.line)

    async def apply(
        self,
        resource: Resource[T],
        body: Object,
        *,
        manager: str,
        force: bool = False,
        namespace: str = "",
        subresource: str = "",
        dry_run: bool = False,
    ) -> T:
        """Server-side apply: this manager wants these fields to be so, and owns them from now on.

        Fields the manager applied before and leaves out now are removed. Repeating is harmless.

        Raises:
            OwnershipConflictError: another manager owns a field with another value and `force` is off.
        """
        metadata = body.get("metadata") or {}
        if "apiVersion" not in body or "kind" not in body:
            body = {"apiVersion": resource.api_version, "kind": resource.kind, **body}
        path = resource.item(metadata.get("name", ""), namespace or metadata.get("namespace", ""), subresource)
        query = _query(fieldManager=manager, force=force, dryRun=dry_run)
        request = Request("PATCH", path, query, _encode(body), APPLY_PATCH, label=_label(resource, subresource))
        response = await self.call(request, idempotent=True)
        return decode_object(resource.model, response.body, request.line)

    # Subresources with a meaning of their own

    async def bind(self, namespace: str, pod: str, *, uid: str, node: str) -> None:
        """Bind a pod to a node, provided it still is the pod of that uid.

        Raises:
            ConflictError: it is another pod, is bound already, or is being deleted.
        """
        body = _encode(_Binding(metadata=_BindingMeta(pod, namespace, uid), target=_BindingTarget(name=node)))
        path = f"/api/v1/namespaces/{path_segment(namespace)}/pods/{path_segment(pod)}/binding"
        await self.call(Request("POST", path, "", body, label="pods/binding"))

    async def evict(self, namespace: str, pod: str, *, uid: str = "", grace_period: int | None = None) -> None:
        """Ask for a pod's eviction, which honours PodDisruptionBudgets.

        Raises:
            DisruptionBudgetError: a budget allows no disruption now.
            NotFoundError: the pod is gone already.
        """
        options: Object = {"preconditions": {"uid": uid}} if uid else {}
        if grace_period is not None:
            options["gracePeriodSeconds"] = grace_period
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": namespace},
            "deleteOptions": options,
        }
        path = PODS.item(pod, namespace, "eviction")
        await self.call(Request("POST", path, "", _encode(body), label="pods/eviction"), idempotent=bool(uid))

    async def scale(self, resource: Resource[Any], name: str, replicas: int, *, namespace: str = "") -> None:
        """Set a workload's size through its scale subresource."""
        patch = msgspec.json.encode({"spec": {"replicas": replicas}})
        path = resource.item(name, namespace, "scale")
        label = _label(resource, "scale")
        await self.call(Request("PATCH", path, "", patch, "application/merge-patch+json", label=label), idempotent=True)

    async def service_account_token(
        self, namespace: str, service_account: str, *, seconds: int = 3600, audiences: tuple[str, ...] = ()
    ) -> tuple[str, str]:
        """Ask for a token of a service account; returns it with its expiry (RFC 3339)."""
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds, "audiences": list(audiences)},
        }
        answer = await self.connect_subresource("serviceaccounts", service_account, "token", body, namespace=namespace)
        return answer["status"]["token"], answer["status"]["expirationTimestamp"]

    async def connect_subresource(
        self, plural: str, name: str, subresource: str, body: Body, *, namespace: str = "", api_version: str = "v1"
    ) -> Object:
        """POST to any subresource and return its answer."""
        resource = Resource.custom(api_version, "", plural, namespaced=bool(namespace))
        path = resource.item(name, namespace, subresource)
        response = await self.call(Request("POST", path, "", _encode(body), label=f"{plural}/{subresource}"))
        return decode_object(Object, response.body, f"POST {path}")

    # Learning about the server

    async def discover(self, api_version: str, kind: str) -> Resource[Object]:
        """Ask the server how a kind is addressed; answers are kept per API version.

        Raises:
            NotFoundError: the server does not serve the kind.
        """
        known = self._discovered.get(api_version)
        if known is None or kind not in known:
            known = self._discovered[api_version] = await self._read_kinds(api_version)
        if kind not in known:
            raise NotFoundError(f"the server has no {kind} in {api_version}; is its CRD installed?", code=404)
        return known[kind]

    async def _read_kinds(self, api_version: str) -> dict[str, Resource[Object]]:
        path = f"/apis/{quote(api_version)}" if "/" in api_version else f"/api/{quote(api_version)}"
        response = await self.call(Request("GET", path, label="discovery"))
        listing = decode_object(Object, response.body, f"GET {path}")
        return {
            entry["kind"]: Resource.custom(api_version, entry["kind"], entry["name"], namespaced=entry["namespaced"])
            for entry in listing["resources"]
            if "/" not in entry["name"]
        }

    # The one way out

    async def call(self, request: Request, *, idempotent: bool = False) -> Response:
        """Send a request, repeated as far as that is safe; a failure raises its `ApiError`."""
        idempotent = idempotent or request.method == "GET"
        attempt = 0
        while True:
            try:
                response = await self._send(request)
                if response.code < 300:
                    return response
                error = error_from_response(response.code, response.body, response.headers, request.line)
            except ApiError as failure:
                error = failure
            delay = self._retries.delay(error, attempt, idempotent=idempotent, rng=self.rng)
            if delay is None:
                raise error
            await asyncio.sleep(delay)
            attempt += 1

    async def _send(self, request: Request) -> Response:
        if self._guard is None or request.method == "GET":
            if self._timeout != request.timeout or self._urgent:
                request = _with_timeout(request, self._timeout, urgent=self._urgent)
            return await self.transport.send(request)
        with self._guard.write() as budget:
            # The server is told as well: it stops working on what we no longer wait for.
            allowed = min(budget, self._timeout)
            query = f"{request.query}&" if request.query else ""
            query += f"timeout={int(allowed * 1000)}ms"
            return await self.transport.send(_with_timeout(request, allowed, query, urgent=self._urgent))

    async def _is_stale(self, patch: Patch, resource: Resource[Any], name: str, namespace: str) -> bool:
        # A failed `test`, or another uid, is a 422 like any malformed patch; only the object can tell them apart.
        if not patch.resource_version and not patch.uid:
            return False
        now = await self.get(resource.untyped, name, namespace=namespace)
        metadata = now["metadata"]
        expected = (patch.resource_version or metadata["resourceVersion"], patch.uid or metadata["uid"])
        return expected != (metadata["resourceVersion"], metadata["uid"])

    def _namespace_of(self, body: Body) -> str:
        if isinstance(body, dict):
            named: str = (body.get("metadata") or {}).get("namespace") or ""
            return named or self.namespace
        return self.namespace


class Page(msgspec.Struct, Generic[T], gc=False):
    """A page of a list. `first` starts a list (perhaps again), `last` ends it."""

    items: list[T]
    resource_version: str
    first: bool
    last: bool


class _BindingMeta(msgspec.Struct, gc=False):
    name: str
    namespace: str
    uid: str


class _BindingTarget(msgspec.Struct, gc=False):
    name: str
    kind: str = NODES.kind
    apiVersion: str = "v1"  # noqa: N815 - written as sent


class _Binding(msgspec.Struct, gc=False):
    metadata: _BindingMeta
    target: _BindingTarget
    kind: str = "Binding"
    apiVersion: str = "v1"  # noqa: N815 - written as sent


_ENCODER: Final = msgspec.json.Encoder()


def _encode(body: Body) -> bytes:
    return body if isinstance(body, bytes) else _ENCODER.encode(body)


def _with_timeout(request: Request, seconds: float, query: str | None = None, *, urgent: bool) -> Request:
    return Request(
        request.method,
        request.path,
        request.query if query is None else query,
        request.body,
        request.content_type,
        seconds,
        request.label,
        urgent,
    )


def _label(resource: Resource[Any], subresource: str = "") -> str:
    return f"{resource.plural}/{subresource}" if subresource else resource.plural


def _query(**parameters: str | int | bool) -> str:
    """Encode query parameters, leaving out what is empty; `dryRun` has the one value All."""
    if parameters.get("dryRun"):
        parameters["dryRun"] = "All"
    given = {key: "true" if value is True else value for key, value in parameters.items() if value}
    return urlencode(given, quote_via=quote) if given else ""
