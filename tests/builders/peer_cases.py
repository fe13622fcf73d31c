"""Cases of other schedulers and of the papers, as events for the core and as manifests for the commands.

Amounts are scaled to integers. Names become labels that sort as the names do, so that whatever a name decides it
decides in both forms.
"""

import json
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.nodes import NodeSpec
from allotment_scheduler.core.objects.pods import PodSpec, SchedulingSpec
from allotment_scheduler.core.objects.tenants import Bounds, TenantSpec
from allotment_scheduler.core.objects.units import GroupSpec
from allotment_scheduler.core.state.cluster import ClusterState

CASES = json.loads((Path(__file__).parents[1] / "scheduling" / "data" / "peer_cases.json").read_text())["cases"]
SCALE = 1000
Case = dict[str, Any]
Manifest = dict[str, Any]


def units(amounts: dict[str, float]) -> dict[str, int]:
    return {"nvidia.com/gpu" if name == "gpu" else name: round(value * SCALE) for name, value in amounts.items()}


def node(name: str, capacity: dict[str, float], labels: dict[str, str] | None = None) -> ev.Event:
    return ev.NodeSeen(NodeSpec(name, {"pods": 1_000_000, **units(capacity)}, labels or {}))


def tenant(name: str, parent: str | None, weight: float, leaf: bool, **more: Any) -> ev.Event:
    namespaces = (f"ns-{name}",) if leaf else ()
    return ev.TenantSeen(TenantSpec(name, parent or "", Fraction(str(weight)), namespaces=namespaces, **more))


def requests(amounts: dict[str, float]) -> SchedulingSpec:
    asked = {name: amount for name, amount in amounts.items() if name != "pods"}
    return SchedulingSpec(tuple(sorted(units(asked).items())))


def schedule_events(case: Case) -> tuple[list[ev.Event], dict[str, tuple[str, str]]]:
    """The case as events, and the workload and queue of every pod."""
    out: list[ev.Event] = [node(n["name"], n["capacity"], n.get("labels")) for n in case["nodes"]]
    parents = {queue["parent"] for queue in case["queues"]}
    for queue in case["queues"]:
        bounds = {
            "guaranteed": Bounds(units(queue.get("guaranteed", {}))),
            "limits": Bounds(units(queue.get("limit", {}))),
        }
        suspended = not queue.get("active", True)
        name, parent, weight = queue["name"], queue["parent"], queue["weight"]
        out.append(tenant(name, parent, weight, name not in parents, suspended=suspended, **bounds))
    owner: dict[str, tuple[str, str]] = {}
    for work in sorted(case["workloads"], key=lambda work: work.get("arrival", 0)):
        namespace = f"ns-{work['queue']}"
        group = work["name"] if work["min_count"] > 1 else None
        if group:
            out.append(ev.GroupSeen(GroupSpec(namespace, group, work["min_count"])))
        for number, pod in enumerate(work["pods"]):
            for copy in range(pod.get("count", 1)):
                base = pod.get("name") or f"{work['name']}/{number}"
                name = base if pod.get("count", 1) == 1 else f"{base}#{copy}"
                owner[name] = (work["name"], work["queue"])
                on, order = pod.get("node"), len(owner)
                selector = tuple((pod.get("node_selector") or {}).items())
                asked = requests(pod["request"])
                out.append(
                    ev.PodSeen(
                        PodSpec(
                            namespace,
                            name,
                            SchedulingSpec(asked.requests, node_selector=selector),
                            priority=pod.get("priority", work["priority"]),
                            preemptible=pod.get("preemptible", work["preemptible"]),
                            created=order if on else 1e6 + order,
                            started=order if on else None,
                            node=on,
                            group=group,
                            recreated=False,
                        )
                    )
                )
    return out, owner


def order_events(case: Case) -> tuple[list[ev.Event], dict[str, str]]:
    """The case as events, and its paths by names of leaves; whoever has children uses by a leaf of his own."""
    paths = {client["path"]: client for client in case["clients"]}
    every = {"/".join(path.split("/")[: depth + 1]) for path in paths for depth in range(path.count("/") + 1)}
    inner = {path.rpartition("/")[0] for path in every} - {""}
    events, leaves = [node("all", case["totals"])], {}
    for path in sorted(every):
        active = paths.get(path, {}).get("active", True)
        leaf = path not in inner
        name, parent = path.replace("/", "-"), path.rpartition("/")[0].replace("/", "-")
        events.append(tenant(name, parent, case["weights"].get(path, 1), leaf, suspended=leaf and not active))
        if path in paths and not leaf:
            events.append(tenant(f"{name}.own", name, 1, leaf=True, suspended=not active))
            name = f"{name}.own"
        leaves[path] = name
    for path, client in paths.items():
        holds = any(client["allocation"].values())
        for number in range(max(client.get("allocation_count", 1), int(holds))):
            spec = requests(client["allocation"] if number == 0 else {})
            events.append(ev.PodSeen(PodSpec(f"ns-{leaves[path]}", f"{leaves[path]}-{number}", spec, node="all")))
    return events, {name: path for path, name in leaves.items()}


