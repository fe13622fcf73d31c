"""Addresses and links of real nodes: one bridge on the machine, one veth pair per node, routes to pods and Services.

A cluster with real nodes takes one of eight slots. A slot is three ranges that no other cluster of this machine uses:

    nodes     10.80.SLOT.0/24     the bridge (and API server) is .1, node I is .(10+I)
    pods      10.(81+SLOT).0.0/16 node I has 10.(81+SLOT).I.0/24
    Services  10.(96+SLOT).0.0/16 the cluster's DNS is .0.10

The machine is one more host on the bridge: it reaches pods and Services over routes through the nodes, and never
forwards anything itself, so its sysctls and its firewall stay as they are. Links and routes hang on the bridge:
deleting that one device removes them all.
"""

import ipaddress
import json
from collections.abc import Iterable
from dataclasses import dataclass

from allotment_local.errors import LocalClusterError
from allotment_local.real_node.tools import ToolError, run, succeeds

SLOTS = range(8)
MAX_NODES = 16

_Network = ipaddress.IPv4Network


@dataclass(frozen=True, slots=True)
class Slot:
    """The addresses of one cluster with real nodes."""

    number: int

    @property
    def bridge(self) -> str:
        """Name of the bridge."""
        return f"allot{self.number}"

    @property
    def node_range(self) -> _Network:
        """Where nodes and the machine meet."""
        return _Network(f"10.80.{self.number}.0/24")

    @property
    def pod_range(self) -> _Network:
        """All pods' addresses."""
        return _Network(f"10.{81 + self.number}.0.0/16")

    @property
    def service_range(self) -> _Network:
        """Cluster IPs of Services."""
        return _Network(f"10.{96 + self.number}.0.0/16")

    @property
    def host(self) -> str:
        """The machine's own address on the bridge: the API server's."""
        return str(self.node_range[1])

    @property
    def dns(self) -> str:
        """The cluster IP of the Service kube-dns."""
        return str(self.service_range[10])

    def node(self, index: int) -> str:
        """The address of node number `index`, which counts from 1."""
        return str(self.node_range[10 + index])

    def pods_of(self, index: int) -> _Network:
        """The pod addresses of one node."""
        return _Network(f"10.{81 + self.number}.{index}.0/24")

    def link_of(self, index: int) -> str:
        """The machine's end of a node's veth pair."""
        return f"{self.bridge}-{index}"


def free_slot(taken: Iterable[_Network]) -> Slot:
    """The first slot whose ranges meet none of the machine's networks.

    Raises:
        LocalClusterError: there is none.
    """
    networks = list(taken)
    for slot in map(Slot, SLOTS):
        ours = (slot.node_range, slot.pod_range, slot.service_range)
        if not any(mine.overlaps(other) for mine in ours for other in networks):
            return slot
    raise LocalClusterError(
        "None of the address ranges for real nodes (10.80.0.0/21, 10.81-88.0.0, 10.96-103.0.0) is free.",
        hint="`allot local status` names other clusters; `ip route` shows what else uses them.",
    )


def machine_networks() -> list[_Network]:
    """Every IPv4 network that the machine has a route to, the default route left out."""
    found = []
    for route in json.loads(run("ip", "-json", "-4", "route", "show", "table", "all")):
        destination = str(route.get("dst", "default"))
        if destination != "default":
            found.append(_Network(destination, strict=False))
    return found


def make_bridge(slot: Slot) -> None:
    """Create the bridge with the machine's address on it; one that is there already stays."""
    if exists(slot.bridge):
        return
    run("ip", "link", "add", slot.bridge, "type", "bridge")
    run("ip", "address", "add", f"{slot.host}/24", "dev", slot.bridge)
    run("ip", "link", "set", slot.bridge, "up")


def remove_bridge(slot: Slot) -> None:
    """Delete the bridge, and with it every route through it."""
    for index in range(1, MAX_NODES + 1):
        _delete(slot.link_of(index))
    _delete(slot.bridge)


def connect(slot: Slot, index: int, *, pid: int) -> None:
    """Put a cable between the bridge and the network namespace of a process, where its end is called eth0."""
    link = slot.link_of(index)
    _delete(link)  # of a node killed a moment ago, which the kernel has not cleaned up yet
    run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
    run("ip", "link", "set", link, "master", slot.bridge, "up")
    run("ip", "route", "replace", str(slot.pods_of(index)), "via", slot.node(index), "dev", slot.bridge)


def route_services(slot: Slot, index: int) -> None:
    """Let the machine reach cluster IPs through one node."""
    run("ip", "route", "replace", str(slot.service_range), "via", slot.node(index), "dev", slot.bridge)


def exists(link: str) -> bool:
    """Whether the machine has a link of that name."""
    return succeeds("ip", "link", "show", link)


def _delete(link: str) -> None:
    try:
        run("ip", "link", "delete", link)
    except ToolError:
        if exists(link):
            raise
