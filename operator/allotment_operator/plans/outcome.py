"""What a plan reads and what it returns."""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from allotment_api.conditions import Condition
from allotment_api.names import LabelSelector
from allotment_operator.plans.actions import Action, Apply, Manifest, ObjectRef


@dataclass(frozen=True, slots=True)
class Health:
    """A service's own answer, through its probe, to the question whether clients can use it.

    ``simulated`` means that its pods run on simulated nodes, where nothing listens: readiness is then what
    Kubernetes says of the pods, and is shown as simulated wherever it is shown. ``silent`` means that nobody answered:
    unlike a "no", it may be over a second later.
    """

    ready: bool
    reason: str
    message: str
    simulated: bool = False
    silent: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodePoolView:
    """A node pool as far as a pod must know it: how to find its nodes, and what they repel."""

    selector: LabelSelector | None
    toleration_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TenantView:
    """What a plan needs to know of the tenant that owns the resource's namespace.

    ``guaranteed`` names the resources for which the tenant, and every ancestor that has a guarantee, holds one:
    a pod may be non-preemptible only within it. ``pools`` are those that the tenant may use, by name.
    """

    name: str
    guaranteed: frozenset[str] = frozenset()
    suspended: bool = False
    pools: Mapping[str, NodePoolView] = field(default_factory=dict)
    namespaces: tuple[str, ...] = ()
    """All namespaces of the tenant, by name."""
    egress: tuple[str, ...] = ()
    """Networks outside that the tenant may reach, as far as every tenant above it may."""
    ways_in: frozenset[Literal["NodePort", "LoadBalancer"]] = frozenset()
    """Types of Services by which it may be reached from outside the cluster."""
    frozen: str = ""
    """Why nothing is known of what the tenant may have: then no service of it is changed. Empty: all is known."""


@dataclass(frozen=True, slots=True)
class Observed:
    """The world as far as one resource is concerned, read at the start of a reconciliation.

    ``children`` are the live objects that the resource has brought about, Secrets included; ``strangers`` are others
    that wear its labels, which nobody here may touch.
    """

    children: Mapping[ObjectRef, Manifest] = field(default_factory=dict)
    tenant: TenantView | None = None
    health: Health | None = None
    strangers: frozenset[ObjectRef] = frozenset()

    def get(self, ref: ObjectRef) -> Manifest | None:
        """Return the live object, or None where there is none."""
        return self.children.get(ref)

    def of_kind(self, kind: str) -> list[Manifest]:
        """Return the live children of one kind, by name."""
        return [manifest for ref, manifest in sorted(self.children.items()) if ref.kind == kind]

    def secret(self, ref: ObjectRef, key: str) -> str:
        """Return one value of a Secret as text; empty where there is no such Secret or key."""
        data = (self.get(ref) or {}).get("data") or {}
        return base64.b64decode(data.get(key, "")).decode()

    def annotation(self, ref: ObjectRef, name: str) -> str:
        """Return an object's annotation; empty where there is no such object or annotation."""
        metadata = (self.get(ref) or {}).get("metadata") or {}
        return str((metadata.get("annotations") or {}).get(name, ""))

    def ready_pods(self) -> int:
        """Count the pods whose Ready condition is true and that are not being deleted."""
        return sum(1 for pod in self.of_kind("Pod") if pod_is_ready(pod))


def pod_is_ready(pod: Manifest) -> bool:
    """Say whether a pod serves: its Ready condition is true and nobody has deleted it."""
    if pod["metadata"].get("deletionTimestamp"):
        return False
    conditions: Iterable[Manifest] = pod.get("status", {}).get("conditions", ())
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What to do now, what to say, and when to look again.

    Actions are executed in order; the first that fails ends this round, its error becomes the condition
    ``Degraded=True``, and the next round starts from what is then observed.

    ``lanes`` are for parts that have nothing to do with each other, by a name that people know: they are carried out
    after the actions and beside one another, each in its own order. One that fails ends its own lane only: the status
    is written all the same, and must be true whether or not a lane succeeded.

    ``requeue_after`` is in seconds; None leaves it to the next event and the regular resynchronisation.
    ``retry_after`` replaces it where a lane failed; None leaves that to the engine.
    """

    actions: tuple[Action, ...] = ()
    conditions: tuple[Condition, ...] = ()
    status: Mapping[str, Any] = field(default_factory=dict)
    requeue_after: float | None = None
    lanes: Mapping[str, tuple[Action, ...]] = field(default_factory=dict)
    retry_after: float | None = None


def apart(applied: Iterable[Apply]) -> dict[str, tuple[Action, ...]]:
    """Return lanes of one object each, named after it: what may be refused for one holds up no other."""
    return {str(each.ref): (each,) for each in applied}
