"""Chaos: two copies of the scheduler behind a proxy that fails them, on a ground where much goes on.

Everything follows from the seed but the timing of processes and of the API server.

- `Replicas` are killed with SIGKILL, frozen and woken, and started again when they end, as a kubelet would do.
- `Bustle` keeps a cluster busy so that all rules are at work: a borrower that fills it, an owner who claims its
  guarantee back, gangs, a tenant at its limit; and others meddle: pods vanish, nodes are cordoned, tainted, recreated.
"""

import contextlib
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import urllib3

from allotment_local.stages import DURATION
from builders.ground import ALLOTMENT, Ground
from builders.program_process import SchedulerProcess, eventually

GANG: Final = 3
NODES: Final = 6
CPU: Final = 8
SETTINGS: Final = {
    "leaseSeconds": 8, "minimumRuntimeSeconds": 0, "backoffSeconds": 1, "longestBackoffSeconds": 2,
    "quarantineSeconds": 1, "evictionSeconds": 15, "confirmSeconds": 3, "successorHoldSeconds": 2,
    "evictionsPerHour": 1_000_000, "explainSeconds": 0.5, "numbersSeconds": 1, "statusSeconds": 1,
}  # fmt: skip


class Replicas:
    """Two copies of the scheduler, and whoever starts them again."""

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        self.all = [SchedulerProcess(kubeconfig, folder / f"replica-{number}.log", SETTINGS) for number in range(2)]
        self.ends: list[int] = []
        self.kills = 0
        self.freezes = 0
        self._frozen: tuple[SchedulerProcess, float] | None = None

    def start(self) -> None:
        """Start both, and wait until one leads."""
        for replica in self.all:
            replica.start(wait=False)
        eventually(self.leader, because=self.tail)

    def leader(self) -> SchedulerProcess | None:
        """The copy that says it leads, if any."""
        return next((each for each in self.all if each.process is not None and each.status().get("leading")), None)

    def kill_leader(self) -> bool:
        """As a power cut would; false if nobody leads now."""
        leader = self.leader() if self._frozen is None else None
        if leader is None:
            return False
        self.kills += 1
        leader.kill()
        return True

    def freeze_leader(self, seconds: float) -> bool:
        """Stop the leader in its tracks for a while; false if nobody leads now."""
        leader = self.leader() if self._frozen is None else None
        if leader is None:
            return False
        self.freezes += 1
        leader.signal(signal.SIGSTOP)
        self._frozen = (leader, time.monotonic() + seconds)
        return True

    def look_after(self) -> None:
        """Wake who was frozen long enough, and start who has ended."""
        if self._frozen is not None and time.monotonic() > self._frozen[1]:
            self._frozen[0].signal(signal.SIGCONT)
            self._frozen = None
        for replica in self.all:
            if replica.process is not None and replica.process.poll() is not None:
                self.ends.append(int(replica.process.returncode))
                replica.process = None
            if replica.process is None:
                replica.start(wait=False)

    def wake(self) -> None:
        """Leave nobody frozen."""
        if self._frozen is not None:
            self._frozen[0].signal(signal.SIGCONT)
            self._frozen = None

    def stop(self) -> None:
        """End both."""
        self.wake()
        for replica in self.all:
            replica.kill()

    def exceptions(self) -> list[str]:
        """Exceptions that the logs speak of, losing the Lease aside."""
        return [line["exception"] for each in self.all for line in each.lines() if "exception" in line]

    def tail(self) -> str:
        """The ends of the logs."""
        return "\n---\n".join(each.tail() for each in self.all)


