"""Pictures of the bank's cluster, as the demo's witness would draw them."""

from typing import Any

from allotment_cli.demo.facts import Builds, History, NodeFact, Observation, PodFact, ServiceFact, TenantFact

GIB = 2**30


def node(name: str, pool: str = "general", *, cpu: int = 16, gpu: int = 0) -> NodeFact:
    """A node of a pool."""
    room = {"cpu": cpu * 1000, "memory": 64 * GIB, "pods": 110}
    return NodeFact(name, pool, {**room, "nvidia.com/gpu": gpu} if gpu else room)


def pod(
    name: str, namespace: str, *, on: str = "", owner: str = "", cpu: int = 4, gpu: int = 0, **fields: Any
) -> PodFact:
    """A pod that runs on a node, or waits if none is named."""
    requests = {"cpu": cpu * 1000, "memory": 8 * GIB}
    known = {
        "uid": f"uid-{namespace}-{name}",
        "phase": "Running" if on else "Pending",
        "node": on,
        "scheduler": "allotment",
        "kind": "Job",
        "component": "",
    }
    return PodFact(
        namespace=namespace,
        name=name,
        owner=owner or name,
        requests={**requests, "nvidia.com/gpu": gpu} if gpu else requests,
        **{**known, **fields},
    )


def tenant(
    name: str, parent: str = "", *, weight: float = 1, share: float = 0, ready: bool = True, **fields: Any
) -> TenantFact:
    """A tenant with a dominant share of CPU."""
    return TenantFact(name, parent, weight, ready, share, "cpu", **fields)


def service(kind: str, namespace: str, name: str, *, ready: bool = True, **fields: Any) -> ServiceFact:
    """A service that is Ready by its simulated pods, or not yet."""
    known = {"reason": "PodsReadySimulated" if ready else "WaitingForPods", "message": ""}
    return ServiceFact(kind=kind, namespace=namespace, name=name, ready=ready, **{**known, **fields})


BANK = (
    tenant("retail", weight=2),
    tenant("payments", "retail", weight=2),
    tenant("fraud", "retail"),
    tenant("markets", weight=2),
    tenant("risk", "markets", weight=3),
    tenant("research", "markets"),
    tenant("platform", weight=0.5),
    tenant("ci", "platform"),
)


def picture(
    *pods: PodFact,
    tenants: tuple[TenantFact, ...] = BANK,
    services: tuple[ServiceFact, ...] = (),
    nodes: tuple[NodeFact, ...] = (),
    builds: Builds | None = None,
    history: History | None = None,
    **fields: Any,
) -> Observation:
    """A picture of the cluster; later tenants of one name replace earlier ones."""
    return Observation(
        tenants={each.name: each for each in tenants},
        pods=pods,
        services={(each.kind, each.namespace, each.name): each for each in services},
        nodes=nodes,
        builds=builds or Builds(),
        history=history or History(),
        **fields,
    )
