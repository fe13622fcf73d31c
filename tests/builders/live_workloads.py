"""What the live benchmark lets schedulers bind: pods, the tenants they belong to, and the gangs they form."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final
from uuid import NAMESPACE_DNS, uuid5

Manifest = dict[str, Any]
GROUPS: Final = 20


@dataclass(frozen=True)
class Workload:
    """One kind of work.

    Attributes:
        what: in words.
        pods: how many, unless the command line says otherwise.
        tenants: leaves among which the pods are dealt out; their weights alternate between 1, 2 and 0.5.
        gang: members of a gang; 1 is none.
        rate: pods created per second while the schedulers run; 0 creates all of them beforehand.
        full: whether many pods run all the time beside it.
        shape: what of a pod's spec and labels makes the workload what it is.
    """

    what: str
    pods: int
    tenants: int = 3
    gang: int = 1
    rate: float = 0.0
    full: bool = False
    shape: Callable[[int], Manifest] = lambda _: {}

    def namespace(self, number: int) -> str:
        """Where pod number so and so lies; members of a gang lie together."""
        return f"bench-{number // self.gang % self.tenants}"

    def pod(self, number: int, scheduler: str) -> Manifest:
        """One pod, to be placed by the scheduler of this name."""
        labels = {"app": "bench", "group": f"g{number % GROUPS}"}
        if self.gang > 1:
            labels["allotment.dev/pod-group"] = f"gang-{number // self.gang}"
        requests = {"cpu": "100m", "memory": "500Mi"}
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"pod-{number}", "namespace": self.namespace(number), "labels": labels},
            "spec": {
                "schedulerName": scheduler,
                "automountServiceAccountToken": False,
                "containers": [{"name": "main", "image": "registry.bank/app:1", "resources": {"requests": requests}}],
                **self.shape(number),
            },
        }

    def gangs(self, pods: int) -> Iterator[Manifest]:
        """The PodGroups of so many pods."""
        for number in range(0, pods if self.gang > 1 else 0, self.gang):
            yield {
                "apiVersion": "allotment.dev/v1alpha1",
                "kind": "PodGroup",
                "metadata": {"name": f"gang-{number // self.gang}", "namespace": self.namespace(number)},
                "spec": {"minMember": self.gang},
            }


def spread(_: int) -> Manifest:
    """Even over the zones, at most one apart."""
    constraint = {
        "maxSkew": 1,
        "topologyKey": "topology.kubernetes.io/zone",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "bench"}},
    }
    return {"topologySpreadConstraints": [constraint]}


def affinity(number: int) -> Manifest:
    """In the zone where the pods of the own group are."""
    return {"affinity": {"podAffinity": _required(number, "topology.kubernetes.io/zone")}}


def anti_affinity(number: int) -> Manifest:
    """On a node without a pod of the own group."""
    return {"affinity": {"podAntiAffinity": _required(number, "kubernetes.io/hostname")}}


def _required(number: int, topology: str) -> Manifest:
    selector = {"matchLabels": {"group": f"g{number % GROUPS}"}}
    term = {"topologyKey": topology, "labelSelector": selector}
    return {"requiredDuringSchedulingIgnoredDuringExecution": [term]}


WORKLOADS: Final = {
    "simple": Workload("simple pods, all waiting before the start", 4000),
    "gangs": Workload("gangs of four among 200 tenants", 4000, tenants=200, gang=4),
    "stream": Workload("simple pods, 100 created per second", 1500, rate=100.0),
    "spread": Workload("zone topology spread, DoNotSchedule", 2000, shape=spread),
    "affinity": Workload("required pod affinity by zone, 20 groups", 2000, shape=affinity),
    "anti-affinity": Workload("required pod anti-affinity by host, 20 groups", 2000, shape=anti_affinity),
    # Last, because what is running stays.
    "stream-full": Workload("the stream beside 50,000 running pods", 1500, rate=100.0, full=True),
}


def node(number: int) -> Manifest:
    """A simulated node of 32 CPUs in one of three zones."""
    name = f"node-{number}"
    room = {"cpu": "32", "memory": "128Gi", "pods": "110"}
    labels = {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": f"zone-{number % 3}"}
    ready = {"type": "Ready", "status": "True", "reason": "Simulated", "message": "simulated"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "status": {"capacity": room, "allocatable": room, "conditions": [ready]},
    }


def running_pod(number: int, nodes: int, *, namespace: str = "bench-0") -> Manifest:
    """A pod that is placed already, as a ReplicaSet of fifty makes them: only name and uid are its own."""
    made = Workload("", 0).pod(number, "allotment")
    name = f"app-{number // 50}"
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": str(uuid5(NAMESPACE_DNS, name))}
    made["metadata"] |= {
        "name": f"running-{number}",
        "namespace": namespace,
        "labels": {"app": name, "pod-template-hash": f"{number // 50:08x}"},
        "ownerReferences": [{**owner, "controller": True, "blockOwnerDeletion": True}],
    }
    made["spec"] |= {"nodeName": f"node-{number % nodes}"}
    return made
