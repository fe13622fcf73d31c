"""A small Kubernetes API server in memory: the parts of the API's contract that controllers rely on.

What it keeps faithfully: one growing resource version, optimistic locking (409), compaction (410) for watches and
continue tokens, watch replay with selectors and bookmarks, paging at one version, uid preconditions, finalizers and
deletionTimestamp, generateName, generation and the status subresource, bindings, evictions against budgets,
server-side apply with field ownership, owner references. What it leaves out: validation, defaulting, admission,
authorization, and graceful termination unless `graceful_pods` is set.

Every request is one atomic step (`handle`); watches are generators of lines. Faults and wires are added outside: see
`faults`, `in_process` and `http_server`. Time comes from `clock`, so all of it runs on virtual time.
"""

import base64
import copy
import json
import re
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, unquote

from multidict import CIMultiDict

from allotment_kube import resources as kinds
from allotment_kube.resources import Resource
from allotment_kube.transport import APPLY_PATCH, JSON_PATCH, STRATEGIC_MERGE_PATCH, Request, Response
from fakes.faults import Verb
from fakes.patching import ApplyConflictError, PatchError, apply, json_patch, merge_patch, note_update
from fakes.store import Key, Object, Store, key_of, selected

EPOCH = datetime(2030, 1, 1, tzinfo=UTC)
BUILT_IN = [value for value in vars(kinds).values() if isinstance(value, Resource)]
_PATH = re.compile(
    r"/(?:api/(?P<core>[^/]+)|apis/(?P<group>[^/]+)/(?P<version>[^/]+))"
    r"(?:/namespaces/(?P<namespace>[^/]+)(?=/[^/]+))?/(?P<plural>[^/]+)(?:/(?P<name>[^/]+)(?:/(?P<sub>[^/]+))?)?"
)


