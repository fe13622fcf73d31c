"""Turns pools into Node objects and keeps the cluster's simulated nodes as the pool file says.

Nodes are created whole, Ready included: what kwok would write first is written at once, which spares the API server
half of its work for a thousand nodes. They count as usable when kwok holds their first Lease and the taint of new nodes
is gone.

Applying a pool file again creates what is missing, deletes what is no longer there, and replaces a node whose pool
changed; nodes that did not come from a pool file are left alone. Every simulated node carries the label
`allotment.dev/simulated: "true"`, so that nobody takes what runs on it for real.
"""

import datetime as dt
import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import local
from typing import TYPE_CHECKING, Any

from allotment_local.api import Connection

if TYPE_CHECKING:  # pydantic costs every command half a second; only `up --nodes` needs it
    from allotment_local.pools import Pool, PoolFile

SIMULATED_LABEL = "allotment.dev/simulated"
POOL_LABEL = "allotment.dev/local-pool"
TEMPLATE_ANNOTATION = "allotment.dev/local-template"
KWOK_ANNOTATION = "kwok.x-k8s.io/node"

_THREADS = 8
_CONDITIONS = (
    ("Ready", "True"),
    ("MemoryPressure", "False"),
    ("DiskPressure", "False"),
    ("PIDPressure", "False"),
    ("NetworkUnavailable", "False"),
)


@dataclass(frozen=True, slots=True)
class NodeChanges:
    """What applying a pool file did, by node name; a replaced node is in both."""

    created: frozenset[str]
    deleted: frozenset[str]

    @property
    def new(self) -> frozenset[str]:
        """Nodes of names that were not there before."""
        return self.created - self.deleted


def node_object(pool: "Pool", index: int, *, version: str, now: str) -> dict[str, Any]:
    """The Node object number `index` of a pool.

    Args:
        pool: its pool.
        index: counts from 0; the node is called `POOL-INDEX`.
        version: the Kubernetes version that its kubelet would have.
        now: since when it is Ready, as in an API object.
    """
    name = f"{pool.name}-{index}"
    resources: dict[str, str] = {
        "cpu": pool.cpu,
        "memory": pool.memory,
        "pods": str(pool.pods),
        "ephemeral-storage": pool.storage,
        **pool.resources,
    }
    if pool.gpu:
        resources["nvidia.com/gpu"] = str(pool.gpu)
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        # As a kubelet sets them; where they are missing, a controller patches every node.
        "beta.kubernetes.io/os": "linux",
        "beta.kubernetes.io/arch": "amd64",
        SIMULATED_LABEL: "true",
        POOL_LABEL: pool.name,
        **({"topology.kubernetes.io/zone": pool.zones[index % len(pool.zones)]} if pool.zones else {}),
        **pool.labels,
    }
    node: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "annotations": {KWOK_ANNOTATION: "fake"}},
        "spec": {"taints": [taint.model_dump(exclude_defaults=True) for taint in pool.taints]},
        "status": {
            "capacity": resources,
            "allocatable": resources,
            "addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": _address(name)}],
            "nodeInfo": _node_info(version),
        },
    }
    node["metadata"]["annotations"][TEMPLATE_ANNOTATION] = _digest(node)
    node["status"]["conditions"] = [
        {"type": kind, "status": status, "reason": "Simulated", "lastHeartbeatTime": now, "lastTransitionTime": now}
        for kind, status in _CONDITIONS
    ]
    return node


def apply_pools(
    kubeconfig: Path, pools: "PoolFile", *, version: str, now: dt.datetime, on_progress: Callable[[int, int], None]
) -> NodeChanges:
    """Make the cluster's pool nodes what the file says.

    Args:
        kubeconfig: of an administrator.
        pools: the file's content.
        version: see `node_object`.
        now: the time, in UTC.
        on_progress: called with requests done and in all; from several threads.
    """
    time = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    nodes = [node_object(pool, index, version=version, now=time) for pool in pools.pools for index in range(pool.count)]
    wanted = {str(node["metadata"]["name"]): node for node in nodes}
    with Connection(kubeconfig) as connection:
        present = {
            item["metadata"]["name"]: item["metadata"].get("annotations", {}).get(TEMPLATE_ANNOTATION, "")
            for item in connection.get(f"/api/v1/nodes?labelSelector={POOL_LABEL}")["items"]
        }
    stale = frozenset(name for name, digest in present.items() if _template(wanted.get(name)) != digest)
    missing = {name: node for name, node in wanted.items() if name not in present or name in stale}
    _Requests(kubeconfig, total=len(stale) + len(missing), on_progress=on_progress).run(stale, missing.values())
    return NodeChanges(created=frozenset(missing), deleted=stale)


