"""What others do to a cluster while the scheduler works: people, controllers, kubelets and other schedulers.

Each deed is one method, and `deeds` names them all; the run counts which of them took place. Whatever a deed leaves
half done, `Meddling.settle` ends: afterwards nobody's pods wait for somebody else.
"""

import contextlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from builders.api_server import Answer
from builders.ground import ALLOTMENT, Ground

_FINALIZER = "example.org/held"
_MERGE = "application/strategic-merge-patch+json"
_CLOSES = 0.3
"""How many of the changes to a node close it; the others open it."""


@dataclass
class Meddling:
    """Deeds on the nodes, pods and objects of a ground.

    Args:
        ground: where.
        rng: the run's.
        nodes: how many there are, numbered from 0.
        cpu: of each.
        memory: of each.
        tenant: whose pods are drained, resized and poisoned.
        limited: a tenant with a limit.
        evicts: told the uid of a pod before it is evicted here.
    """

    ground: Ground
    rng: random.Random
    nodes: int
    cpu: str
    memory: str
    tenant: str
    limited: str
    evicts: Callable[[str], None]
    _foreign: str = ""
    _held: set[str] = field(default_factory=set)
    _poison: set[str] = field(default_factory=set)
    _count: int = 0

    def prepare(self) -> None:
        """A namespace that is no tenant's."""
        self._foreign = self.ground.namespace(f"{self.ground.name}-foreign")

    def deeds(self) -> list[Callable[[], None]]:
        """All of them."""
        return [
            self.cordon, self.taint, self.taint_and_evict, self.drain, self.recreate_node, self.take_node_away,
            self.vanish, self.delete_at_once, self.resize, self.place_foreign_pod, self.delete_held_pod,
            self.spoil_tenant, self.spoil_pool, self.poison,
        ]  # fmt: skip

    def settle(self) -> None:
        """Every node is there and open, and nothing that was put in the way is left."""
        ground = self.ground
        for number in range(self.nodes):
            if not ground.admin.request("GET", self._node_path(number)).accepted:
                self._make_node(number)
            self._must(ground.change(self._node_path(number), {"spec": {"unschedulable": False, "taints": None}}))
        self._mend_tenant()
        self._mend_pool()
        for name in [*ground.pods(self._foreign)]:
            ground.delete_pod(self._foreign, name)
        for name in [*self._poison]:
            ground.delete_pod(self.tenant, name)
        for name in [*self._held]:
            self._let_go(name)
        for name in ground.pods(self.limited):  # some have grown
            ground.delete_pod(self.limited, name)

    # --- nodes ----------------------------------------------------------------------------------------------------

    def cordon(self) -> None:
        """Close a node, or open it again."""
        self._change_node({"unschedulable": self.rng.random() < _CLOSES})

    def taint(self) -> None:
        """Keep new pods from a node, or admit them again."""
        self._change_node({"taints": self._taints("NoSchedule")})

    def taint_and_evict(self) -> None:
        """Have the taint manager delete a node's pods, or end that."""
        self._change_node({"taints": self._taints("NoExecute")})

    def drain(self) -> None:
        """As `kubectl drain`: close a node and evict what runs there, gangs' members too; then open it."""
        node = self._node_path(self.rng.randrange(self.nodes))
        self.ground.change(node, {"spec": {"unschedulable": True}})
        for pod in self._pods_of_ground(self.rng.randint(1, 4), on=node.rpartition("/")[2]):
            self._evict(pod)
        self.ground.change(node, {"spec": {"unschedulable": False}})

    def recreate_node(self) -> None:
        """A node goes and comes back under its name, and with it the room."""
        number = self.rng.randrange(self.nodes)
        self.ground.admin.request("DELETE", self._node_path(number))
        self._make_node(number)

    def take_node_away(self) -> None:
        """A node goes for a while, or one that went comes back; never more than one is gone."""
        there = [self.ground.admin.request("GET", self._node_path(number)).accepted for number in range(self.nodes)]
        if all(there):
            self.ground.admin.request("DELETE", self._node_path(self.rng.randrange(self.nodes)))
        else:
            self._make_node(there.index(False))

    def _change_node(self, spec: dict[str, Any]) -> None:
        self.ground.change(self._node_path(self.rng.randrange(self.nodes)), {"spec": spec})

    def _taints(self, effect: str) -> list[dict[str, str]] | None:
        taint = {"key": "example.org/tried", "value": "yes", "effect": effect}
        return [taint] if self.rng.random() < _CLOSES else None

    def _node_path(self, number: int) -> str:
        return f"/api/v1/nodes/{self.ground.name}-{number}"

    def _make_node(self, number: int) -> None:
        self.ground.node(number, cpu=self.cpu, memory=self.memory)

    # --- pods -----------------------------------------------------------------------------------------------------

    def vanish(self) -> None:
        """Somebody deletes pods: bound ones, and ones that are being bound."""
        for pod in self._pods_of_ground(6)[:3]:
            if "job-name" not in pod["metadata"].get("labels", {}):  # its Job would count a failure and back off
                self.ground.delete_pod(pod["metadata"]["namespace"], pod["metadata"]["name"])

    def delete_at_once(self) -> None:
        """A pod is made and deleted again, while it is being bound."""
        name = self._new_name("fleeting")
        self.ground.pod(self.tenant, name)
        self.ground.delete_pod(self.tenant, name)

    def resize(self) -> None:
        """A running pod is made larger or smaller where it stands."""
        pods = [pod for pod in self._pods_of_ground(20) if pod["spec"].get("nodeName")]
        for pod in pods[:3]:
            path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}/resize"
            requests = {"cpu": self.rng.choice(["500m", "1", "2"])}
            change = {"spec": {"containers": [{"name": "main", "resources": {"requests": requests}}]}}
            self.ground.admin.request("PATCH", path, change, content_type=_MERGE)

    def place_foreign_pod(self) -> None:
        """Another scheduler places a pod on a node of ours, full or not; the third goes before the next comes."""
        there = sorted(self.ground.pods(self._foreign))
        if len(there) >= 3:
            self.ground.delete_pod(self._foreign, self.rng.choice(there))
        node = f"{self.ground.name}-{self.rng.randrange(self.nodes)}"
        name = self._new_name("foreign")
        self.ground.pod(self._foreign, name, cpu="2", schedulerName="default-scheduler", nodeName=node)

    def delete_held_pod(self) -> None:
        """A pod with a finalizer is deleted, and stays an object; or its finalizer is taken away at last."""
        if len(self._held) >= 3:
            self._let_go(self.rng.choice(sorted(self._held)))
            return
        name = self._new_name("held")
        self.ground.pod(self.tenant, name)
        self._held.add(name)
        path = f"/api/v1/namespaces/{self.tenant}/pods/{name}"
        self.ground.change(path, {"metadata": {"finalizers": [_FINALIZER]}})
        self.ground.delete_pod(self.tenant, name)

    def _let_go(self, name: str) -> None:
        path = f"/api/v1/namespaces/{self.tenant}/pods/{name}"
        self.ground.change(path, {"metadata": {"finalizers": None}})
        self.ground.delete_pod(self.tenant, name)
        self._held.discard(name)

    def _pods_of_ground(self, most: int, *, on: str = "") -> list[dict[str, Any]]:
        """Some pods of tenants, of all or of one node."""
        names = [*self._namespaces()]
        found = [pod for name in names for pod in self.ground.pods(name).values()]
        found = [pod for pod in found if not on or pod["spec"].get("nodeName") == on]
        found.sort(key=lambda pod: (pod["metadata"]["namespace"], pod["metadata"]["name"]))
        return self.rng.sample(found, k=min(most, len(found)))

    def _namespaces(self) -> Iterator[str]:
        yield from (path.rpartition("/")[2] for path in self.ground.made if path.startswith(f"{ALLOTMENT}/tenants/"))

    def _evict(self, pod: dict[str, Any]) -> None:
        about = pod["metadata"]
        self.evicts(about["uid"])
        path = f"/api/v1/namespaces/{about['namespace']}/pods/{about['name']}/eviction"
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": about["name"], "namespace": about["namespace"]},
            "deleteOptions": {"preconditions": {"uid": about["uid"]}},
        }
        self.ground.admin.request("POST", path, body)

    def _new_name(self, word: str) -> str:
        self._count += 1
        return f"{word}-{self._count}"

    # --- objects --------------------------------------------------------------------------------------------------

    def spoil_tenant(self) -> None:
        """The tenant with the limit gets a parent that does not exist, or loses it: its last good version holds."""
        if self.rng.random() < 0.5:
            self._mend_tenant()
        else:
            self.ground.change(f"{ALLOTMENT}/tenants/{self.limited}", {"spec": {"parent": f"{self.limited}-nobody"}})

    def spoil_pool(self) -> None:
        """A second pool wants the same nodes, and gets none as its name is the later one; or it goes away."""
        if self.ground.admin.request("GET", self._second_pool()).accepted:
            self._mend_pool()
        else:
            self.ground.pool("second")

    def poison(self) -> None:
        """A pod that nobody can place, or that says nonsense; the third goes before the next comes."""
        if len(self._poison) >= 3:
            name = self.rng.choice(sorted(self._poison))
            self.ground.delete_pod(self.tenant, name)
            self._poison.discard(name)
            return
        name = self._new_name("poison")
        self._poison.add(name)
        self.ground.pod(self.tenant, name, **self.rng.choice(_POISONS))

    def _mend_tenant(self) -> None:
        self._must(self.ground.change(f"{ALLOTMENT}/tenants/{self.limited}", {"spec": {"parent": None}}))

    def _mend_pool(self) -> None:
        self.ground.admin.request("DELETE", self._second_pool())
        with contextlib.suppress(ValueError):
            self.ground.made.remove(self._second_pool())

    def _second_pool(self) -> str:
        return f"{ALLOTMENT}/nodepools/{self.ground.name}-second"

    def _must(self, answer: Answer) -> None:
        assert answer.accepted, answer.message


def _affinity(operator: str, value: str) -> dict[str, Any]:
    term = {"matchExpressions": [{"key": "example.org/rank", "operator": operator, "values": [value]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}


_POISONS: list[dict[str, Any]] = [
    {"requests": {"cpu": "9E", "memory": "9E"}},
    {"labels": {"allotment.dev/pod-group": "nobody"}},
    {"affinity": _affinity("Gt", "99999999999999999999")},
    {"affinity": _affinity("Lt", "-99999999999999999999")},
    {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "nobody"}}]},
    {"annotations": {"allotment.dev/max-runtime": "soon"}},
    {"requests": {"cpu": "1n", "memory": "1m"}, "nodeSelector": {"example.org/nowhere": "yes"}},
]
"""Room that no node has, a group and a claim that do not exist, numbers beyond all integers, and other nonsense."""