def engine_over(events: list[ev.Event]) -> Engine:
    state = ClusterState()
    state.apply_all(events)
    return Engine(state)


# --- as manifests -----------------------------------------------------------------------------------------------------


class Labels:
    """Short names that sort as the long ones do, of one kind of objects."""

    def __init__(self, prefix: str, names: set[str]) -> None:
        self.of = {name: f"{prefix}{rank:05}" for rank, name in enumerate(sorted(names))}
        self.back = {label: name for name, label in self.of.items()}


def tenant_labels(events: list[ev.Event]) -> Labels:
    """The tenants' names as a cluster would hold them."""
    return Labels("t", {event.spec.name for event in events if isinstance(event, ev.TenantSeen)})


def manifests(events: list[ev.Event]) -> tuple[list[Manifest], Labels]:
    """The events of a case as what a cluster would hold, and the pods' names there."""
    nodes = Labels("n", {event.spec.name for event in events if isinstance(event, ev.NodeSeen)})
    tenants = tenant_labels(events)
    pods = Labels("p", {event.spec.name for event in events if isinstance(event, ev.PodSeen)})
    groups = Labels("g", {event.spec.name for event in events if isinstance(event, ev.GroupSeen)})
    out: list[Manifest] = []
    for event in events:
        match event:
            case ev.NodeSeen(spec=node):
                out.append(_node(node, nodes.of[node.name]))
            case ev.TenantSeen(spec=tenant):
                out += _tenant(tenant, tenants)
            case ev.GroupSeen(spec=group):
                metadata = {"name": groups.of[group.name], "namespace": _namespace(group.namespace, tenants)}
                out.append(
                    _object("allotment.dev/v1alpha1", "PodGroup", metadata, spec={"minMember": group.min_member})
                )
            case ev.PodSeen(spec=pod):
                out.append(_pod(pod, pods.of[pod.name], nodes, tenants, groups))
    return out, pods


def _object(version: str, kind: str, metadata: Manifest, **rest: Any) -> Manifest:
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **rest}


def _quantities(amounts: Any) -> dict[str, str]:
    return {
        name if name in ("cpu", "memory", "pods") or "/" in name else f"example.com/{name}": (
            f"{amount}m" if name == "cpu" else str(amount)
        )
        for name, amount in dict(amounts).items()
    }


def _namespace(name: str, tenants: Labels) -> str:
    return f"ns-{tenants.of[name.removeprefix('ns-')]}"


def _node(spec: NodeSpec, label: str) -> Manifest:
    room = _quantities(spec.allocatable)
    status = {"capacity": room, "allocatable": room, "conditions": [{"type": "Ready", "status": "True"}]}
    return _object("v1", "Node", {"name": label, "labels": dict(spec.labels)}, status=status)


def _tenant(spec: TenantSpec, tenants: Labels) -> list[Manifest]:
    label = tenants.of[spec.name]
    namespaces = [_namespace(name, tenants) for name in spec.namespaces]
    about: Manifest = {
        "weight": float(spec.weight),
        "guaranteed": _quantities(spec.guaranteed.total),
        "limits": _quantities(spec.limits.total),
        "namespaces": namespaces,
        "suspended": spec.suspended,
    }
    if spec.parent:
        about["parent"] = tenants.of[spec.parent]
    owned = [
        _object("v1", "Namespace", {"name": name, "labels": {"allotment.dev/tenant": label}}) for name in namespaces
    ]  # fmt: skip
    return [_object("allotment.dev/v1alpha1", "Tenant", {"name": label}, spec=about), *owned]


def _pod(spec: PodSpec, label: str, nodes: Labels, tenants: Labels, groups: Labels) -> Manifest:
    # Seconds since the epoch, of the first days of 1970.
    created = datetime.fromtimestamp(spec.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    labels = {} if spec.preemptible else {"allotment.dev/preemptible": "false"}
    if spec.group:
        labels["allotment.dev/pod-group"] = groups.of[spec.group]
    requests = _quantities({name: amount for name, amount in spec.scheduling.requests if amount})
    about: Manifest = {
        "schedulerName": "allotment",
        "priority": spec.priority,
        "nodeSelector": dict(spec.scheduling.node_selector),
        "containers": [{"name": "main", "image": "app", "resources": {"requests": requests}}],
    }
    status: Manifest = {"phase": "Pending"}
    if spec.node:
        about["nodeName"] = nodes.of[spec.node]
        status = {"phase": "Running", "startTime": created}
    namespace = _namespace(spec.namespace, tenants)
    metadata = {"name": label, "uid": label, "namespace": namespace, "labels": labels, "creationTimestamp": created}
    return _object("v1", "Pod", metadata, spec=about, status=status)
