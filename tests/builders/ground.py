"""Grounds to try the scheduler on: nodes, pools, tenants and pods of one test on a shared cluster."""

from dataclasses import dataclass, field
from typing import Any

from allotment_local.stages import SHUTDOWN
from builders.api_server import Actor, Answer
from builders.helm_chart import tenant_policy
from builders.tenant_objects import await_default_service_account

ALLOTMENT = "/apis/allotment.dev/v1alpha1"
GROUND = "allotment.dev/ground"
_NEVER = 3_600
"""Seconds that outlast every test."""


@dataclass
class Ground:
    """Nodes, pools and tenants of one test, under names of its own; everything is taken away when it is over."""

    admin: Actor
    name: str
    made: list[str] = field(default_factory=list)

    def create(self, path: str, manifest: dict[str, Any], *, remember: bool = True) -> dict[str, Any]:
        answer = self.admin.request("POST", path, manifest)
        assert answer.accepted, answer.message
        if remember:
            self.made.append(f"{path}/{manifest['metadata']['name']}")
        return answer.body

    def node(self, number: int, *, labels: dict[str, str] | None = None, taints: Any = None, **amounts: Any) -> str:
        """A simulated node that only this test's pods tolerate."""
        name = f"{self.name}-{number}"
        room = {"cpu": "4", "memory": "16Gi", "pods": "110", **amounts}
        manifest = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "labels": {GROUND: self.name, "kubernetes.io/hostname": name, **(labels or {})},
                "annotations": {"kwok.x-k8s.io/node": "fake"},
            },
            "spec": {"taints": taints or []},
            "status": {
                "capacity": room,
                "allocatable": room,
                "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "simulated"}],
            },
        }
        self.create("/api/v1/nodes", manifest)
        return name

    def nodes(self, count: int, **given: Any) -> list[str]:
        return [self.node(number, **given) for number in range(count)]

    def pool(self, word: str = "pool", **spec: Any) -> str:
        name = f"{self.name}-{word}"
        selector = {"matchLabels": {GROUND: self.name}}
        manifest = {
            "apiVersion": "allotment.dev/v1alpha1",
            "kind": "NodePool",
            "metadata": {"name": name},
            "spec": {"selector": selector, **spec},
        }
        self.create(f"{ALLOTMENT}/nodepools", manifest)
        return name

    def tenant(self, word: str, *, namespace: bool = True, **spec: Any) -> str:
        """A tenant with a namespace of the same name, as the operator would furnish it."""
        name = f"{self.name}-{word}"
        full = {"namespaces": [name], **spec} if namespace else spec
        manifest = {"apiVersion": "allotment.dev/v1alpha1", "kind": "Tenant", "metadata": {"name": name}, "spec": full}
        self.create(f"{ALLOTMENT}/tenants", manifest)
        if namespace:
            self.namespace(name, labels={"allotment.dev/tenant": name})
            policy = tenant_policy(name, tenant=name)
            self.create(f"{ALLOTMENT}/namespaces/{name}/tenantpolicies", policy, remember=False)
        return name

    def namespace(self, name: str, *, labels: dict[str, str] | None = None) -> str:
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels or {}}}
        self.create("/api/v1/namespaces", manifest)
        await_default_service_account(self.admin, name)
        return name

    def pod(
        self,
        namespace: str,
        name: str,
        *,
        labels: dict[str, str] | None = None,
        annotations: dict[str, str] | None = None,
        cpu: str = "1",
        requests: dict[str, str] | None = None,
        **spec: Any,
    ) -> None:
        """A pod that keeps to this test's nodes."""
        wanted = requests or {"cpu": cpu, "memory": "64Mi"}
        manifest = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": labels or {},
                "annotations": annotations or {},
            },
            "spec": self.pod_spec(wanted, **spec),
        }
        self.create(f"/api/v1/namespaces/{namespace}/pods", manifest, remember=False)

    def pod_that_stops_when_told(self, namespace: str, name: str, **given: Any) -> None:
        """A pod whose containers outlive its deletion until `delete_pod` ends it.

        A finalizer would keep the object alone: a simulated node ends the containers at once, and a pod in a terminal
        phase holds no room.
        """
        annotations = {SHUTDOWN: f"{_NEVER}s"}
        self.pod(namespace, name, annotations=annotations, terminationGracePeriodSeconds=_NEVER, **given)

    def pod_spec(self, wanted: dict[str, str], **spec: Any) -> dict[str, Any]:
        resources = {"requests": wanted, "limits": {key: it for key, it in wanted.items() if "/" in key}}
        return {
            "schedulerName": "allotment",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "nodeSelector": {GROUND: self.name},
            "containers": [{"name": "main", "image": "registry.bank/app:1", "resources": resources}],
            **spec,
        }

    def pods(self, namespace: str) -> dict[str, dict[str, Any]]:
        answer = self.admin.request("GET", f"/api/v1/namespaces/{namespace}/pods")
        return {each["metadata"]["name"]: each for each in answer.body["items"]}

    def nodes_of(self, namespace: str) -> dict[str, str]:
        """Bound pods and their nodes, those on their way out left aside."""
        return {
            name: pod["spec"]["nodeName"]
            for name, pod in self.pods(namespace).items()
            if pod["spec"].get("nodeName") and not pod["metadata"].get("deletionTimestamp")
        }

    def condition(self, namespace: str, name: str) -> dict[str, Any]:
        """The pod's condition PodScheduled, empty while there is none."""
        found = self.pods(namespace)[name]["status"].get("conditions") or []
        return next((dict(each) for each in found if each["type"] == "PodScheduled"), {})

    def status(self, plural: str, name: str, namespace: str = "") -> dict[str, Any]:
        scope = f"/namespaces/{namespace}" if namespace else ""
        answer = self.admin.request("GET", f"{ALLOTMENT}{scope}/{plural}/{name}")
        return dict(answer.body.get("status") or {})

    def change(self, path: str, patch: dict[str, Any]) -> Answer:
        return self.admin.request("PATCH", path, patch, content_type="application/merge-patch+json")

    def delete_pod(self, namespace: str, name: str) -> None:
        self.admin.request("DELETE", f"/api/v1/namespaces/{namespace}/pods/{name}", {"gracePeriodSeconds": 0})

    def leave(self) -> None:
        for path in reversed(self.made):
            self.admin.request("DELETE", path)
