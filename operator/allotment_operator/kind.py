"""What the engine asks of a kind: the seam between the loop, which is the same for all, and a service, which is not.

A kind is stateless. `plan` and `release` are pure and know no I/O; `probe` is the one door to the service itself.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar, runtime_checkable

from allotment_api.resource import Resource as ApiResource
from allotment_operator.plans.actions import Invoke
from allotment_operator.plans.outcome import Health, Observed, Outcome

R = TypeVar("R", bound=ApiResource)


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """One custom resource: its kind and name; ``namespace`` is empty for cluster-scoped kinds."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Scope:
    """Where to look for a resource's children.

    Attributes:
        kinds: kinds of children in the resource's own namespace (or cluster-scoped ones), as apiVersion → kinds.
        operator_namespace: kinds of children that live in the operator's namespace, such as an authority's Secret.
        left: kinds of what other resources of ours may have left in the namespaces of a scattered kind; looked for only
            while the resource is being deleted.
    """

    kinds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    operator_namespace: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    left: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


DATA_SERVICE: Final = Scope(
    kinds={
        "v1": ("ConfigMap", "PersistentVolumeClaim", "Pod", "Secret", "Service"),
        "apps/v1": ("StatefulSet",),
        "networking.k8s.io/v1": ("NetworkPolicy",),
        "policy/v1": ("PodDisruptionBudget",),
    },
    operator_namespace={"v1": ("Secret",)},
)
"""Of a service of several pods with volumes, whose certificate authority is kept by the operator."""


class ServiceUnavailableError(Exception):
    """The service itself could not be reached, or did not answer in time."""


class ServiceRefusedError(Exception):
    """The service itself refused what it was asked; repeating the call alone will not help."""


class Kind(Protocol[R]):
    """One kind of custom resource that the operator looks after."""

    @property
    def model(self) -> type[R]:
        """The API's model of the resource."""

    @property
    def scope(self) -> Scope:
        """Where its children are."""

    @property
    def status_fields(self) -> frozenset[str]:
        """Fields of the status, in the API's spelling, that its plans write; conditions aside."""

    def plan(self, resource: R, observed: Observed, *, now: dt.datetime) -> Outcome:
        """Say what to do next for a resource that should exist."""

    def release(self, resource: R, observed: Observed, *, now: dt.datetime) -> Outcome | None:
        """Say what to take down next for a resource that is being deleted; None when nothing of it is left."""

    async def perform(self, resource: R, observed: Observed, action: Invoke) -> None:
        """Carry out one call to the service itself; a kind that never plans an Invoke need not do anything.

        Raises:
            ServiceUnavailableError: the service does not answer; the round ends and is repeated.
            ServiceRefusedError: it answered no, and will do so again.
        """

    async def probe(self, resource: R, observed: Observed) -> Health | None:
        """Ask the running service whether clients can use it; None where there is nothing to ask."""


@runtime_checkable
class Laned(Protocol):
    """A kind whose plans have lanes, and whose status tells which of them failed."""

    def note_failures(self, resource: Any, outcome: Outcome, failures: Mapping[str, str]) -> Outcome:  # noqa: ANN401 - the kind's own model
        """Return the outcome with what is to be remembered of the lanes that failed, by name."""


@runtime_checkable
class Scattered(Protocol):
    """A kind whose children lie in several namespaces: `Scope.kinds` is then looked for in each of these.

    The Namespaces themselves are among the observed children.
    """

    def namespaces(self, resource: Any) -> tuple[str, ...]:  # noqa: ANN401 - the kind's own model
        """Return the namespaces to look in, whether they exist or not."""

    def namespace_labels(self, resource: Any) -> Mapping[str, str]:  # noqa: ANN401 - the kind's own model
        """Return the labels of further namespaces to look in."""
