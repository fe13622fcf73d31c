"""Ends real nodes and removes all that the machine has of them: what `down`, a failed `up` and the guardian call.

In two halves, because the control plane stops in between: nodes go before the API server, and the bridge goes after
it, whose address it is.
"""

from pathlib import Path

from allotment_local import process
from allotment_local.process import ProcessRecord
from allotment_local.real_node import network
from allotment_local.real_node.network import Slot
from allotment_local.real_node.state import BACKGROUND, RealNodesState, record

_GRACE = 5.0


def end_nodes(folder: Path) -> None:
    """Kill every node of a cluster, and what serves them; a cluster without real nodes is left as it is."""
    state = RealNodesState.load(folder)
    if state is None:
        return
    for name in BACKGROUND:
        path = record(folder, name)
        serving = ProcessRecord.load(path)
        if serving is not None:
            process.terminate(serving, grace=_GRACE)
        path.unlink(missing_ok=True)
    for node in state.nodes(folder):
        node.kill()


def remove_network(folder: Path) -> None:
    """Remove the cluster's bridge, with its links and routes."""
    state = RealNodesState.load(folder)
    if state is not None:
        network.remove_bridge(Slot(state.slot))