@dataclass
class Bustle:
    """What goes on in the cluster; `step` does one thing."""

    ground: Ground
    rng: random.Random
    borrower: str = ""
    owner: str = ""
    ganged: str = ""
    limited: str = ""
    _claims: list[tuple[str, float]] = field(default_factory=list)
    _count: int = 0

    def prepare(self) -> None:
        """Nodes, a pool of them, and the tenants."""
        ground = self.ground
        ground.nodes(NODES, cpu=str(CPU), memory="64Gi")
        pool = ground.pool()
        self.borrower, self.ganged = (ground.tenant(word, nodePools=[pool]) for word in ("borrower", "ganged"))
        room = {"cpu": str(NODES * CPU // 2), "memory": "128Gi"}
        self.owner = ground.tenant("owner", nodePools=[pool], guaranteed=room)
        self.limited = ground.tenant("limited", nodePools=[pool], limits={"cpu": "3"})
        self._replica_set(self.borrower, NODES * CPU)
        self._replica_set(self.limited, 6)
        for number in range(3):
            self._gang(f"gang-{number}")

    @property
    def rooms(self) -> dict[str, int]:
        """Milli-CPU by node."""
        return {f"{self.ground.name}-{number}": CPU * 1000 for number in range(NODES)}

    @property
    def limits(self) -> dict[str, int]:
        """Milli-CPU by namespace."""
        return {self.limited: 3000}

    def step(self) -> None:
        """Do one thing. An API server that is down is no reason to stop."""
        deeds: list[Callable[[], None]] = [self._claim, self._claim, self._claim, self._release, self._vanish]
        deeds += [self._cordon, self._taint]
        if self._count % 12 == 11:
            deeds = [self._recreate_node]
        self._count += 1
        with contextlib.suppress(urllib3.exceptions.HTTPError, AssertionError):
            self.rng.choice(deeds)()

    def settle(self) -> None:
        """Make an end of it: what is left fits."""
        ground = self.ground
        for name, _ in self._claims:
            ground.delete_pod(self.owner, name)
        self._claims.clear()
        for number in range(NODES):
            name = f"{ground.name}-{number}"
            if not ground.admin.request("GET", f"/api/v1/nodes/{name}").accepted:
                self._node(number)
            ground.change(f"/api/v1/nodes/{name}", {"spec": {"unschedulable": False, "taints": None}})
        self._scale(self.borrower, 12)
        self._scale(self.limited, 3)

    def census(self) -> str:
        """What the controllers want and have, for whoever wonders why pods are missing."""
        lines = []
        for namespace in (self.borrower, self.limited, self.ganged):
            pods = self.ground.pods(namespace)
            bound = sum(bool(pod["spec"].get("nodeName")) for pod in pods.values())
            lines.append(f"{namespace}: {len(pods)} pods, {bound} bound")
            for path in ("apps/v1", "replicasets"), ("batch/v1", "jobs"):
                found = self.ground.admin.request("GET", f"/apis/{path[0]}/namespaces/{namespace}/{path[1]}")
                lines += [f"  {each['metadata']['name']}: {each.get('status')}" for each in found.body["items"]]
        return "\n".join(lines)

    # --- deeds ----------------------------------------------------------------------------------------------------

    def _claim(self) -> None:
        """The owner wants its guarantee back: others are evicted."""
        for _ in range(self.rng.randint(2, 5)):
            name = f"claim-{self._count}-{self.rng.randrange(10**6)}"
            self.ground.pod(self.owner, name, cpu="2", labels={"allotment.dev/preemptible": "true"})
            self._claims.append((name, time.monotonic()))
        while len(self._claims) > NODES * CPU // 4:
            self._release()

    def _release(self) -> None:
        for name, _ in [self._claims.pop(0) for _ in range(min(3, len(self._claims)))]:
            self.ground.delete_pod(self.owner, name)

    def _vanish(self) -> None:
        """Somebody deletes pods: bound ones, and ones that are being bound."""
        namespace = self.rng.choice([self.borrower, self.limited])
        pods = sorted(self.ground.pods(namespace))
        for name in self.rng.sample(pods, k=min(3, len(pods))):
            self.ground.delete_pod(namespace, name)

    def _cordon(self) -> None:
        self._change_node({"unschedulable": self.rng.random() < 0.5})

    def _taint(self) -> None:
        taint = {"key": "example.org/tried", "value": "yes", "effect": "NoSchedule"}
        self._change_node({"taints": [taint] if self.rng.random() < 0.5 else None})

    def _change_node(self, spec: dict[str, Any]) -> None:
        name = f"{self.ground.name}-{self.rng.randrange(NODES)}"
        self.ground.change(f"/api/v1/nodes/{name}", {"spec": spec})

    def _recreate_node(self) -> None:
        number = self.rng.randrange(NODES)
        self.ground.admin.request("DELETE", f"/api/v1/nodes/{self.ground.name}-{number}")
        self._node(number)

    def _node(self, number: int) -> None:
        self.ground.node(number, cpu=str(CPU), memory="64Gi")

    # --- what others wrote ----------------------------------------------------------------------------------------

    def _replica_set(self, namespace: str, replicas: int) -> None:
        labels = {"app": "work"}
        template = {"metadata": {"labels": labels}, "spec": self.ground.pod_spec({"cpu": "1", "memory": "64Mi"})}
        spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
        manifest = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "work"}, "spec": spec}
        self.ground.create(f"/apis/apps/v1/namespaces/{namespace}/replicasets", manifest, remember=False)

    def _scale(self, namespace: str, replicas: int) -> None:
        path = f"/apis/apps/v1/namespaces/{namespace}/replicasets/work"
        assert self.ground.change(path, {"spec": {"replicas": replicas}}).accepted

    def _gang(self, name: str) -> None:
        spec = {**self.ground.pod_spec({"cpu": "1", "memory": "64Mi"}), "restartPolicy": "Never"}
        metadata = {"annotations": {DURATION: "10h"}}
        job = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": name, "labels": {"allotment.dev/gang": "true"}},
            "spec": {"parallelism": GANG, "completions": GANG, "template": {"metadata": metadata, "spec": spec}},
        }
        self.ground.create(f"/apis/batch/v1/namespaces/{self.ganged}/jobs", job, remember=False)


def tenants_of(bustle: Bustle) -> list[str]:
    """Every namespace of the bustle."""
    return [bustle.borrower, bustle.owner, bustle.ganged, bustle.limited]


def is_in_force(ground: Ground) -> bool:
    """Whether the API server answers."""
    with contextlib.suppress(urllib3.exceptions.HTTPError):
        return ground.admin.request("GET", f"{ALLOTMENT}/tenants?limit=1").accepted
    return False
