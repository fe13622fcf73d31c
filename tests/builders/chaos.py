"""Chaos: two copies of the scheduler behind a proxy that fails them, on a ground where much goes on.

Everything follows from the seed but the timing of processes and of the API server.

- `Replicas` are killed with SIGKILL, also while pods that they evicted are on their way out, frozen and woken, and
  started again when they end, as a kubelet would do; their clocks jump, and their settings change, for better or worse.
- `Bustle` keeps a cluster busy so that all rules are at work: a borrower that fills it, an owner who claims its
  guarantee back, gangs, a StatefulSet, a tenant at its limit; and others meddle (`builders.meddling`).
"""

import contextlib
import json
import random
import signal
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import urllib3

from allotment_local.stages import DURATION, SHUTDOWN
from builders.ground import ALLOTMENT, Ground
from builders.history_checker import Amounts, Limit
from builders.meddling import Meddling
from builders.program_process import SchedulerProcess, eventually
from fakes import jumping_clock

GANG: Final = 3
NODES: Final = 6
CPU: Final = 8
MEMORY: Final = "64Gi"
SETTINGS: Final = {
    "leaseSeconds": 8, "minimumRuntimeSeconds": 0, "backoffSeconds": 1, "longestBackoffSeconds": 2,
    "quarantineSeconds": 1, "evictionSeconds": 15, "confirmSeconds": 3, "successorHoldSeconds": 2,
    "evictionsPerHour": 1_000_000, "explainSeconds": 0.5, "numbersSeconds": 1, "statusSeconds": 1,
}  # fmt: skip


class JumpingScheduler(SchedulerProcess):
    """A scheduler whose wall clock can be set ahead or back while it runs."""

    @property
    def _ahead(self) -> Path:
        return self.log.with_suffix(".ahead")

    def _interpreter(self) -> list[str]:
        if not self._ahead.exists():
            self.jump(0.0)
        return [sys.executable, "-P", jumping_clock.__file__, str(self._ahead)]

    def jump(self, ahead: float) -> None:
        """Set its clock this many seconds ahead of the machine's."""
        new = self._ahead.with_suffix(".new")
        new.write_bytes(struct.pack("d", ahead))
        new.replace(self._ahead)


class Replicas:
    """Two copies of the scheduler, and whoever starts them again."""

    def __init__(self, kubeconfig: Path, folder: Path, rng: random.Random) -> None:
        self.all = [JumpingScheduler(kubeconfig, folder / f"replica-{number}.log", SETTINGS) for number in range(2)]
        self.ends: list[int] = []
        self.kills = 0
        self.kills_amid_evictions = 0
        self.freezes = 0
        self._rng = rng
        self._frozen: tuple[SchedulerProcess, float] | None = None

    def start(self) -> None:
        """Start both, and wait until one leads."""
        for replica in self.all:
            replica.start(wait=False)
        eventually(self.leader, because=self.tail)

    def leader(self) -> SchedulerProcess | None:
        """The copy that says it leads, if any."""
        return next((each for each in self.all if each.process is not None and each.status().get("leading")), None)

    def somebody_leads(self) -> bool:
        """Whether one that is not frozen says that it leads."""
        frozen = self._frozen[0] if self._frozen is not None else None
        return any(
            each is not frozen and each.process is not None and each.status().get("leading") for each in self.all
        )

    def kill_leader(self) -> bool:
        """As a power cut would; false if nobody leads now."""
        leader = self.leader() if self._frozen is None else None
        if leader is None:
            return False
        self.kills += 1
        leader.kill()
        return True

    def kill_leader_amid_evictions(self) -> bool:
        """Kill it while pods that it evicted still hold the room that it has given to others; false if none do."""
        leader = self.leader() if self._frozen is None else None
        if leader is None or not leader.status().get("departures"):
            return False
        self.kills_amid_evictions += 1
        return self.kill_leader()

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

    def deeds(self) -> list[Callable[[], None]]:
        """What happens to a program that runs: each is counted."""
        return [self.jump, self.configure, self.misconfigure]

    def jump(self) -> None:
        """One clock goes ahead, by up to a day, or back a little: far back, whoever was set aside waits for long."""
        ahead = self._rng.choice([-20.0, 0.0, 20.0, 86_400.0])
        self._rng.choice(self.all).jump(ahead)

    def configure(self) -> None:
        """New settings that are good."""
        changed = {"startsPerCycle": self._rng.choice([1, 16, 128]), "evictionSeconds": self._rng.choice([10, 20])}
        for replica in self.all:
            replica.configure(json.dumps({**replica.written(), **changed}))

    def misconfigure(self) -> None:
        """Settings that are refused as a whole, or cannot be read at all: the last good ones hold.

        Whoever starts with such settings ends at once and says why, so only those that run get them.
        """
        text = self._rng.choice(['{"startsPerCycle": 0}', "{", '{"unheardOf": 1}'])
        for replica in self.all:
            if replica.process is not None and replica.status():
                replica.configure(text)

    def calm(self) -> None:
        """Leave nobody frozen, and everybody with good settings; the clocks stay where they are."""
        self.wake()
        for replica in self.all:
            replica.configure(json.dumps(replica.written()))

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

    def mistakes(self) -> list[str]:
        """Exceptions that the logs speak of, those aside that only say that the Lease was lost.

        Units that cannot be decided about count: whatever they ask for, setting them aside is for mistakes of ours.
        """
        lines = [line for each in self.all for line in each.lines()]
        undecided = {line["reason"] for line in lines if "cannot be decided about" in line["message"]}
        return [*(line["exception"] for line in lines if "exception" in line), *sorted(undecided)]

    def tail(self) -> str:
        """The ends of the logs."""
        return "\n---\n".join(each.tail() for each in self.all)


