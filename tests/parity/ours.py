"""Our engine's feasible nodes, from the same objects: by the way the live scheduler reads them, and offline.

Both end at the placer's own answer (`Placer.best`, confined to one node at a time), so that what is compared is what
decides, score matrix included.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec
import numpy as np

from allotment_kube import devices, nodes, pods, storage
from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.pods import PodKey
from allotment_scheduler.core.objects.tenants import TenantSpec
from allotment_scheduler.core.state.cluster import ClusterState
from allotment_scheduler.manifests import Document, Manifests
from allotment_scheduler.shell.picture import Picture

Object = Mapping[str, Any]
Feasible = dict[PodKey, frozenset[str] | None]
"""The nodes on which each waiting pod could start now; None: it is not to be tried at all."""

TENANT: Final = "parity"


class _Undecided:
    """Nothing of ours is under way."""

    def node_of(self, key: PodKey, uid: str) -> str | None:  # noqa: ARG002 - as Decided has it
        return None

    def is_leaving(self, key: PodKey, uid: str) -> bool:  # noqa: ARG002 - as Decided has it
        return False

    def quarantined(self, key: PodKey, uid: str) -> bool:  # noqa: ARG002 - as Decided has it
        return False

    def is_barred(self, key: PodKey, uid: str) -> bool:  # noqa: ARG002 - as Decided has it
        return False

    def is_spared(self, key: PodKey, uid: str) -> bool:  # noqa: ARG002 - as Decided has it
        return False

    def seen_bound(self, key: PodKey, uid: str, node: str) -> None:
        """Nobody asks."""

    def seen_gone(self, key: PodKey) -> None:
        """Nobody asks."""


def live(objects: Iterable[Object]) -> Feasible:
    """As the live scheduler sees it: typed objects through its picture of the cluster."""
    state = ClusterState()
    picture = Picture(state, _Undecided(), lambda: None)
    tellers: dict[str, tuple[Any, Callable[[tuple[str, str], Any], None]]] = {
        "Namespace": (nodes.Namespace, picture.ground.namespace),
        "Node": (nodes.Node, picture.ground.node),
        "CSINode": (storage.CSINode, picture.ground.csi_node),
        "StorageClass": (storage.StorageClass, picture.ground.storage_class),
        "PersistentVolume": (storage.PersistentVolume, picture.ground.volume),
        "PersistentVolumeClaim": (storage.PersistentVolumeClaim, picture.ground.claim),
        "ResourceSlice": (devices.ResourceSlice, picture.hardware.resource_slice),
        "DeviceClass": (devices.DeviceClass, picture.hardware.device_class),
        "ResourceClaim": (devices.ResourceClaim, picture.hardware.resource_claim),
        "Pod": (pods.Pod, picture.pod),
    }
    for each in objects:
        model, tell = tellers[each["kind"]]
        metadata = each["metadata"]
        tell((metadata.get("namespace", ""), metadata["name"]), msgspec.convert(each, model, strict=False))
    picture.hardware.offer()
    return _feasible(state)


def offline(objects: Iterable[Object]) -> Feasible:
    """As the offline commands see it: manifests read by `allotment_scheduler.manifests`."""
    state = ClusterState()
    documents = [Document(f"object {number}", _existing(each)) for number, each in enumerate(objects, start=1)]
    state.apply_all(Manifests(documents).events())
    return _feasible(state)


def _existing(found: Object) -> Object:
    """A claim as the API server has it: no controller is imitated for what exists."""
    if found["kind"] != "PersistentVolumeClaim":
        return found
    return {**found, "metadata": {"uid": f"uid-{found['metadata']['name']}", **found["metadata"]}}


def _feasible(state: ClusterState) -> Feasible:
    spaces = tuple(state.namespaces)
    state.apply(ev.TenantSeen(TenantSpec(TENANT, namespaces=spaces)))
    engine = Engine(state)
    state.settle()
    names = [node.spec.name for node in state.nodes.ordered]
    alone = np.eye(len(names), dtype=np.bool_)
    found: Feasible = {}
    for key, pod in state.pods.items():
        if pod.node is not None or not pod.spec.ours:
            continue
        if pod.spec.gated or pod.invalid:
            found[key] = None if pod.spec.gated else frozenset()
            continue
        row = engine.placer.row(state.lineup.row_key(pod))
        found[key] = frozenset(
            name for name, only in zip(names, alone, strict=True) if engine.placer.best(row, only) >= 0
        )
    return found
