"""How fast pods are bound on a real API server: ours, kube-scheduler from the same binary, and the ceiling.

    python tests/benchmarks/bench_live.py [--pods 4000] [--nodes 1000] [--runs 3] [--output build/bench-live.json]

Each run creates the pods first, starts one contender, and watches until all are bound. The contenders take turns, so
that a disturbance of the machine meets them all; medians count. The rate is measured from the first pod seen bound to
the last, by a watch of the benchmark's own. The ceiling is a bare loop: list, watch with decode, bind over as many
connections, no decisions. While pods are bound, the controller manager and kwok stand still (SIGSTOP): they would do
the same work for every contender and blur its share of the machine.

Ours decides with three tenants of different weights; its pods lie in tenants' namespaces. Admission policies are not
installed, so that all contenders meet the same API server. Absolute figures vary with the machine; compare ratios.
"""

# ruff: noqa: T201 - a program whose output is its purpose

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from allotment_kube import Client
from allotment_kube.models import Resourced
from allotment_kube.resources import NAMESPACES, NODES, PODS, Resource
from allotment_local.cluster import LocalCluster
from allotment_local.progress import reporter

TENANTS: Final = Resource.custom("allotment.dev/v1alpha1", "Tenant", "tenants", namespaced=False)
CRDS: Final = Path(__file__).resolve().parents[2] / "crds"
NAMESPACES_USED: Final = ("bench-a", "bench-b", "bench-c")
CONTENDERS: Final = ("allotment", "kube-scheduler", "ceiling")
CONNECTIONS: Final = 64
HERTZ: Final = os.sysconf("SC_CLK_TCK")


class _Spec(msgspec.Struct, frozen=True, gc=False):
    nodeName: str = ""  # noqa: N815 - as in the API


class _Pod(Resourced, frozen=True):
    spec: _Spec = _Spec()


BOUND_PODS: Final = PODS.decoded_as(_Pod)


@dataclass
class Run:
    """One contender's run."""

    contender: str
    pods_per_second: float
    seconds_to_first: float
    cpu_seconds: float
    memory_megabytes: float


