"""Which nodes a Kafka cluster has: pools, node ids, roles, host names.

How it thinks: a pool owns a range of node ids, kept for ever. A node holds data, so fewer replicas or a pool left out
of the spec take nothing away: the nodes stay, and the topology says so. They can go only once their partitions have
been moved, which this version does not do. A node that has only ever waited for room holds none, and goes. The same
holds of nodes whose volumes a former cluster of the name left behind: a quorum needs the voters that it has.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from allotment_api.kafka import IDS_PER_POOL, KafkaCluster, KafkaPool
from allotment_api.labels import POOL_LABEL
from allotment_operator.plans.actions import Manifest
from allotment_operator.plans.outcome import Observed
from allotment_operator.plans.storage import holders
from allotment_operator.plans.unworkable import UnworkableError
from allotment_operator.services.kafka.identity import Identity, recorded_first_node_ids
from allotment_operator.services.kafka.names import Names


@dataclass(frozen=True, slots=True)
class Pool:
    """One pool with what follows from the cluster's history.

    Attributes:
        spec: what the owner asks for.
        replicas: nodes to run: never fewer than hold data or founded the quorum.
        existing: its live StatefulSet.
    """

    spec: KafkaPool
    first_node_id: int
    replicas: int
    existing: Manifest | None

    @property
    def is_broker(self) -> bool:
        """Whether its nodes hold data."""
        return "broker" in self.spec.roles

    @property
    def is_controller(self) -> bool:
        """Whether its nodes hold the metadata."""
        return "controller" in self.spec.roles

    @property
    def component(self) -> str:
        """The component label of its nodes: brokers are what clients look for."""
        return "broker" if self.is_broker else "controller"

    @property
    def node_ids(self) -> range:
        """The ids of its nodes."""
        return range(self.first_node_id, self.first_node_id + self.replicas)


@dataclass(frozen=True, slots=True)
class Topology:
    """All nodes of a cluster.

    Attributes:
        pools: those of the spec.
        left_out: nodes that stay, holding data or the quorum, of pools that are no longer in the spec, by pool name.
        ranges: first node id of every pool that ever was, by name.
        identity: ids that disks carry.
        kept: what stays although the spec no longer asks for it, in words; empty where nothing.
    """

    pools: tuple[Pool, ...]
    left_out: Mapping[str, int]
    ranges: Mapping[str, int]
    identity: Identity
    kept: str

    @classmethod
    def of(cls, resource: KafkaCluster, observed: Observed) -> "Topology":
        """Work out the nodes from the spec and from what is there.

        Raises:
            UnworkableError: a pool asks for node ids that were another's, or retained volumes are of a pool that the
                spec does not name.
        """
        names = Names.of(resource)
        live = {_pool_of(each): each for each in observed.of_kind("StatefulSet")}
        ranges = _ranges(resource, observed)
        founders = recorded.founders if (recorded := Identity.recorded(observed)) else ()
        held = {
            name: max(holders(observed, names.group(name), live.get(name)), _founding(founders, first))
            for name, first in ranges.items()
        }
        pools = tuple(
            Pool(spec, ranges[spec.name], max(spec.replicas, held[spec.name]), live.get(spec.name))
            for spec in resource.spec.pools
        )
        named = {pool.spec.name for pool in pools}
        lost = [name for name in sorted(held) if held[name] and name not in named]
        if lost and not live:
            raise UnworkableError(
                f"a former cluster of this name left volumes of pool {', '.join(lost)}, which spec.pools does not "
                f"name: name it as it was, or delete its PersistentVolumeClaims and the data on them"
            )
        left_out = {name: held[name] for name in lost if name in live}
        controllers = [node for pool in pools if pool.is_controller for node in pool.node_ids]
        identity = Identity.of(observed, uid=resource.metadata.uid or "", controllers=controllers)
        return cls(pools, left_out, ranges, identity, _kept(pools, left_out))

    @property
    def replicas(self) -> int:
        """Nodes that should run."""
        return sum(pool.replicas for pool in self.pools) + sum(self.left_out.values())

    @property
    def brokers(self) -> int:
        """Brokers that the spec's pools hold."""
        return sum(pool.replicas for pool in self.pools if pool.is_broker)

    def founders(self, names: Names) -> list[tuple[int, str]]:
        """Return id and host of the controllers that founded the quorum.

        Raises:
            UnworkableError: volumes tell of founders that no pool has.
        """
        hosts: dict[int, str] = {}
        for name, first in self.ranges.items():
            hosts.update({first + each: names.host(name, each) for each in _ordinals(self.identity.founders, first)})
        if unknown := [node for node in self.identity.founders if node not in hosts]:
            raise UnworkableError(
                f"the cluster on the retained volumes was founded by the nodes {', '.join(map(str, unknown))}, which "
                "no pool has: name the pool of its controllers as it was, with its firstNodeId"
            )
        return [(node, hosts[node]) for node in self.identity.founders]


def _ranges(resource: KafkaCluster, observed: Observed) -> dict[str, int]:
    """Return the first node id of every pool, old and new; a new pool gets the next free range."""
    states = resource.status.pools if resource.status else ()
    known = {state.name: state.first_node_id for state in states}
    known |= recorded_first_node_ids(observed, pool_label=POOL_LABEL)
    for pool in resource.spec.pools:
        if pool.first_node_id is None or known.get(pool.name) == pool.first_node_id:
            continue
        owner = next((name for name, first in known.items() if first == pool.first_node_id), None)
        if owner is not None:
            raise UnworkableError(
                f"pool {pool.name}: node ids from {pool.first_node_id} on belong to pool {owner}, whose disks carry "
                f"them: write another firstNodeId, or leave it out"
            )
        known[pool.name] = pool.first_node_id
    for pool in resource.spec.pools:
        if pool.name not in known:
            taken = set(known.values())
            known[pool.name] = next(first for first in range(0, 10**9, IDS_PER_POOL) if first not in taken)
    return known


def _ordinals(founders: Iterable[int], first: int) -> list[int]:
    """Return the founders of the pool with this first node id, counted from it."""
    return [node - first for node in founders if first <= node < first + IDS_PER_POOL]


def _founding(founders: Iterable[int], first: int) -> int:
    """Return how many nodes the pool needs for all its founders to be among them."""
    return max((ordinal + 1 for ordinal in _ordinals(founders, first)), default=0)


def _kept(pools: Iterable[Pool], left_out: Mapping[str, int]) -> str:
    too_many = [
        f"pool {pool.spec.name} keeps its {pool.replicas} nodes although replicas is {pool.spec.replicas}"
        for pool in pools
        if pool.replicas > pool.spec.replicas
    ]
    too_many += [
        f"pool {name} keeps its {count} nodes although the spec names it no more" for name, count in left_out.items()
    ]
    if not too_many:
        return ""
    return (
        f"{'; '.join(too_many)}: nodes hold data or founded the quorum, and this version moves neither elsewhere. "
        "Restore the former value."
    )


def _pool_of(stateful_set: Manifest) -> str:
    return str((stateful_set["metadata"].get("labels") or {}).get(POOL_LABEL, ""))
