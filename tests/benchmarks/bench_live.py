"""How fast pods are bound on a real API server: ours, kube-scheduler from the same binary, and the ceiling.

    python tests/benchmarks/bench_live.py [--workload simple …] [--runs 7] [--quick] [--output FILE]

Without arguments everything is measured that has a target. The targets go to build/bench-live.json, in the form of
build/bench.json; of a workload that is not run, the rows stay as they are. Every run, medians and ratios go to
build/bench-live-detail.json. A quick run is of another size and writes to files of its own.

Each run creates the pods first (but for `stream`), starts one contender, and watches until all are bound. The
contenders take turns, each turn in another order, so that a disturbance of the machine meets them all; the medians of
the ratios within a turn count. The rate is measured from the first pod seen bound to the last, by a watch of the
benchmark's own. Latency is from a pod's creation, or the contender's start where that is later, to seeing it bound.
CPU seconds are told twice: in all, the program's start included, and from the first binding to the last, divided by
the pods. The ceiling is a bare loop: list, watch with decode, bind over as many connections, no decisions; it is run
on simple pods only.

While pods are bound, the controller manager and kwok stand still (SIGSTOP): they would do the same work for every
contender and blur its share of the machine. Our programs run from byte code, as they do in the image.

`--workload restart` measures ours alone: from the start of the process to the first binding with many nodes and running
pods, and the memory that a running pod takes.

Pods lie in tenants' namespaces, whose weights differ. Admission policies are not installed, so that all contenders meet
the same API server. Absolute figures vary with the machine; compare ratios.

A contender that ends before its time (a Lease lost on a machine that is too busy, say) gets a second try. What has been
measured is written after every run, so that nothing is lost with a run that is cut short.

How long it takes: most of a run goes into creating the pods and taking them away again. `docs/benchmarks.md` says how
long that is on two idle cores.
"""

# ruff: noqa: T201 - a program whose output is its purpose

import argparse
import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a program, tests/ is not on the path

from allotment_kube import Client
from allotment_kube.models import Resourced
from allotment_kube.reflector import Deleted, Reflector, Synced
from allotment_kube.resources import NAMESPACES, NODES, PODS, SERVICE_ACCOUNTS, Resource
from allotment_kube.transport import Request
from allotment_local.cluster import LocalCluster
from allotment_local.progress import reporter
from builders.figures import Figure, keep
from builders.live_contenders import (
    CONTENDERS,
    SCHEDULER_NAMES,
    ContenderError,
    Contenders,
    environment,
    processes,
    usage,
)
from builders.live_figures import Run, figures, ratios, summary
from builders.live_workloads import WORKLOADS, Workload, node, running_pod
from builders.machine_clock import MachineClock

TENANTS: Final = Resource.custom("allotment.dev/v1alpha1", "Tenant", "tenants", namespaced=False)
POD_GROUPS: Final = Resource.custom("allotment.dev/v1alpha1", "PodGroup", "podgroups")
LEASES: Final = Resource.custom("coordination.k8s.io/v1", "Lease", "leases")
ROOT: Final = Path(__file__).resolve().parents[2]
WEIGHTS: Final = (1.0, 2.0, 0.5)
WRITES: Final = re.compile(r'verb="(POST|PUT|PATCH|APPLY|DELETE)"')
HERALD: Final = "herald"
STANDING: Final = "bench-standing"
"""Namespace and tenant of pods that run all the time."""
LONGEST_RUN: Final = 900.0


class _Spec(msgspec.Struct, frozen=True, gc=False):
    nodeName: str = ""  # noqa: N815 - as in the API


class _Pod(Resourced, frozen=True):
    spec: _Spec = _Spec()


BOUND_PODS: Final = PODS.decoded_as(_Pod)


