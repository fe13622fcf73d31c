"""Which nodes a Cassandra cluster has, and which may join next.

How it thinks: nodes join one after the other, round the racks, each only once all before it serve: Cassandra refuses
two that join at once, and a ring in which a node is down is not the time to add one. Nodes hold data, so a smaller size
takes none away; that needs a decommission, which this version does not do. One that has only ever waited for room holds
none, and goes. Nodes whose volumes a former cluster of the name left behind have joined long ago: they start at once,
all of them, or what they hold has no quorum.

The first node of every rack of the beginning is a seed, and stays one: a seed does not fetch data when it joins, so no
node added later may ever be one. The seeds are recorded on the volume claims' templates, which never change.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from allotment_api.cassandra import CassandraCluster, CassandraRack
from allotment_operator.plans.actions import Manifest
from allotment_operator.plans.outcome import Observed, pod_is_ready
from allotment_operator.plans.storage import claims, holders
from allotment_operator.plans.unworkable import UnworkableError
from allotment_operator.services.cassandra.names import Names

RACK_LABEL: Final = "allotment.dev/rack"
SEEDS_ANNOTATION: Final = "allotment.dev/cassandra-seeds"


@dataclass(frozen=True, slots=True)
class Rack:
    """One rack.

    Attributes:
        wanted: nodes it should have in the end: never fewer than hold data.
        replicas: nodes it should have now.
        existing: its live StatefulSet.
    """

    spec: CassandraRack
    wanted: int
    replicas: int
    existing: Manifest | None


@dataclass(frozen=True, slots=True)
class Ring:
    """All racks.

    Attributes:
        seeds: racks whose first node is a seed.
        waiting: what the next node waits for, in words; empty where none is to join.
        kept: what stays although the spec no longer asks for it, in words; empty where nothing.
    """

    racks: tuple[Rack, ...]
    seeds: tuple[str, ...]
    waiting: str
    kept: str

    @classmethod
    def of(cls, resource: CassandraCluster, observed: Observed, *, settled: bool) -> "Ring":
        """Work out the nodes from the spec and from what is there.

        Args:
            resource: the custom resource.
            observed: its children.
            settled: whether more nodes may join than the first three: not before the superuser is replaced.

        Raises:
            UnworkableError: retained volumes are of a rack that the spec does not name.
        """
        names = Names.of(resource)
        live = {each["metadata"]["name"]: each for each in observed.of_kind("StatefulSet")}
        asked = spread(resource.spec.size, len(resource.spec.racks))
        sets = [live.get(names.group(rack.name)) for rack in resource.spec.racks]
        held = [
            holders(observed, names.group(rack.name), each)
            for rack, each in zip(resource.spec.racks, sets, strict=True)
        ]
        if not live:
            _refuse_lost_racks(resource, observed)
        wanted = [max(pair) for pair in zip(asked, held, strict=True)]
        now, waiting = _joining(names, resource, observed, wanted, held, settled=settled)
        racks = tuple(
            Rack(spec, want, have, each)
            for spec, want, have, each in zip(resource.spec.racks, wanted, now, sets, strict=True)
        )
        kept = ""
        if sum(wanted) > resource.spec.size:
            kept = (
                f"The ring keeps its {sum(wanted)} nodes although size is {resource.spec.size}: nodes hold data, and "
                f"this version does not decommission. Restore size: {sum(wanted)}."
            )
        seeds = recorded_seeds(observed) or tuple(rack.name for rack in resource.spec.racks)
        return cls(racks, seeds, waiting, kept)

    @property
    def wanted(self) -> int:
        """Nodes that the ring should have in the end."""
        return sum(rack.wanted for rack in self.racks)

    def seed_hosts(self, names: Names) -> list[str]:
        """Return the host names of the seeds."""
        return [names.host(rack, 0) for rack in self.seeds]

    def annotations(self) -> dict[str, str]:
        """Return what the volume claims carry."""
        return {SEEDS_ANNOTATION: json.dumps(list(self.seeds))}


def spread(size: int, racks: int) -> list[int]:
    """Return how many nodes each rack has: evenly, the first racks one more where it does not divide."""
    return [size // racks + (1 if index < size % racks else 0) for index in range(racks)]


def recorded_seeds(observed: Observed) -> tuple[str, ...]:
    """Return the racks whose first node is a seed, as the volume claims have it; none before there are any."""
    for kind in ("StatefulSet", "PersistentVolumeClaim"):
        for manifest in observed.of_kind(kind):
            claims = manifest["spec"].get("volumeClaimTemplates") or [] if kind == "StatefulSet" else [manifest]
            for claim in claims:
                recorded = (claim["metadata"].get("annotations") or {}).get(SEEDS_ANNOTATION)
                if recorded:
                    return tuple(json.loads(recorded))
    return ()


def _joining(
    names: Names,
    resource: CassandraCluster,
    observed: Observed,
    wanted: list[int],
    held: list[int],
    *,
    settled: bool,
) -> tuple[list[int], str]:
    """Return how many nodes each rack should have now, and what the next one waits for.

    One that was let join and still waits for room is let join again: it comes after those that hold data.
    """
    ready = {pod["metadata"]["name"] for pod in observed.of_kind("Pod") if pod_is_ready(pod)}
    now = list(held)
    before: list[str] = []
    for index, ordinal in _order(wanted):
        pod = names.pod(resource.spec.racks[index].name, ordinal)
        if ordinal < now[index]:
            before.append(pod)
            continue
        lacking = [name for name in before if name not in ready]
        if lacking:
            return now, f"{pod} joins once {', '.join(lacking[:3])} {'serves' if len(lacking) == 1 else 'serve'}."
        if len(before) >= 3 and not settled:
            return now, f"{pod} joins once Cassandra's own superuser has been replaced."
        now[index] += 1
        return now, f"{pod} joins the ring."
    return now, ""


def _order(wanted: list[int]) -> Iterator[tuple[int, int]]:
    """Yield rack and ordinal in the order in which nodes join: round the racks."""
    for ordinal in range(max(wanted, default=0)):
        for index, count in enumerate(wanted):
            if ordinal < count:
                yield index, ordinal


def _refuse_lost_racks(resource: CassandraCluster, observed: Observed) -> None:
    named = {rack.name for rack in resource.spec.racks}
    racks = {str((claim["metadata"].get("labels") or {}).get(RACK_LABEL, "")) for claim in claims(observed, labels={})}
    if lost := sorted(racks - named - {""}):
        raise UnworkableError(
            f"a former cluster of this name left volumes of rack {', '.join(lost)}, which spec.racks does not name: "
            "name it as it was, or delete its PersistentVolumeClaims and the data on them"
        )