class Refusal(Exception):  # noqa: N818 - an answer, not a defect
    """An error answer."""

    def __init__(self, code: int, reason: str, message: str, *, causes: Iterable[Object] = (), after: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.after = after
        details: Object = {"causes": list(causes)}
        if after:
            details["retryAfterSeconds"] = after
        self.status = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "code": code,
            "reason": reason,
            "message": message,
            "details": details,
        }

    def response(self) -> Response:
        """As an HTTP answer."""
        headers = CIMultiDict({"Retry-After": str(self.after)} if self.after else {})
        return Response(self.code, headers, json.dumps(self.status).encode())


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is about."""

    resource: Resource[Any]
    namespace: str
    name: str
    subresource: str
    query: dict[str, str]

    @property
    def kind(self) -> str:
        """Name of the kind in the store."""
        return str(self.resource)

    @property
    def key(self) -> Key:
        """Key of the object in the store."""
        return self.namespace, self.name


@dataclass(frozen=True, slots=True)
class Entry:
    """A request that reached the server, for invariants over histories."""

    at: float
    method: str
    path: str
    code: int
    body: bytes | None


class FakeApiServer:
    """The server's state and its answers."""

    def __init__(
        self, *, clock: Callable[[], float] = lambda: 0.0, graceful_pods: bool = False, epoch: datetime = EPOCH
    ) -> None:
        self.store = Store()
        self.journal: list[Entry] = []
        self.clock = clock
        self.epoch = epoch
        self.graceful_pods = graceful_pods
        self._resources: dict[tuple[str, str, str], Resource[Any]] = {}
        self._uids = 0
        for resource in BUILT_IN:
            self.register(resource)

    # For tests: behind the API's back, without faults

    def register(self, resource: Resource[Any]) -> None:
        """Serve another kind, as a CRD would."""
        self._resources[resource.group, resource.version, resource.plural] = resource

    def put(self, resource: Resource[Any], item: Object) -> Object:
        """Create an object or replace it whole, status included."""
        item = copy.deepcopy(item)
        old = self.store.get(str(resource), key_of(item))
        if old is not None:
            item["metadata"] = {**old["metadata"], **item["metadata"]}
            return self.store.write(str(resource), item)
        return self.store.write(str(resource), self._born(resource, item))

    def remove(self, resource: Resource[Any], name: str, namespace: str = "") -> None:
        """Delete an object at once, finalizers or not."""
        self._erase(resource, (namespace, name))

    def get(self, resource: Resource[Any], name: str, namespace: str = "") -> Object | None:
        """The truth about one object."""
        return copy.deepcopy(self.store.get(str(resource), (namespace, name)))

    def objects(self, resource: Resource[Any], namespace: str = "") -> list[Object]:
        """The truth about a kind."""
        return copy.deepcopy(self.store.all(str(resource), namespace))

    # For transports

    def handle(self, request: Request) -> Response:
        """Answer anything but a watch, in one atomic step."""
        try:
            answer = self._answer(request)
            code = 201 if request.method == "POST" else 200
            response = Response(code, CIMultiDict(), json.dumps(answer).encode())
        except Refusal as refusal:
            response = refusal.response()
        self.journal.append(Entry(self.clock(), request.method, request.path, response.code, request.body))
        return response

    def target(self, request: Request) -> Target:
        """Resolve a path."""
        found = _PATH.fullmatch(unquote(request.path))
        if found is None:
            raise Refusal(404, "NotFound", f"the server has no {request.path}")
        parts = found.groupdict(default="")
        group, version = parts["group"], parts["core"] or parts["version"]
        resource = self._resources.get((group, version, parts["plural"]))
        if resource is None:
            raise Refusal(404, "NotFound", "the server could not find the requested resource")
        query = dict(parse_qsl(request.query, keep_blank_values=True))
        return Target(resource, parts["namespace"], parts["name"], parts["sub"], query)

    def now(self, later: float = 0.0) -> str:
        """The server's wall clock, or what it will say some seconds later."""
        return (self.epoch + timedelta(seconds=self.clock() + later)).strftime("%Y-%m-%dT%H:%M:%SZ")

    # Verbs

    def _answer(self, request: Request) -> Object:
        if request.path == "/version":
            return {"major": "1", "minor": "36", "gitVersion": "v1.36.0-fake"}
        if request.path in {"/readyz", "/livez"}:
            return {}
        if (listing := self._discovery(request.path)) is not None:
            return listing
        target = self.target(request)
        body: Any = json.loads(request.body) if request.body else {}
        if request.method == "GET":
            return self._existing(target) if target.name else self.list(target)
        match request.method:
            case "POST":
                return self._subresource(target, body) if target.name else self._create(target, body)
            case "PUT":
                return self._update(target, body, request)
            case "PATCH":
                return self._patch(target, body, request)
            case "DELETE":
                return self._delete(target, body)
        raise Refusal(405, "MethodNotAllowed", request.method)

    def list(self, target: Target, revision: int | None = None) -> Object:
        """A page of a list; at an earlier revision, what a stale cache would say."""
        start = ("", "")
        if token := target.query.get("continue"):
            revision, *last = json.loads(base64.b64decode(token))
            start = (last[0], last[1])
        revision = self.store.revision if revision is None else revision
        if revision < self.store.compacted:
            raise Refusal(410, "Expired", "The provided continue parameter is too old")
        query = target.query
        items = [
            item
            for item in self.store.at(target.kind, revision)
            if key_of(item) > start
            and (not target.namespace or key_of(item)[0] == target.namespace)
            and selected(item, query.get("labelSelector", ""), query.get("fieldSelector", ""))
        ]
        limit = int(query.get("limit", "0")) or len(items)
        metadata: Object = {"resourceVersion": str(revision)}
        if len(items) > limit:
            metadata["continue"] = base64.b64encode(json.dumps([revision, *key_of(items[limit - 1])]).encode()).decode()
            metadata["remainingItemCount"] = len(items) - limit
        resource = target.resource
        return {
            "kind": f"{resource.kind}List",
            "apiVersion": resource.api_version,
            "metadata": metadata,
            "items": items[:limit],
        }

    def _create(self, target: Target, body: Object) -> Object:
        item = copy.deepcopy(body)
        metadata = item.setdefault("metadata", {})
        if target.namespace:
            metadata["namespace"] = target.namespace
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = f"{metadata['generateName']}{self._uids:05x}"
        if not metadata.get("name"):
            raise Refusal(422, "Invalid", "metadata.name: Required value")
        if self.store.get(target.kind, key_of(item)) is not None:
            raise Refusal(409, "AlreadyExists", f'{target.kind} "{metadata["name"]}" already exists')
        metadata.pop("resourceVersion", None)
        item.pop("status", None)
        return self._stored(target, self._born(target.resource, item), {}, target.query.get("fieldManager", "client"))

    def _update(self, target: Target, body: Object, request: Request) -> Object:
        old = self._existing(target)
        expected = body.get("metadata", {}).get("resourceVersion")
        if expected and expected != old["metadata"]["resourceVersion"]:
            raise Refusal(
                409, "Conflict", "the object has been modified; please apply your changes to the latest version"
            )
        uid = body.get("metadata", {}).get("uid")
        if uid and uid != old["metadata"]["uid"]:
            raise Refusal(409, "Conflict", f"Precondition failed: UID in precondition: {uid}")
        manager = target.query.get("fieldManager") or ("client" if request.method == "PUT" else "patch")
        return self._stored(target, self._merged(target, old, body), old, manager)

    def _patch(self, target: Target, body: Any, request: Request) -> Object:
        if target.subresource == "scale":
            body = {"spec": {"replicas": body["spec"]["replicas"]}}
            target = Target(target.resource, target.namespace, target.name, "", target.query)
        if request.content_type == APPLY_PATCH:
            return self._apply(target, body)
        old = self._existing(target)
        if request.content_type == JSON_PATCH:
            try:
                return self._update(target, json_patch(old, body), request)
            except PatchError as error:
                raise Refusal(422, "Invalid", "the server rejected our request due to an error") from error
        keyed = request.content_type == STRATEGIC_MERGE_PATCH
        return self._update(target, merge_patch(old, body, keyed=keyed), request)

    def _apply(self, target: Target, body: Object) -> Object:
        old = self.store.get(target.kind, target.key)
        if old is None and target.subresource:
            raise Refusal(404, "NotFound", f'{target.kind} "{target.name}" not found')
        fresh = self._born(target.resource, {**body, "metadata": {**body["metadata"], "name": target.name}})
        base = old or {"metadata": {key: fresh["metadata"][key] for key in _BIRTH if key in fresh["metadata"]}}
        if target.namespace:
            base["metadata"]["namespace"] = target.namespace
        owners = copy.deepcopy(self.store.owners.get((target.kind, base["metadata"]["uid"]), {}))
        manager, force = target.query["fieldManager"], target.query.get("force") == "true"
        try:
            new = apply(base, body, owners, f"{manager}{target.subresource and '/' + target.subresource}", force=force)
        except ApplyConflictError as error:
            causes = [
                {"reason": "FieldManagerConflict", "message": f'conflict with "{other}"', "field": path}
                for path, other in error.owners.items()
            ]
            raise Refusal(409, "Conflict", f"Apply failed with {len(causes)} conflict", causes=causes) from error
        new["metadata"] = {**base["metadata"], **new["metadata"], "name": target.name}
        self.store.owners[target.kind, base["metadata"]["uid"]] = owners
        return self._stored(target, self._merged(target, old, new) if old else new, old or {}, "")

    def _delete(self, target: Target, options: Object) -> Object:
        old = self._existing(target)
        metadata = old["metadata"]
        for field, value in (options.get("preconditions") or {}).items():
            if metadata[field] != value:
                raise Refusal(409, "Conflict", f"Precondition failed: {field} is {metadata[field]}, not {value}")
        grace = options.get("gracePeriodSeconds", old.get("spec", {}).get("terminationGracePeriodSeconds", 30))
        lingers = self.graceful_pods and target.kind == "pods" and old["spec"].get("nodeName") and grace
        if metadata.get("finalizers") or lingers:
            if "deletionTimestamp" not in metadata:
                left = grace if lingers else 0
                metadata["deletionTimestamp"] = self.now(left)  # when the grace period ends
                metadata["deletionGracePeriodSeconds"] = left
                return self.store.write(target.kind, old)
            return old
        return self._erase(target.resource, target.key)

    # Subresources

    def _subresource(self, target: Target, body: Object) -> Object:
        match target.kind, target.subresource:
            case "pods", "binding":
                return self._bind(target, body)
            case "pods", "eviction":
                return self._evict(target, body)
            case "serviceaccounts", "token":
                return {**body, "status": {"token": f"token-{self._uids}", "expirationTimestamp": self.now()}}
        raise Refusal(404, "NotFound", f"no subresource {target.subresource}")

    def _bind(self, target: Target, body: Object) -> Object:
        pod = self._existing(target)
        uid = body.get("metadata", {}).get("uid")
        if uid and uid != pod["metadata"]["uid"]:
            raise Refusal(409, "Conflict", f"Precondition failed: UID in precondition: {uid}")
        if pod["metadata"].get("deletionTimestamp"):
            raise Refusal(409, "Conflict", f"pod {target.name} is being deleted, cannot be assigned to a host")
        if pod["spec"].get("nodeName"):
            raise Refusal(409, "Conflict", f"pod {target.name} is already assigned to node {pod['spec']['nodeName']}")
        pod["spec"]["nodeName"] = body["target"]["name"]
        conditions = [c for c in pod["status"].get("conditions", []) if c["type"] != "PodScheduled"]
        pod["status"]["conditions"] = [*conditions, {"type": "PodScheduled", "status": "True"}]
        pod["status"].pop("nominatedNodeName", None)
        self.store.write("pods", pod)
        return {"kind": "Status", "apiVersion": "v1", "status": "Success", "code": 201}

    def _evict(self, target: Target, body: Object) -> Object:
        pod = self._existing(target)
        for budget in self.store.all("poddisruptionbudgets.policy", target.namespace):
            labels = budget["spec"].get("selector", {}).get("matchLabels", {})
            if not labels.items() <= pod["metadata"].get("labels", {}).items():
                continue
            allowed = budget.get("status", {}).get("disruptionsAllowed", 0)
            if allowed <= 0:
                cause = {"reason": "DisruptionBudget", "message": f"{budget['metadata']['name']} needs more pods"}
                raise Refusal(429, "TooManyRequests", "Cannot evict pod: disruption budget", causes=[cause])
            status = {**budget["status"], "disruptionsAllowed": allowed - 1}
            self.store.write("poddisruptionbudgets.policy", {**budget, "status": status})
        self._delete(target, body.get("deleteOptions") or {})
        return {"kind": "Status", "apiVersion": "v1", "status": "Success", "code": 201}

    # Rules that all writes obey

    def _existing(self, target: Target) -> Object:
        item = self.store.get(target.kind, target.key)
        if item is None:
            raise Refusal(404, "NotFound", f'{target.kind} "{target.name}" not found')
        return copy.deepcopy(item)

    def _born(self, resource: Resource[Any], item: Object) -> Object:
        self._uids += 1
        item = {"apiVersion": resource.api_version, "kind": resource.kind, **copy.deepcopy(item)}
        item["metadata"] = {
            "uid": str(uuid.UUID(int=self._uids)),
            "creationTimestamp": self.now(),
            "generation": 1,
            **item["metadata"],
        }
        if resource.plural == "pods":
            item["spec"] = {"schedulerName": "default-scheduler", **item.get("spec", {})}
            item.setdefault("status", {"phase": "Pending"})
        return item

    @staticmethod
    def _merged(target: Target, old: Object, new: Object) -> Object:
        """The part of a write that its endpoint lets through."""
        new = copy.deepcopy(new)
        fixed = {key: old["metadata"][key] for key in _FIXED if key in old["metadata"]}
        new["metadata"] = {**new["metadata"], **fixed}
        if target.subresource == "status":
            metadata = {**old["metadata"], "annotations": new["metadata"].get("annotations")}
            return {
                **old,
                "status": new.get("status", {}),
                "metadata": metadata if metadata["annotations"] else old["metadata"],
            }
        new.pop("status", None)
        if "status" in old and "status" not in new:
            new["status"] = old["status"]
        return new

    def _stored(self, target: Target, new: Object, old: Object, manager: str) -> Object:
        if old and _content(old) == _content(new):
            return old  # a write without effect leaves the version alone
        if old and {**old, "metadata": 0, "status": 0} != {**new, "metadata": 0, "status": 0}:
            new["metadata"]["generation"] = old["metadata"].get("generation", 1) + 1
        if manager:
            note_update(old, new, self.store.owners.setdefault((target.kind, new["metadata"]["uid"]), {}), manager)
        if target.query.get("dryRun"):
            return new
        stored = self.store.write(target.kind, new)
        if stored["metadata"].get("deletionTimestamp") and not stored["metadata"].get("finalizers"):
            return self._erase(target.resource, key_of(stored))
        return stored

    def _erase(self, resource: Resource[Any], key: Key) -> Object:
        last = self.store.remove(str(resource), key)
        uid = last["metadata"]["uid"]
        for other in self._resources.values():
            for item in self.store.all(str(other)):
                owned = any(owner["uid"] == uid for owner in item["metadata"].get("ownerReferences", ()))
                inside = (
                    resource.plural == "namespaces" and item["metadata"].get("namespace") == last["metadata"]["name"]
                )
                if owned or inside:
                    self._delete(Target(other, *key_of(item), "", {}), {})
        return last

    def _discovery(self, path: str) -> Object | None:
        found = re.fullmatch(r"/api/([^/]+)|/apis/([^/]+)/([^/]+)", path)
        if found is None:
            return None
        group, version = found[2] or "", found[1] or found[3]
        served = [r for r in self._resources.values() if (r.group, r.version) == (group, version)]
        if not served:
            raise Refusal(404, "NotFound", f"the server has no {path}")
        entries = [{"name": r.plural, "kind": r.kind, "namespaced": r.namespaced} for r in served]
        return {"kind": "APIResourceList", "groupVersion": served[0].api_version, "resources": entries}


def verb_of(request: Request) -> Verb:
    """The class of a request, for faults."""
    if request.path.endswith("/binding"):
        return Verb.BIND
    if request.path.endswith("/eviction"):
        return Verb.EVICT
    if request.method == "GET":
        if "watch=true" in request.query:
            return Verb.WATCH
        found = _PATH.fullmatch(request.path)
        return Verb.LIST if found is not None and not found["name"] else Verb.GET
    return {"POST": Verb.CREATE, "PUT": Verb.REPLACE, "PATCH": Verb.PATCH, "DELETE": Verb.DELETE}[request.method]


_BIRTH = ("name", "namespace", "uid", "creationTimestamp", "generation")
_FIXED = ("name", "namespace", "uid", "creationTimestamp", "generation", "deletionTimestamp", "resourceVersion")


def _content(item: Object) -> Object:
    metadata = {key: value for key, value in item["metadata"].items() if key not in {"resourceVersion", "generation"}}
    return {**item, "metadata": metadata}
