"""A small world in memory in which a service's plans are carried out, with a StatefulSet controller.

It stands in for the API server where a test is about plans: what a plan asks for exists afterwards, what it deletes is
gone, Secrets are made by the operator's own code. It knows no schema and no defaults; the real server does.
"""

import contextlib
import copy
import datetime as dt
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from allotment_api.labels import API_VERSION
from allotment_api.names import LabelSelector
from allotment_kube.errors import RejectedError
from allotment_operator.kind import ServiceRefusedError
from allotment_operator.plans.actions import (
    Action,
    Apply,
    Delete,
    EnsureAuthority,
    EnsureCertificate,
    EnsureCredential,
    Invoke,
    ObjectRef,
)
from allotment_operator.plans.outcome import Health, NodePoolView, Observed, Outcome, TenantView
from allotment_operator.reconcile import credentials

NOW = dt.datetime(2026, 3, 1, 12, 0, tzinfo=dt.UTC)
"""Of rounds in worlds that meet nothing real."""
HOME = "allotment-system"

RETAIL = TenantView(
    "retail",
    guaranteed=frozenset({"cpu", "memory"}),
    pools={"fast": NodePoolView(LabelSelector(match_labels={"disk": "nvme"}), ("storage.bank/dedicated",))},
    ways_in=frozenset({"NodePort", "LoadBalancer"}),
)
"""A tenant with a guarantee and one pool, that may be reached from outside."""


def custom(kind: str, name: str, namespace: str = "payments", *, uid: str = "uid-1", **spec: Any) -> dict[str, Any]:
    """A custom resource as the API server holds it."""
    metadata = {"name": name, "namespace": namespace, "uid": uid, "generation": 1, "resourceVersion": "1"}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}