class _Requests:
    """Sends deletions, then creations, over a few connections, one per thread."""

    def __init__(self, kubeconfig: Path, *, total: int, on_progress: Callable[[int, int], None]) -> None:
        self._kubeconfig = kubeconfig
        self._total = total
        self._on_progress = on_progress
        self._done = 0
        self._thread = local()
        self._connections: list[Connection] = []

    def run(self, stale: Iterable[str], missing: Iterable[Mapping[str, Any]]) -> None:
        with ThreadPoolExecutor(max_workers=_THREADS) as pool:
            try:
                # Exhausting the maps waits for all and raises the first error.
                for _ in pool.map(lambda name: self._connection().delete(f"/api/v1/nodes/{name}"), stale):
                    self._count()
                for _ in pool.map(lambda node: self._connection().post("/api/v1/nodes", node), missing):
                    self._count()
            finally:
                pool.shutdown(cancel_futures=True)
                for connection in self._connections:
                    connection.__exit__(None, None, None)

    def _connection(self) -> Connection:
        connection: Connection | None = getattr(self._thread, "connection", None)
        if connection is None:
            connection = self._thread.connection = Connection(self._kubeconfig)
            self._connections.append(connection)
        return connection

    def _count(self) -> None:
        self._done += 1
        self._on_progress(self._done, self._total)


def ready_count(
    connection: Connection, *, label: str = POOL_LABEL, leased: frozenset[str] = frozenset()
) -> tuple[int, int]:
    """How many nodes of a kind pods can be bound to, and how many there are.

    Args:
        connection: to the API server.
        label: what nodes of the kind carry; by default those that came from a pool file.
        leased: nodes that count only when kwok holds their Lease. For new names only: the Lease of a node that was
            replaced vanishes with it, and kwok notices at the next heartbeat.
    """
    items = connection.get(f"/api/v1/nodes?labelSelector={label}&resourceVersion=0")["items"]
    waiting = leased
    if leased:
        path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases?resourceVersion=0"
        waiting = leased - {lease["metadata"]["name"] for lease in connection.get(path)["items"]}
    return sum(is_usable(node) and node["metadata"]["name"] not in waiting for node in items), len(items)


def is_usable(node: Mapping[str, Any]) -> bool:
    """Whether pods can be bound to the node: Ready, and the taint of new nodes taken away."""
    conditions = node["status"].get("conditions", [])
    ready = any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
    taints = node["spec"].get("taints") or []
    return ready and not any(taint["key"] == "node.kubernetes.io/not-ready" for taint in taints)


def _template(node: Mapping[str, Any] | None) -> str | None:
    return None if node is None else str(node["metadata"]["annotations"][TEMPLATE_ANNOTATION])


def _digest(node: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(node, sort_keys=True).encode()).hexdigest()[:16]


def _address(name: str) -> str:
    """A made-up address from 100.64.0.0/10, which no network routes; the same for the same name."""
    number = zlib.crc32(name.encode()) % (1 << 22)
    return f"100.{64 + (number >> 16)}.{(number >> 8) & 255}.{number & 255}"


def _node_info(version: str) -> dict[str, str]:
    return {
        "architecture": "amd64",
        "operatingSystem": "linux",
        "kubeletVersion": version,
        "kubeProxyVersion": "",
        "containerRuntimeVersion": "simulated://kwok",
        "kernelVersion": "simulated",
        "osImage": "simulated",
        "bootID": "",
        "machineID": "",
        "systemUUID": "",
    }
