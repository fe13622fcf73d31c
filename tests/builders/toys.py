"""A toy kind that makes ConfigMaps, and an engine for it on the fake API server."""

import asyncio
import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from allotment_api.conditions import Conditions, ConditionType, condition
from allotment_api.labels import API_VERSION, FINALIZER
from allotment_api.model import Bool, Count, Model
from allotment_api.resource import Definition
from allotment_api.resource import Resource as ApiResource
from allotment_kube.client import Client
from allotment_kube.resources import CONFIG_MAPS, Resource
from allotment_operator.kind import Key, Scope, ServiceRefusedError
from allotment_operator.plans.actions import Action, Apply, Delete, Invoke, ObjectRef
from allotment_operator.plans.outcome import Health, Observed, Outcome, TenantView
from allotment_operator.plans.ownership import Owner, prune
from allotment_operator.reconcile.engine import Allowances, Engine, Ports
from allotment_operator.reconcile.executor import Executor
from allotment_operator.reconcile.observer import Observer
from allotment_operator.reconcile.status import StatusWriter
from fakes.api_server import FakeApiServer
from fakes.faults import FaultPlan
from fakes.in_process import InProcessTransport

NOW = dt.datetime(2026, 3, 1, 12, 0, tzinfo=dt.UTC)
TOYS = Resource.custom(API_VERSION, "Toy", "toys")


class ToySpec(Model):
    """How many ConfigMaps."""

    paused: Bool = False
    """Leaves them alone."""
    count: Count = 1
    """How many."""
    broken: Bool = False
    """Makes the plan fail, as a bug would."""
    apart: Bool = False
    """Makes and removes each in a lane of its own."""


class ToyStatus(Model):
    """What was made."""

    made: Count | None = None
    """How many."""
    each: Annotated[dict[str, str], Field(max_length=100)] = Field(default_factory=dict)
    """Their numbers, by name."""
    conditions: Conditions = ()
    """Standing answers."""


class Toy(ApiResource):
    """A toy."""

    definition: ClassVar[Definition] = Definition(
        kind="Toy", plural="toys", short_names=(), scope="Namespaced", columns=()
    )
    kind: Literal["Toy"] = "Toy"
    """Kind of the object: Toy."""
    spec: ToySpec
    """What is wanted."""
    status: ToyStatus | None = None
    """What is."""


class ToyKind:
    """Plans for toys; sees the tenant and the health that it is given."""

    model = Toy
    scope = Scope(kinds={"v1": ("ConfigMap",)})
    status_fields = frozenset({"made", "each"})

    def __init__(self, health: Health | None = None) -> None:
        self.health = health
        self.silent = 0
        """Questions that are not answered before the next one is."""
        self.answers = asyncio.Event()
        """Cleared: whoever asks waits."""
        self.answers.set()
        self.refuses = ""
        """The ConfigMap that is not let go of."""
        self.trouble = ""
        """What the plan itself says of the condition Degraded."""

    def plan(self, resource: Toy, observed: Observed, *, now: dt.datetime) -> Outcome:
        if resource.spec.broken:
            raise KeyError("oops")
        owner = _owner(resource)
        name = resource.metadata.name
        wanted = [
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": owner.metadata(f"{name}-{number}"),
                "data": {"number": str(number)},
            }
            for number in range(resource.spec.count)
        ]
        refs = [ObjectRef.of(each) for each in wanted]
        surplus = prune(observed.children, refs, kinds=frozenset({"ConfigMap"}))
        there = sum(ref in observed.children for ref in refs)
        ready = condition(ConditionType.READY, there == len(refs), "Counted", f"{there} of {len(refs)}", now=now)
        if observed.health is not None and not observed.health.ready:
            ready = condition(ConditionType.READY, False, observed.health.reason, observed.health.message, now=now)
        lanes = {ObjectRef.of(each).name: (Apply(each),) for each in wanted} if resource.spec.apart else {}
        actions: list[Action] = [*([] if lanes else map(Apply, wanted)), *surplus]
        each = {ref.name: observed.children[ref]["data"]["number"] for ref in refs if ref in observed.children}
        again = None if there == len(refs) else 0.1
        trouble = self.trouble
        degraded = condition(
            ConditionType.DEGRADED, bool(trouble), "WaitingForPods", trouble or "No pod has failed.", now=now
        )
        return Outcome(tuple(actions), (ready, degraded), {"made": there, "each": each}, again, lanes)

    def note_failures(self, resource: Toy, outcome: Outcome, failures: Mapping[str, str]) -> Outcome:  # noqa: ARG002 - the protocol's
        each = outcome.status.get("each", {}) | dict.fromkeys(failures, "failed")
        return replace(outcome, status={**outcome.status, "each": each})

    def release(self, resource: Toy, observed: Observed, *, now: dt.datetime) -> Outcome | None:
        left = observed.of_kind("ConfigMap")
        if not left:
            return None
        says = condition(ConditionType.READY, False, "Deleting", f"{len(left)} are left", now=now)
        deletions = tuple(Delete(ObjectRef.of(each), each["metadata"]["uid"]) for each in left)
        if resource.spec.apart:
            lanes = {each.ref.name: (Invoke("let-go", each.ref.name), each) for each in deletions}
            return Outcome((), (says,), {"phase": "Deleting"}, lanes=lanes)
        return Outcome(deletions, (says,), {"phase": "Deleting"})

    async def perform(self, resource: Toy, observed: Observed, action: Invoke) -> None:  # noqa: ARG002 - the protocol's
        await self.answers.wait()
        if action.subject == self.refuses:
            raise ServiceRefusedError("the stand-in refuses")

    async def probe(self, resource: Toy, observed: Observed) -> Health | None:  # noqa: ARG002 - the protocol's
        await self.answers.wait()
        if self.silent:
            self.silent -= 1
            return Health(ready=False, reason="Unreachable", message="Nobody answers.", silent=True)
        return self.health


