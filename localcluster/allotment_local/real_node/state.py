"""What a cluster's real nodes are: written before the first of them starts, read by every later command.

`nodes.json` in the cluster's folder is all that taking down needs, so that it works in another shell, after a crash and
after a reboot.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from allotment_local.real_node.configuration import NodeDescription
from allotment_local.real_node.network import Slot
from allotment_local.real_node.node import RealNode
from allotment_local.real_node.paths import NodeFolder

REAL_LABEL = "allotment.dev/real"
"""On the Node objects of real nodes."""

BACKGROUND = ("volumes",)
"""Processes of the machine that serve real nodes, besides the nodes themselves."""


@dataclass(frozen=True, slots=True)
class RealNodesState:
    """The real nodes of one cluster.

    Attributes:
        slot: number of its address slot.
        count: how many nodes there are; they count from 1.
        cni: folder with the network plugins.
        reserved_memory: bytes that each node does not offer to pods.
    """

    slot: int
    count: int
    cni: str
    reserved_memory: int

    def save(self, folder: Path) -> None:
        """Write nodes.json in one step."""
        temporary = folder / f"nodes.json.{os.getpid()}"
        temporary.write_text(json.dumps(asdict(self), indent=2), encoding="utf-8")
        temporary.replace(folder / "nodes.json")

    @classmethod
    def load(cls, folder: Path) -> "RealNodesState | None":
        """Read nodes.json of a cluster's folder; None if it has no real nodes."""
        try:
            return cls(**json.loads((folder / "nodes.json").read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None

    def nodes(self, folder: Path) -> Iterator[RealNode]:
        """Every node, running or not."""
        slot = Slot(self.slot)
        for index in range(1, self.count + 1):
            name = f"real-{index}"
            description = NodeDescription(
                name=name,
                index=index,
                slot=slot,
                cgroup=slot.link_of(index),
                cni=self.cni,
                reserved_memory=self.reserved_memory,
            )
            yield RealNode(description, NodeFolder(folder / "nodes" / name), record(folder, name))

    def processes(self, folder: Path, logs: Path) -> Iterator[tuple[str, Path, Path]]:
        """Name, pid file and log of every process that there should be: those of BACKGROUND, and one per node."""
        for name in BACKGROUND:
            yield name, record(folder, name), logs / f"{name}.log"
        for node in self.nodes(folder):
            yield node.name, node.record, node.folder.logs / "init.log"


def record(folder: Path, name: str) -> Path:
    """The pid file of a node or of a background process, in a folder of its own beside the components'."""
    return folder / "nodes" / "run" / f"{name}.json"


def real_node_count(folder: Path) -> int:
    """How many real nodes the cluster in a folder has, running or not."""
    state = RealNodesState.load(folder)
    return state.count if state else 0