@dataclass
class Bench:
    """A cluster with nodes, and what is tried on it."""

    client: Client
    kubeconfig: Path
    kube_scheduler: list[str]
    pods: int
    folder: Path
    runs: list[Run] = field(default_factory=list)

    async def prepare(self, nodes: int) -> None:
        """Make namespaces, tenants and nodes."""
        weights = dict(zip(NAMESPACES_USED, (1.0, 2.0, 0.5), strict=True))
        for name, weight in weights.items():
            labels = {"allotment.dev/tenant": name}
            await self.client.create(NAMESPACES.untyped, {"metadata": {"name": name, "labels": labels}})
            spec = {"weight": weight, "namespaces": [name]}
            await self.client.create(TENANTS, {**_head(TENANTS), "metadata": {"name": name}, "spec": spec})
        await self._gather(self.client.create(NODES.untyped, node(number)) for number in range(nodes))
        await asyncio.sleep(5.0)  # until the controllers have untainted the nodes and made ServiceAccounts

    async def run(self, contender: str) -> Run:
        """Create the pods, let one contender bind them, take everything away again."""
        name = {"allotment": "allotment", "kube-scheduler": "default-scheduler", "ceiling": "nobody"}[contender]
        await self._gather(
            self.client.create(PODS.untyped, pod(number, name), namespace=NAMESPACES_USED[number % 3])
            for number in range(self.pods)
        )
        watching = asyncio.create_task(self._until_bound())
        await asyncio.sleep(1.0)
        began = time.monotonic()
        process = subprocess.Popen(  # noqa: ASYNC220 - nothing else happens meanwhile
            self._command(contender),
            stdout=(self.folder / f"{contender}.log").open("ab"),
            stderr=subprocess.STDOUT,
            env={name: value for name, value in os.environ.items() if not name.startswith("ALLOTMENT_")},
        )
        try:
            async with asyncio.timeout(600):
                first, last = await watching
            cpu, memory = usage(process.pid)
        finally:
            process.kill()
            process.wait()
        await self._clear()
        found = Run(contender, (self.pods - 1) / (last - first), first - began, cpu, memory)
        self.runs.append(found)
        return found

    def _command(self, contender: str) -> list[str]:
        if contender == "allotment":
            config = self.folder / "scheduler.yaml"
            config.write_text(json.dumps({"httpHost": "127.0.0.1", "httpPort": 0, "namespace": "kube-system"}))
            command = [sys.executable, "-m", "allotment_scheduler.shell.main", "--kubeconfig", str(self.kubeconfig)]
            return [*command, "--config", str(config)]
        if contender == "kube-scheduler":
            flags = ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"]
            return [
                *self.kube_scheduler,
                *(f"--{flag}={self.kubeconfig}" for flag in flags),
                "--leader-elect=false",
                "--kube-api-qps=5000",
                "--kube-api-burst=5000",
                "--bind-address=127.0.0.1",
                "--secure-port=0",
            ]
        return [sys.executable, str(Path(__file__).resolve()), "--bare-loop", str(self.kubeconfig)]

    async def _until_bound(self) -> tuple[float, float]:
        """Times of the first and the last pod seen bound."""
        from allotment_kube.reflector import Deleted, Reflector, Synced  # noqa: PLC0415 - only here

        bound: set[Any] = set()
        times: list[float] = []
        done = asyncio.Event()

        def handle(event: Any) -> None:
            if isinstance(event, Synced | Deleted) or not event.new.spec.nodeName or event.key in bound:
                return
            bound.add(event.key)
            times.append(time.monotonic())
            if len(bound) >= self.pods:
                done.set()

        task = asyncio.create_task(Reflector(self.client, BOUND_PODS, handle, keep_objects=False).run())
        try:
            await done.wait()
        finally:
            task.cancel()
        return times[0], times[-1]

    async def _clear(self) -> None:
        for namespace in NAMESPACES_USED:
            names = [each.metadata.name for each in await self.client.list(BOUND_PODS, namespace=namespace)]
            await self._gather(self.client.delete(PODS, name, namespace=namespace, grace_period=0) for name in names)
        leases = Resource.custom("coordination.k8s.io/v1", "Lease", "leases")
        body = {**_head(leases), "metadata": {"name": "allotment-scheduler", "namespace": "kube-system"}, "spec": {}}
        if await self.client.find(leases, "allotment-scheduler", namespace="kube-system"):
            await self.client.delete(leases, "allotment-scheduler", namespace="kube-system")
        await self.client.create(leases, body)  # an empty one is taken at once

    async def _gather(self, requests: Any) -> None:
        slots = asyncio.Semaphore(32)

        async def one(request: Any) -> None:
            async with slots:
                await request

        await asyncio.gather(*(one(request) for request in requests))


def _head(resource: Resource[Any]) -> dict[str, str]:
    return {"apiVersion": resource.api_version, "kind": resource.kind}


def node(number: int) -> dict[str, Any]:
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


def pod(number: int, scheduler: str) -> dict[str, Any]:
    """A simple pod."""
    requests = {"cpu": "100m", "memory": "500Mi"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"pod-{number}", "labels": {"app": "bench"}},
        "spec": {
            "schedulerName": scheduler,
            "automountServiceAccountToken": False,
            "containers": [{"name": "main", "image": "registry.bank/app:1", "resources": {"requests": requests}}],
        },
    }