def _owner(resource: Toy) -> Owner:
    metadata = resource.metadata
    return Owner(API_VERSION, "Toy", metadata.namespace or "", metadata.name, metadata.uid or "")


@dataclass
class OneTenant:
    """Every namespace belongs to the same tenant, or to nobody."""

    tenant: TenantView | None = None

    def view(self, namespace: str) -> TenantView | None:  # noqa: ARG002 - the protocol's
        return self.tenant


@dataclass
class Notes:
    """Keeps what was told: Events and the audit trail."""

    events: list[tuple[str, str, str]] = field(default_factory=list)
    acts: list[tuple[str, str, str]] = field(default_factory=list)

    def note(self, about: Mapping[str, Any], *, reason: str, message: str, severity: Any) -> bool:  # noqa: ARG002 - the protocol's
        self.events.append((about["metadata"]["name"], reason, str(severity)))
        return True

    def record(self, key: Key, *, action: str, subject: str, outcome: str, **_: Any) -> None:  # noqa: ARG002 - the protocol's
        self.acts.append((action, subject, outcome))


@dataclass
class Workbench:
    """An engine for toys on a fake API server."""

    server: FakeApiServer = field(default_factory=FakeApiServer)
    faults: FaultPlan = field(default_factory=FaultPlan)
    health: Health | None = None
    finalizer: str = ""
    allowances: Allowances | None = None
    tenant: TenantView | None = field(default_factory=lambda: TenantView("toys"))
    notes: Notes = field(default_factory=Notes)
    kind: ToyKind = field(init=False)
    client: Client = field(init=False)
    engine: Engine = field(init=False)

    def __post_init__(self) -> None:
        self.server.register(TOYS)
        self.kind = ToyKind(self.health)
        self.restart()

    def restart(self) -> None:
        """A new engine that remembers nothing."""
        self.client = Client(InProcessTransport(self.server, self.faults))
        self.engine = Engine(
            {"Toy": self.kind},
            Ports(
                client=self.client,
                executor=Executor(self.client, clock=lambda: NOW, audit=self.notes),
                observer=Observer(self.client, namespace="operator"),
                statuses=StatusWriter(self.client),
                tenants=OneTenant(self.tenant),
                clock=lambda: NOW,
                events=self.notes,
                finalizer=self.finalizer,
                allowances=self.allowances,
            ),
        )

    def put(self, name: str, *, finalizers: tuple[str, ...] = (FINALIZER,), **spec: Any) -> Key:
        """Create or change a toy behind everybody's back."""
        live = self.server.get(TOYS, name, "play")
        generation = (live["metadata"].get("generation", 0) if live else 0) + 1
        metadata = {"name": name, "namespace": "play", "generation": generation, "finalizers": list(finalizers)}
        kept = {"status": live["status"]} if live and "status" in live else {}
        manifest = {"apiVersion": API_VERSION, "kind": "Toy", "metadata": metadata, "spec": spec, **kept}
        self.server.put(TOYS, manifest)
        return Key("Toy", "play", name)

    def toy(self, name: str) -> dict[str, Any]:
        found = self.server.get(TOYS, name, "play")
        assert found is not None
        return found

    def condition(self, name: str, type_: str) -> dict[str, Any]:
        conditions = (self.toy(name).get("status") or {}).get("conditions") or []
        return next((each for each in conditions if each["type"] == type_), {})

    def made(self) -> list[str]:
        return sorted(each["metadata"]["name"] for each in self.server.objects(CONFIG_MAPS, "play"))

    def writes(self) -> int:
        """How many requests have changed or tried to change something."""
        return sum(entry.method != "GET" for entry in self.server.journal)
