"""The history of all pods, from a watch of its own, and what must never be in it.

Checked with every event, in the order in which the API server stored them:

- a pod is bound once: its node never changes;
- the pods of tenants never request more than their node has, nor their tenant's limit allows;
- whoever is evicted goes for somebody: when a pod is marked as evicted, a waiting pod has been promised its node;
- a gang that an eviction has cut is gone as a whole, or whole again, soon after.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from allotment_kube.client import Client
from allotment_kube.configuration import load_configuration
from allotment_kube.pods import Pod
from allotment_kube.reflector import Added, Deleted, Event, Modified, Reflector
from allotment_kube.resources import PODS
from allotment_scheduler.translation.pods import has_finished, pod_spec

_PROMISE_LASTS: Final = 20.0
"""Seconds for which a promise that was withdrawn explains evictions: requests under way may take so long."""
_CUT_FOR: Final = 90.0
"""Seconds in which the rest of a gang must have followed, whatever the network does to the requests."""


@dataclass(slots=True)
class _Known:
    uid: str
    node: str
    cpu: int
    holds: bool
    """It occupies its node."""
    gang: str
    evicted: bool
    leaving: bool


@dataclass
class PodHistory:
    """Watches pods in a thread of its own.

    Args:
        kubeconfig: an administrator's.
        prefix: of the namespaces whose pods count.
        rooms: milli-CPU by node.
        limits: milli-CPU by namespace, where its tenant has a limit.
        gang_size: pods in every gang.
    """

    kubeconfig: Path
    prefix: str
    rooms: Mapping[str, int]
    limits: Mapping[str, int]
    gang_size: int
    violations: list[str] = field(default_factory=list)
    binds: int = 0
    evictions: int = 0
    _pods: dict[tuple[str, str], _Known] = field(default_factory=dict)
    _promised: dict[tuple[str, str], str] = field(default_factory=dict)
    """Nodes that waiting pods are promised."""
    _withdrawn: dict[str, float] = field(default_factory=dict)
    """When a promise of a node last ended."""
    _cut: dict[str, float] = field(default_factory=dict)
    _ready: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Begin to watch."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(60)

    def stop(self) -> None:
        """Stop watching."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(30)

    def bound(self, namespace: str) -> int:
        """How many pods of a namespace occupy a node."""
        return sum(pod.holds and not pod.leaving for key, pod in [*self._pods.items()] if key[0] == namespace)

    def waiting(self) -> list[str]:
        """Pods that have no node."""
        return sorted("/".join(key) for key, pod in [*self._pods.items()] if not pod.node)

    def alive(self) -> int:
        """How many pods there are that have not finished."""
        return sum(pod.holds or not pod.node for pod in [*self._pods.values()])

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._watch())
        finally:
            asyncio.set_event_loop(None)
            self._loop.close()

    async def _watch(self) -> None:
        self._over = asyncio.Event()
        async with Client.connect(load_configuration(self.kubeconfig)) as client:
            reflector = Reflector(client, PODS, self._take, keep_objects=False)
            task = asyncio.create_task(reflector.run())
            await reflector.synced()
            self._ready.set()
            while not self._over.is_set():
                self._look_at_gangs()
                await asyncio.sleep(0.5)
                if task.done():
                    task.result()
            task.cancel()
            await asyncio.wait({task})
        await asyncio.sleep(0.5)  # until TLS connections have said goodbye

    # --- taking in ------------------------------------------------------------------------------------------------

    def _take(self, event: Event[Pod]) -> None:
        if isinstance(event, Deleted):
            known = self._pods.pop(event.key, None)
            self._promise(event.key, "")
            if known is not None:
                self._gang_changed(known)
        elif isinstance(event, Added | Modified) and event.key[0].startswith(self.prefix):
            self._seen(event.key, event.new)

    def _seen(self, key: tuple[str, str], pod: Pod) -> None:
        before = self._pods.get(key)
        # Others mark pods, too: the garbage collector and the taint manager, with reasons of their own.
        marked = any(
            each.type == "DisruptionTarget" and each.reason == "EvictionByEvictionAPI" for each in pod.status.conditions
        )
        node = pod.spec.node_name
        now = _Known(
            uid=pod.metadata.uid,
            node=node,
            cpu=dict(pod_spec(pod).scheduling.requests).get("cpu", 0),
            holds=bool(node) and not has_finished(pod),
            gang=f"{key[0]}/{pod.metadata.labels.get('job-name', '')}" if "job-name" in pod.metadata.labels else "",
            evicted=marked,
            leaving=pod.metadata.deletion_timestamp is not None,
        )
        self._pods[key] = now
        self._promise(key, pod.status.nominated_node_name if not node else "")
        if before is not None and before.node and before.node != node:
            self._violated(f"{key} moved from {before.node} to {node}")
        if node and (before is None or not before.node):
            self.binds += 1
            self._check_room(key, now)
        if marked and (before is None or not before.evicted):
            self.evictions += 1
            self._check_promise(key, now)
            if now.gang:
                self._cut.setdefault(now.gang, time.monotonic())
        self._gang_changed(now)

    def _promise(self, key: tuple[str, str], node: str) -> None:
        before = self._promised.pop(key, "")
        if node:
            self._promised[key] = node
        if before and before != node:
            self._withdrawn[before] = time.monotonic()

    # --- checking -------------------------------------------------------------------------------------------------

    def _violated(self, what: str) -> None:
        self.violations.append(what)

    def _check_room(self, key: tuple[str, str], pod: _Known) -> None:
        used = self._sum(lambda _, other: other.node == pod.node)
        if pod.node in self.rooms and used > self.rooms[pod.node]:
            self._violated(f"{key} overfills {pod.node}: {used} of {self.rooms[pod.node]} milli-CPU")
        limit = self.limits.get(key[0])
        of_tenant = self._sum(lambda other, _: other[0] == key[0])
        if limit is not None and of_tenant > limit:
            self._violated(f"{key} takes its tenant beyond its limit: {of_tenant} of {limit} milli-CPU")

    def _sum(self, counts: Callable[[tuple[str, str], _Known], bool]) -> int:
        return sum(pod.cpu for key, pod in self._pods.items() if pod.holds and counts(key, pod))

    def _check_promise(self, key: tuple[str, str], pod: _Known) -> None:
        if pod.gang:
            return  # it goes as a whole, wherever its pods stand; for nobody, if others had left too little of it
        lately = time.monotonic() - self._withdrawn.get(pod.node, -_PROMISE_LASTS) < _PROMISE_LASTS
        if not lately and pod.node not in self._promised.values():
            self._violated(f"{key} was evicted from {pod.node}, which nobody was promised")

    def _running(self, gang: str) -> int:
        return sum(pod.gang == gang and pod.holds and not pod.leaving for pod in self._pods.values())

    def _gang_changed(self, pod: _Known) -> None:
        if pod.gang in self._cut and not 0 < self._running(pod.gang) < self.gang_size:
            del self._cut[pod.gang]

    def _look_at_gangs(self) -> None:
        for gang, since in [*self._cut.items()]:
            running = self._running(gang)
            if time.monotonic() - since > _CUT_FOR and 0 < running < self.gang_size:
                self._violated(f"gang {gang} was cut to {running} of {self.gang_size} by an eviction, and stays so")
                del self._cut[gang]