@dataclass
class Seen:
    """What the benchmark's own watch saw: when each pod was bound, and the processes' CPU at the first of them.

    A stream begins when a herald has been bound: by then the contender is at work.
    """

    wanted: int
    herald: asyncio.Event = field(default_factory=asyncio.Event)
    created: dict[str, float] = field(default_factory=dict)
    bound: dict[str, float] = field(default_factory=dict)
    cpu: tuple[float, float] = (0.0, 0.0)
    done: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Bench:
    """A cluster with nodes, and what is tried on it."""

    client: Client
    cluster: LocalCluster
    contenders: Contenders
    runs: list[Run] = field(default_factory=list)
    servers: list[int] = field(default_factory=list)
    """Processes of API server and etcd."""
    standing: int = 0
    """Pods that run all the time."""

    async def prepare(self, nodes: int, tenants: int) -> None:
        """Make namespaces, tenants and nodes."""
        self.servers = [pid for name in ("kube-apiserver", "etcd") for pid in processes(name, self.cluster)]
        for number, name in enumerate([STANDING, *(f"bench-{number}" for number in range(tenants))]):
            labels = {"allotment.dev/tenant": name}
            await self.client.create(NAMESPACES.untyped, {"metadata": {"name": name, "labels": labels}})
            spec = {"weight": WEIGHTS[number % 3], "namespaces": [name]}
            await self.client.create(TENANTS, {**_head(TENANTS), "metadata": {"name": name}, "spec": spec})
        await gather(self.client.create(NODES.untyped, node(number)) for number in range(nodes))
        await self.clear(1)
        await self._settled(nodes, tenants)
        await self.contenders.admit(self.client)

    async def _settled(self, nodes: int, tenants: int) -> None:
        """Wait until the controllers have untainted the nodes and made ServiceAccounts."""
        async with asyncio.timeout(LONGEST_RUN):
            while True:
                free = [each for each in await self.client.list(NODES) if not each.spec.taints]
                accounts = await self.client.list(SERVICE_ACCOUNTS, field_selector="metadata.name=default")
                if len(free) >= nodes and len(accounts) >= tenants:
                    return
                await asyncio.sleep(0.5)

    async def run(self, name: str, workload: Workload, contender: str, *, turn: int, pods: int) -> Run:
        """Let one contender bind the workload's pods, then take everything away again."""
        seen = Seen(pods)
        scheduler = SCHEDULER_NAMES[contender]
        await gather(self.client.create(POD_GROUPS, gang) for gang in workload.gangs(pods))
        if not workload.rate:
            await gather(self._create(seen, workload.pod(number, scheduler)) for number in range(pods))
        writes = await self._writes()
        process = self.contenders.start(contender)
        began = time.monotonic()
        before, clock = self._server_cpu(), MachineClock.read()
        watching = asyncio.create_task(self._watch(seen, process.pid))
        feeding = asyncio.create_task(self._feed(seen, workload, pods, scheduler))
        try:
            await self._until(seen.done, contender, process)
            cpu, memory = usage(process.pid)
            server = self._server_cpu() - (seen.cpu[1] or before)
            stolen = clock.stolen_since()
        finally:
            for task in (watching, feeding):
                task.cancel()
            await asyncio.gather(watching, feeding, return_exceptions=True)
            process.kill()
            process.wait()
        writes = await self._writes() - writes - (pods + 1 if workload.rate else 0)
        await self.clear(workload.tenants)
        times = sorted(seen.bound.values())
        waits = sorted(at - max(began, seen.created[key]) for key, at in seen.bound.items())
        found = Run(
            workload=name,
            contender=contender,
            turn=turn,
            pods=pods,
            pods_per_second=(pods - 1) / (times[-1] - times[0]),
            seconds_to_first=times[0] - began,
            latency_p50=waits[len(waits) // 2],
            latency_p99=waits[len(waits) * 99 // 100],
            cpu_seconds=cpu,
            cpu_milliseconds_per_pod=1000 * (cpu - seen.cpu[0]) / pods,
            server_cpu_milliseconds_per_pod=1000 * server / pods,
            writes_per_pod=writes / pods,
            memory_megabytes=memory / 1e6,
            stolen=stolen,
        )
        self.runs.append(found)
        return found

    async def populate(self, nodes: int, pods: int) -> None:
        """Make pods that run all the time, or take them away again."""
        if pods == self.standing:
            return
        self.standing = pods
        await self._delete_all(PODS, STANDING)
        made = (running_pod(number, nodes, namespace=STANDING) for number in range(pods))
        await gather(self.client.create(PODS.untyped, each) for each in made)

    async def restart(self, nodes: int, pods: int) -> dict[str, float]:
        """Start ours beside many running pods; seconds to the first binding, and bytes per running pod."""
        await self.populate(nodes, 0)
        empty = await self._memory_at_rest()
        await self.populate(nodes, pods)
        full = await self._memory_at_rest()
        await self.clear(0)
        seen = Seen(1)
        await self._create(seen, WORKLOADS["simple"].pod(0, "allotment"))
        process = self.contenders.start("allotment")
        began = time.monotonic()
        watching = asyncio.create_task(self._watch(seen, process.pid))
        try:
            await self._until(seen.done, "allotment", process)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            process.kill()
            process.wait()
        return {
            "nodes": nodes,
            "runningPods": pods,
            "secondsToFirstBinding": next(iter(seen.bound.values())) - began,
            "cpuSecondsToFirstBinding": seen.cpu[0],
            "bytesPerRunningPod": (full - empty) / pods,
            "memoryMegabytes": full / 1e6,
        }

    async def _memory_at_rest(self) -> float:
        """Bytes that ours holds once it has listed everything."""
        await self.clear(0)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        process = self.contenders.start("allotment", port=port)
        try:
            async with asyncio.timeout(LONGEST_RUN):
                while not await asyncio.to_thread(_ready, port):
                    self.contenders.alive("allotment", process)
                    await asyncio.sleep(0.5)
            await asyncio.sleep(3.0)  # a few cycles and status writes
            return usage(process.pid)[1]
        finally:
            process.kill()
            process.wait()

    async def _create(self, seen: Seen, manifest: dict[str, Any]) -> None:
        seen.created[manifest["metadata"]["name"]] = time.monotonic()
        await self.client.create(PODS.untyped, manifest)

    async def _feed(self, seen: Seen, workload: Workload, pods: int, scheduler: str) -> None:
        """Create pods at the workload's rate, whatever becomes of them."""
        if not workload.rate:
            return
        herald = workload.pod(0, scheduler)
        herald["metadata"]["name"] = HERALD
        await self.client.create(PODS.untyped, herald)
        await seen.herald.wait()
        await asyncio.sleep(2.0)  # a few cycles and status writes
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(pods):
                await asyncio.sleep(max(0.0, began + number / workload.rate - time.monotonic()))
                group.create_task(self._create(seen, workload.pod(number, scheduler)))

    async def _watch(self, seen: Seen, pid: int) -> None:
        def handle(event: Any) -> None:
            if isinstance(event, Synced | Deleted) or not event.new.spec.nodeName:
                return
            name = event.key[1]
            if name == HERALD:
                seen.herald.set()
            if name in seen.bound or name not in seen.created:
                return
            if not seen.bound:
                seen.cpu = (usage(pid)[0], self._server_cpu())
            seen.bound[name] = time.monotonic()
            if len(seen.bound) >= seen.wanted:
                seen.done.set()

        # Pods that have been running all the time are none of ours.
        await Reflector(self.client, BOUND_PODS, handle, label_selector="app=bench", keep_objects=False).run()

    async def _until(self, done: asyncio.Event, contender: str, process: subprocess.Popen[bytes]) -> None:
        """Wait, but not for a contender that has ended."""
        async with asyncio.timeout(LONGEST_RUN):
            while not done.is_set():
                self.contenders.alive(contender, process)
                try:
                    await asyncio.wait_for(done.wait(), 1.0)
                except TimeoutError:
                    continue

    def _server_cpu(self) -> float:
        """CPU seconds of API server and etcd."""
        return sum(usage(pid)[0] for pid in self.servers)

    async def _writes(self) -> float:
        """Writes that the API server has served so far."""
        text = (await self.client.call(Request("GET", "/metrics"))).body.decode()
        lines = (line for line in text.splitlines() if line.startswith("apiserver_request_total{"))
        return sum(float(line.rpartition(" ")[2]) for line in lines if WRITES.search(line))

    async def clear(self, tenants: int) -> None:
        """Take pods and PodGroups of so many tenants away, and let the Lease be free at once."""
        namespaces = [f"bench-{number}" for number in range(tenants)]
        await gather(self._delete_all(kind, namespace) for namespace in namespaces for kind in (PODS, POD_GROUPS))
        body = {**_head(LEASES), "metadata": {"name": "allotment-scheduler", "namespace": "kube-system"}, "spec": {}}
        if await self.client.find(LEASES, "allotment-scheduler", namespace="kube-system"):
            await self.client.delete(LEASES, "allotment-scheduler", namespace="kube-system")
        await self.client.create(LEASES, body)  # an empty one is taken at once

    async def _delete_all(self, kind: Resource[Any], namespace: str) -> None:
        """Delete a collection in one request: the server takes a fraction of the time for it."""
        body = msgspec.json.encode({"gracePeriodSeconds": 0})
        await self.client.patiently(timeout=LONGEST_RUN).call(
            Request("DELETE", kind.collection(namespace), "", body), idempotent=True
        )


async def gather(requests: Iterable[Awaitable[Any]]) -> None:
    """Wait for all of them, 32 at a time."""
    waiting = iter(requests)

    async def work() -> None:
        for request in waiting:
            await request

    await asyncio.gather(*(work() for _ in range(32)))


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _head(resource: Resource[Any]) -> dict[str, str]:
    return {"apiVersion": resource.api_version, "kind": resource.kind}


@asynccontextmanager
async def standing_still(cluster: LocalCluster) -> AsyncIterator[None]:
    """The controller manager and kwok stopped."""
    pids = [pid for name in ("kube-controller-manager", "kwok") for pid in processes(name, cluster)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def measure(cluster: LocalCluster, options: argparse.Namespace, folder: Path) -> tuple[Bench, dict[str, float]]:
    """All runs, the contenders in turn; and a restart, if asked for."""
    restart: dict[str, float] = {}
    names = [name for name in options.workload if name in WORKLOADS]
    async with Client.connect(cluster.kubeconfig, connections=48) as client:
        bench = Bench(client, cluster, Contenders(cluster, folder))
        tenants = max([3, *(WORKLOADS[name].tenants for name in names)])
        await bench.prepare(options.nodes if names else options.restart_nodes, tenants)
        async with standing_still(cluster):
            for name in names:
                await bench.populate(options.nodes, options.standing_pods if WORKLOADS[name].full else 0)
                turns = [each for each in options.contenders if each != "ceiling" or name == "simple"]
                pods = options.pods or WORKLOADS[name].pods
                for turn in range(options.runs):
                    first = turn % len(turns)
                    for contender in turns[first:] + turns[:first]:
                        found = await second_try(bench, name, contender, turn=turn, pods=pods)
                        written(options.output, bench.runs, restart)
                        print(f"{name} {turn + 1}: {contender:15} {told(asdict(found))}", flush=True)
            if "restart" in options.workload:
                more = range(options.nodes if names else options.restart_nodes, options.restart_nodes)
                await gather(client.create(NODES.untyped, node(number)) for number in more)
                restart = await bench.restart(options.restart_nodes, options.restart_pods)
                print(f"restart: {told(restart)}", flush=True)
    return bench, restart


async def second_try(bench: Bench, name: str, contender: str, *, turn: int, pods: int) -> Run:
    """A run, and another one if its contender ended."""
    workload = WORKLOADS[name]
    try:
        return await bench.run(name, workload, contender, turn=turn, pods=pods)
    except ContenderError as error:
        print(f"{name}: {contender} is tried again, because {error}", flush=True)
        await bench.clear(workload.tenants)
        return await bench.run(name, workload, contender, turn=turn, pods=pods)


def written(output: Path, runs: list[Run], restart: dict[str, float]) -> list[Figure]:
    """Write down what has been measured so far: the targets, and beside them everything."""
    medians, compared = summary(runs), ratios(runs)
    found = figures(compared, restart)
    keep(output, found)
    everything = {"medians": medians, "ratios": compared, "restart": restart, "runs": [asdict(run) for run in runs]}
    output.with_name(f"{output.stem}-detail.json").write_text(json.dumps(everything, indent=1))
    return found


def told(figures: dict[str, Any]) -> str:
    """Figures on one line."""
    return "  ".join(f"{name} {value:.4g}" for name, value in figures.items() if isinstance(value, int | float))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Pods bound per second on a real API server.")
    named = [*WORKLOADS, "restart"]
    parser.add_argument("--workload", nargs="+", choices=[*named, "all"], default=["all"])
    parser.add_argument("--pods", type=int, help="instead of each workload's own number")
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="simple and spread, 3 runs, 1,000 pods, 500 nodes")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--restart-nodes", type=int, default=5000)
    parser.add_argument("--restart-pods", type=int, default=50_000)
    parser.add_argument("--standing-pods", type=int, default=50_000, help="running pods of stream-full")
    parser.add_argument("--output", type=Path, help="instead of build/bench-live.json, or of bench-live-quick.json")
    options = parser.parse_args()
    if options.quick:
        options.workload, options.runs, options.pods, options.nodes = ["simple", "spread"], 3, 1000, 500
    options.output = options.output or Path("build", "bench-live-quick.json" if options.quick else "bench-live.json")
    if "all" in options.workload:
        options.workload = named
    return options


def main() -> None:
    """Run the benchmark and print medians, ratios and targets."""
    options = arguments()
    # The first start writes the byte code.
    subprocess.run([sys.executable, "-c", "import allotment_scheduler.shell.main"], env=environment(), check=True)
    with tempfile.TemporaryDirectory(prefix="allotment-bench-") as name, reporter() as progress:
        folder = Path(name)
        cluster = LocalCluster("bench", state=folder / "state", progress=progress)
        cluster.up(tied_to_us=True, extra_flags={"kube-apiserver": ("--delete-collection-workers=8",)})
        try:
            definitions = ("-f", str(ROOT / "crds"))
            cluster.kubectl("apply", "--server-side", *definitions)
            cluster.kubectl("wait", "--for=condition=Established", "--timeout=300s", *definitions)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                bench, restart = runner.run(measure(cluster, options, folder))
        finally:
            cluster.down()
    medians, compared = summary(bench.runs), ratios(bench.runs)
    for workload, contenders in medians.items():
        for contender, found in contenders.items():
            print(f"{workload:14} {contender:15} {told(found)}")
        print(f"{workload:14} {told(dict(compared[workload]))}")
    for figure in written(options.output, bench.runs, restart):
        print(figure.line())


if __name__ == "__main__":
    main()