@dataclass
class Bustle:
    """What goes on in the cluster; `step` does one thing."""

    ground: Ground
    rng: random.Random
    evicts: Callable[[str], None]
    """Told the uid of a pod that others are about to evict."""
    others: list[Callable[[], None]] = field(default_factory=list)
    """Further deeds, that concern the programs."""
    done: Counter[str] = field(default_factory=Counter)
    """Deeds that went through, by name."""
    borrower: str = ""
    owner: str = ""
    ganged: str = ""
    limited: str = ""
    stateful: str = ""
    _claims: list[str] = field(default_factory=list)
    _count: int = 0

    def prepare(self) -> None:
        """Nodes, a pool of them, and the tenants."""
        ground = self.ground
        ground.nodes(NODES, cpu=str(CPU), memory=MEMORY)
        pools = [ground.pool()]
        self.borrower, self.ganged, self.stateful = (
            ground.tenant(word, nodePools=pools) for word in ("borrower", "ganged", "stateful")
        )
        room = {"cpu": str(NODES * CPU // 2), "memory": "128Gi"}
        self.owner = ground.tenant("owner", nodePools=pools, guaranteed=room)
        self.limited = ground.tenant("limited", nodePools=pools, limits={"cpu": "3"})
        self._replica_set(self.borrower, NODES * CPU, shutdown=2)
        self._replica_set(self.limited, 6)
        self._stateful_set(self.stateful, 2)
        for number in range(3):
            self._gang(f"gang-{number}")
        self.meddling = Meddling(
            ground,
            self.rng,
            nodes=NODES,
            cpu=str(CPU),
            memory=MEMORY,
            tenant=self.borrower,
            limited=self.limited,
            evicts=self.evicts,
        )
        self.meddling.prepare()

    @property
    def rooms(self) -> dict[str, Amounts]:
        """What each node has."""
        room = {"cpu": CPU * 1000, "memory": int(MEMORY.removesuffix("Gi")) * 2**30, "pods": 110}
        return {f"{self.ground.name}-{number}": room for number in range(NODES)}

    @property
    def limits(self) -> list[Limit]:
        """Of tenants."""
        return [Limit(frozenset((self.limited,)), {"cpu": 3000})]

    @property
    def wanted(self) -> dict[str, int]:
        """How many pods run in peace, by namespace."""
        return {self.borrower: 12, self.owner: 0, self.ganged: 3 * GANG, self.limited: 3, self.stateful: 2}

    def deeds(self) -> list[Callable[[], None]]:
        """Everything that `step` may do."""
        return [self.claim, self.release, *self.meddling.deeds(), *self.others]

    def step(self) -> None:
        """Do one thing; half of them are claims, which have others evicted. An API server may well be down."""
        self._count += 1
        deed = self.claim if self._count % 2 else self.rng.choice(self.deeds())
        with contextlib.suppress(urllib3.exceptions.HTTPError, AssertionError):
            deed()
            self.done[deed.__name__] += 1

    def settle(self) -> None:
        """Make an end of it: what is left fits."""
        for name in self._claims:
            self.ground.delete_pod(self.owner, name)
        self._claims.clear()
        self.meddling.settle()
        self._scale(self.borrower, 12)
        self._scale(self.limited, 3)

    def census(self) -> str:
        """What the controllers want and have, for whoever wonders why pods are missing."""
        lines = []
        for namespace in self.wanted:
            pods = self.ground.pods(namespace)
            bound = sum(bool(pod["spec"].get("nodeName")) for pod in pods.values())
            lines.append(f"{namespace}: {len(pods)} pods, {bound} bound")
            for path in ("apps/v1", "replicasets"), ("apps/v1", "statefulsets"), ("batch/v1", "jobs"):
                found = self.ground.admin.request("GET", f"/apis/{path[0]}/namespaces/{namespace}/{path[1]}")
                lines += [f"  {each['metadata']['name']}: {each.get('status')}" for each in found.body["items"]]
        return "\n".join(lines)

    # --- deeds ----------------------------------------------------------------------------------------------------

    def claim(self) -> None:
        """The owner wants its guarantee back: others are evicted."""
        for _ in range(self.rng.randint(2, 5)):
            name = f"claim-{self._count}-{self.rng.randrange(10**6)}"
            self.ground.pod(self.owner, name, cpu="2", labels={"allotment.dev/preemptible": "true"})
            self._claims.append(name)
        while len(self._claims) > NODES * CPU // 4:
            self.release()

    def release(self) -> None:
        """The owner needs the oldest of its pods no more."""
        for name in [self._claims.pop(0) for _ in range(min(3, len(self._claims)))]:
            self.ground.delete_pod(self.owner, name)

    # --- what others wrote ----------------------------------------------------------------------------------------

    def _replica_set(self, namespace: str, replicas: int, *, shutdown: int = 0) -> None:
        """Pods that take some seconds to stop, if that is asked for: so long their evictions are under way."""
        self._workload("ReplicaSet", namespace, {"replicas": replicas}, shutdown=shutdown)

    def _stateful_set(self, namespace: str, replicas: int) -> None:
        """Pods that come back under their names, as other pods."""
        about = {"replicas": replicas, "serviceName": "work", "podManagementPolicy": "Parallel"}
        self._workload("StatefulSet", namespace, about)

    def _workload(self, kind: str, namespace: str, about: dict[str, Any], *, shutdown: int = 0) -> None:
        labels = {"app": "work"}
        pods = self.ground.pod_spec({"cpu": "1", "memory": "64Mi"}, terminationGracePeriodSeconds=max(1, shutdown))
        template = {"metadata": {"labels": labels, "annotations": {SHUTDOWN: f"{shutdown}s"}}, "spec": pods}
        spec = {"selector": {"matchLabels": labels}, "template": template, **about}
        manifest = {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "work"}, "spec": spec}
        self.ground.create(f"/apis/apps/v1/namespaces/{namespace}/{kind.lower()}s", manifest, remember=False)

    def _scale(self, namespace: str, replicas: int) -> None:
        path = f"/apis/apps/v1/namespaces/{namespace}/replicasets/work"
        assert self.ground.change(path, {"spec": {"replicas": replicas}}).accepted

    def _gang(self, name: str) -> None:
        spec = {**self.ground.pod_spec({"cpu": "1", "memory": "64Mi"}), "restartPolicy": "Never"}
        metadata = {"annotations": {DURATION: "10h"}}
        disrupted = {"type": "DisruptionTarget", "status": "True"}  # no failure of theirs, so the Job does not back off
        job = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": name, "labels": {"allotment.dev/gang": "true"}},
            "spec": {
                "parallelism": GANG,
                "completions": GANG,
                "podFailurePolicy": {"rules": [{"action": "Ignore", "onPodConditions": [disrupted]}]},
                "template": {"metadata": metadata, "spec": spec},
            },
        }
        self.ground.create(f"/apis/batch/v1/namespaces/{self.ganged}/jobs", job, remember=False)


def is_in_force(ground: Ground) -> bool:
    """Whether the API server answers."""
    with contextlib.suppress(urllib3.exceptions.HTTPError):
        return ground.admin.request("GET", f"{ALLOTMENT}/tenants?limit=1").accepted
    return False