class World:
    """Objects that exist, and one custom resource whose kind plans them.

    Args:
        kind: an instance of the kind under test.
        manifest: the custom resource.
        tenant: who owns its namespace.
        hosts: further names on every server's certificate.
        now: the time of its rounds; certificates that something real checks need the true one.
    """

    def __init__(
        self,
        kind: Any,
        manifest: Mapping[str, Any],
        *,
        tenant: TenantView | None = RETAIL,
        hosts: tuple[str, ...] = (),
        now: dt.datetime = NOW,
    ) -> None:
        self.kind = kind
        self.manifest = copy.deepcopy(dict(manifest))
        self.tenant = tenant
        self.hosts = hosts
        self.objects: dict[ObjectRef, dict[str, Any]] = {}
        self.health: Health | None = None
        self.invoked: list[Invoke] = []
        self.deleted: list[ObjectRef] = []
        self.now = now
        self.refused: frozenset[str] = frozenset()
        """Kinds of objects that a policy refuses."""
        self._uids = 0

    @property
    def resource(self) -> Any:
        return self.kind.model.parse(self.manifest)

    @property
    def observed(self) -> Observed:
        """What a round would see: children by label."""
        found = {
            ref: copy.deepcopy(each)
            for ref, each in self.objects.items()
            if (each["metadata"].get("labels") or {}).get("allotment.dev/instance") == self.manifest["metadata"]["name"]
        }
        return Observed(children=found, tenant=self.tenant, health=self.health)

    def plan(self) -> Outcome:
        """Plan, and carry nothing out."""
        outcome: Outcome = self.kind.plan(self.resource, self.observed, now=self.now)
        return outcome

    def round(self) -> Outcome:
        """Plan, carry out, and write the status."""
        outcome = self.plan()
        self._execute(outcome)
        self.report(outcome)
        return outcome

    async def meet(self) -> Outcome:
        """One whole round with a service that can be asked: probe, plan, carry out, perform, report."""
        self.health = await self.kind.probe(self.resource, self.observed)
        outcome = self.plan()
        await self._perform(outcome)
        self.report(outcome)
        return outcome

    async def settle(self, rounds: int = 8) -> Outcome:
        """Meet until nothing is left to do soon; the last round's outcome."""
        for _ in range(rounds):
            outcome = await self.meet()
            if not self._called(outcome) and not (outcome.requeue_after and outcome.requeue_after <= 1):
                return outcome
        raise AssertionError(f"after {rounds} rounds there is still something to do")

    async def let_go(self) -> Outcome | None:
        """One step of taking a resource down whose service can be told."""
        outcome: Outcome | None = self.kind.release(self.resource, self.observed, now=self.now)
        if outcome is not None:
            await self._perform(outcome)
            self.report(outcome)
        return outcome

    async def _perform(self, outcome: Outcome) -> None:
        seen = self.observed
        self._execute(outcome)
        for action in outcome.actions:
            if isinstance(action, Invoke):
                await self.kind.perform(self.resource, seen, action)
        for lane in outcome.lanes.values():
            with contextlib.suppress(ServiceRefusedError):
                for action in lane:
                    if isinstance(action, Invoke):
                        await self.kind.perform(self.resource, seen, action)

    @staticmethod
    def _called(outcome: Outcome) -> list[Invoke]:
        return [action for action in all_actions(outcome) if isinstance(action, Invoke)]

    def deploy(self, rounds: int = 4, health: Health | None = None) -> Outcome:
        """Run rounds, with the StatefulSet controller in between, until pods run; then once more."""
        for _ in range(rounds):
            self.round()
            self.run_pods()
        self.health = health or Health(ready=True, reason="Serves", message="It serves.")
        return self.round()

    def release(self) -> Outcome | None:
        """One step of taking the resource down."""
        outcome: Outcome | None = self.kind.release(self.resource, self.observed, now=self.now)
        if outcome is not None:
            self._execute(outcome)
            self.report(outcome)
            self._collect_garbage()
        return outcome

    def report(self, outcome: Outcome) -> None:
        said = {each.type: each.manifest() for each in outcome.conditions}
        before = self.manifest.get("status", {})
        kept = [each for each in before.get("conditions", []) if each["type"] not in said]
        self.manifest["status"] = {**before, **outcome.status, "conditions": [*kept, *said.values()]}

    def _execute(self, outcome: Outcome) -> None:
        """Carry out an outcome as the engine does: what fails in a lane ends that lane only."""
        self.carry_out(outcome.actions)
        for lane in outcome.lanes.values():
            with contextlib.suppress(RejectedError):
                self.carry_out(lane)

    def carry_out(self, actions: tuple[Action, ...]) -> None:
        for action in actions:
            match action:
                case Apply(manifest) if manifest["kind"] in self.refused:
                    raise RejectedError(f"a policy refuses {action.ref}")
                case Apply(manifest):
                    self.put(manifest)
                case Delete(ref, _):
                    self.deleted.append(ref)
                    self.objects.pop(ref, None)
                case Invoke():
                    self.invoked.append(action)
                case EnsureCredential():
                    live = self.objects.get(action.ref)
                    self._secret(credentials.credential(action, live, password=lambda length: "p" * length))
                case EnsureAuthority():
                    self._secret(credentials.authority(action, self.objects.get(action.ref), now=self.now))
                case EnsureCertificate():
                    live, signer = self.objects.get(action.ref), self.objects.get(action.authority)
                    named = replace(action, dns_names=(*action.dns_names, *self.hosts))
                    self._secret(credentials.certificate(named, live, signer, now=self.now))

    def put(self, manifest: Mapping[str, Any]) -> None:
        """Apply a manifest over what is there; lists are replaced, as far as these tests go."""
        ref = ObjectRef.of(manifest)
        live = self.objects.get(ref)
        if live is None:
            self._uids += 1
            live = {"metadata": {"uid": f"object-{self._uids}", "generation": 1}}
        before = copy.deepcopy(live.get("spec"))
        merged = _merge(live, manifest)
        if ref.kind in ("ConfigMap", "Secret"):
            merged["data"] = copy.deepcopy(dict(manifest.get("data") or {}))
        if before is not None and merged.get("spec") != before:
            merged["metadata"]["generation"] += 1
        self.objects[ref] = merged

    def run_pods(self, *, ready: bool = True, node: str = "node-1") -> None:
        """Do what the StatefulSet controller and the nodes do: pods and claims as asked for, new ones of the latest.

        Without a node new pods find no room, and their claims no volume.
        """
        for ref, each in list(self.objects.items()):
            if ref.kind != "StatefulSet":
                continue
            revision = hashlib.sha256(json.dumps(each["spec"]["template"], sort_keys=True).encode()).hexdigest()[:10]
            each["status"] = {"updateRevision": revision, "observedGeneration": each["metadata"]["generation"]}
            for ordinal in range(each["spec"]["replicas"]):
                self._pod(ref, each, ordinal, revision, ready=ready, node=node)
                self._claims(ref, each, ordinal, phase="Bound" if node else "Pending")
            for name in [*self.of_kind("Pod")]:
                number = name.removeprefix(f"{ref.name}-")
                if number.isdecimal() and int(number) >= each["spec"]["replicas"]:
                    del self.objects[ObjectRef("v1", "Pod", ref.namespace, name)]

    def of_kind(self, kind: str) -> dict[str, dict[str, Any]]:
        """Objects of a kind, by name."""
        return {ref.name: each for ref, each in sorted(self.objects.items()) if ref.kind == kind}

    def edit(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change the spec, as its owner would."""
        change(self.manifest["spec"])
        self.manifest["metadata"]["generation"] += 1

    def condition(self, type_: str) -> dict[str, Any]:
        found: dict[str, Any] = next(each for each in self.manifest["status"]["conditions"] if each["type"] == type_)
        return found

    def _pod(
        self, ref: ObjectRef, owner: dict[str, Any], ordinal: int, revision: str, *, ready: bool, node: str
    ) -> None:
        template = owner["spec"]["template"]
        name = f"{ref.name}-{ordinal}"
        pod_ref = ObjectRef("v1", "Pod", ref.namespace, name)
        if pod_ref not in self.objects:
            metadata = {
                "name": name,
                "namespace": ref.namespace,
                "labels": {**template["metadata"]["labels"], "controller-revision-hash": revision},
                "annotations": template["metadata"].get("annotations", {}),
                "ownerReferences": [{"kind": "StatefulSet", "name": ref.name, "uid": owner["metadata"]["uid"]}],
            }
            spec = {**template["spec"], **({"nodeName": node} if node else {})}
            self.put({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        ready = ready and "nodeName" in self.objects[pod_ref]["spec"]
        status = {"conditions": [{"type": "Ready", "status": "True" if ready else "False"}], "hostIP": "192.0.2.7"}
        self.objects[pod_ref]["status"] = status

    def _claims(self, ref: ObjectRef, owner: dict[str, Any], ordinal: int, *, phase: str) -> None:
        for template in owner["spec"].get("volumeClaimTemplates", []):
            name = f"{template['metadata']['name']}-{ref.name}-{ordinal}"
            claim = ObjectRef("v1", "PersistentVolumeClaim", ref.namespace, name)
            if claim not in self.objects:
                metadata = {**template["metadata"], "name": name, "namespace": ref.namespace}
                self.put({**template, "metadata": metadata, "status": {"phase": phase}})

    def _secret(self, manifest: dict[str, Any] | None) -> None:
        if manifest is not None:
            self.put(manifest)

    def _collect_garbage(self) -> None:
        names = set(self.of_kind("StatefulSet"))
        for ref in [ref for ref in self.objects if ref.kind == "Pod"]:
            owners = self.objects[ref]["metadata"].get("ownerReferences", [])
            if owners and owners[0]["name"] not in names:
                del self.objects[ref]


def all_actions(outcome: Outcome) -> tuple[Action, ...]:
    """Every action of an outcome, those of its lanes last."""
    return (*outcome.actions, *(action for lane in outcome.lanes.values() for action in lane))


def without_guarantee(tenant: TenantView) -> TenantView:
    return replace(tenant, guaranteed=frozenset())


def _merge(live: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(copy.deepcopy(live))
    for key, value in wanted.items():
        nested = isinstance(value, Mapping) and isinstance(out.get(key), Mapping)
        if key == "ports" and isinstance(out.get(key), list):
            out[key] = _merge_ports(out[key], value)
        else:
            out[key] = _merge(out[key], value) if nested else copy.deepcopy(value)
    return out


def _merge_ports(live: list[Any], wanted: list[Any]) -> list[Any]:
    """Ports of a Service are told apart by number, and keep the node port that the server chose."""
    known = {each.get("port"): each for each in live}
    return [{**known.get(each.get("port"), {}), **copy.deepcopy(each)} for each in wanted]