def usage(pid: int) -> tuple[float, float]:
    """CPU seconds and resident megabytes of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return (int(fields[11]) + int(fields[12])) / HERTZ, resident / 1e6


async def bare_loop(kubeconfig: Path) -> None:
    """List, watch with decode, bind round robin: what an API server gives to Python that decides nothing."""
    from allotment_kube.reflector import Reflector  # noqa: PLC0415 - only here

    async with Client.connect(kubeconfig, connections=CONNECTIONS + 4) as client:
        names = [each.metadata.name for each in await client.list(NODES)]
        reflector = Reflector(client, PODS, lambda _: None)
        task = asyncio.create_task(reflector.run())
        await reflector.synced()
        queue = [each for each in reflector.objects().values() if each.spec.scheduler_name == "nobody"]
        waiting = iter(list(enumerate(queue)))

        async def work() -> None:
            for number, each in waiting:
                target = names[number % len(names)]
                await client.bind(each.metadata.namespace, each.metadata.name, uid=each.metadata.uid, node=target)

        await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
        await task


@asynccontextmanager
async def standing_still(cluster: LocalCluster) -> AsyncIterator[None]:
    """The controller manager and kwok stopped."""
    pids = [
        int(found)
        for component in ("kube-controller-manager", "kwok")
        for found in subprocess.run(  # noqa: ASYNC221 - at once
            ["pgrep", "-f", f"{component}.*{cluster.folder}"], capture_output=True, text=True, check=False
        ).stdout.split()
    ]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def measure(cluster: LocalCluster, options: argparse.Namespace, folder: Path) -> Bench:
    """All runs, the contenders in turn."""
    async with Client.connect(cluster.kubeconfig, connections=48) as client:
        command = list(cluster.specification.binaries["kube-scheduler"])
        bench = Bench(client, cluster.kubeconfig, command, options.pods, folder)
        await bench.prepare(options.nodes)
        await bench._clear()
        async with standing_still(cluster):
            for number in range(options.runs):
                for contender in options.contenders:
                    found = await bench.run(contender)
                    print(f"{number + 1}: {contender:15} {found.pods_per_second:7.0f} pods/s", flush=True)
        return bench


def summary(runs: list[Run]) -> dict[str, dict[str, float]]:
    """Medians and spread by contender."""
    out: dict[str, dict[str, float]] = {}
    for contender in dict.fromkeys(run.contender for run in runs):
        mine = [run for run in runs if run.contender == contender]
        rates = sorted(run.pods_per_second for run in mine)
        out[contender] = {
            "podsPerSecond": statistics.median(rates),
            "slowest": rates[0],
            "fastest": rates[-1],
            "secondsToFirst": statistics.median(run.seconds_to_first for run in mine),
            "cpuSeconds": statistics.median(run.cpu_seconds for run in mine),
            "memoryMegabytes": statistics.median(run.memory_megabytes for run in mine),
        }
    return out


def main() -> None:
    """Run the benchmark and print medians and ratios."""
    parser = argparse.ArgumentParser(description="Pods bound per second on a real API server.")
    parser.add_argument("--pods", type=int, default=4000)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--output", type=Path, default=Path("build/bench-live.json"))
    parser.add_argument("--bare-loop", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare_loop:
        asyncio.run(bare_loop(options.bare_loop))
        return
    with tempfile.TemporaryDirectory(prefix="allotment-bench-") as name, reporter() as progress:
        folder = Path(name)
        cluster = LocalCluster("bench", state=folder / "state", progress=progress)
        cluster.up(tied_to_us=True)
        try:
            subprocess.run(
                [*cluster.specification.binaries["kubectl"], "--kubeconfig", str(cluster.kubeconfig),
                 "apply", "--server-side", "-f", str(CRDS)],
                check=True, stdout=subprocess.DEVNULL,
            )  # fmt: skip
            bench = asyncio.run(measure(cluster, options, folder))
        finally:
            cluster.down()
    medians = summary(bench.runs)
    for contender, found in medians.items():
        print(f"{contender:15} " + "  ".join(f"{key} {value:.1f}" for key, value in found.items()))
    if {"allotment", "kube-scheduler"} <= medians.keys():
        ratio = medians["allotment"]["podsPerSecond"] / medians["kube-scheduler"]["podsPerSecond"]
        cpu = medians["allotment"]["cpuSeconds"] / medians["kube-scheduler"]["cpuSeconds"]
        print(f"allotment / kube-scheduler: {ratio:.2f} times the rate, {cpu:.2f} times the CPU")
    if {"allotment", "ceiling"} <= medians.keys():
        print(f"allotment / ceiling: {medians['allotment']['podsPerSecond'] / medians['ceiling']['podsPerSecond']:.2f}")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps({"medians": medians, "runs": [asdict(run) for run in bench.runs]}, indent=1))


if __name__ == "__main__":
    main()
