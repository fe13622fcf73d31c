"""The storage class's provisioner: gives claims a disk on the node that their pod goes to, grows it, removes it.

Like everything else in Kubernetes it compares what is wanted with what is there, and does one step:

    claim waits and the scheduler has chosen a node   make a disk, publish it as a volume of that node
    claim asks for more than its volume has           grow the disk, then say so
    volume is released                                remove the disk, then the volume

`decide` is a pure function of a claim and its volume. Every step may be repeated: a crash in between costs nothing but
the repetition. A node that does not run makes its steps wait.

`python -m allotment_local.real_node.volumes FOLDER` serves the cluster in that folder until it is terminated.
"""

import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from allotment_api import quantities
from allotment_kube import Client, Event, KubernetesError, MergePatch, Object, Reflector, Synced, load_configuration
from allotment_kube.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES
from allotment_local.errors import LocalClusterError
from allotment_local.real_node.addons import PROVISIONER, STORAGE_CLASS
from allotment_local.real_node.disk import Disk
from allotment_local.real_node.node import RealNode
from allotment_local.real_node.state import RealNodesState

CLAIMS = PERSISTENT_VOLUME_CLAIMS.untyped
VOLUMES = PERSISTENT_VOLUMES.untyped

_SELECTED_NODE = "volume.kubernetes.io/selected-node"
_PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
_MANAGER = "allotment-local-disk"
_RETRY_DELAY = 2.0

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Provision:
    """Make a volume for a claim."""

    volume: str
    node: str
    size: int


@dataclass(frozen=True, slots=True)
class Expand:
    """Make a claim's volume larger."""

    volume: str
    node: str
    size: int


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove a volume that nobody claims any more."""

    volume: str
    node: str


Step = Provision | Expand | Remove


def volume_name(claim: Mapping[str, Any]) -> str:
    """The name of the volume that a claim gets: the same at every try."""
    return f"pvc-{claim['metadata']['uid']}"


def decide(claim: Mapping[str, Any] | None, volume: Mapping[str, Any] | None) -> Step | None:
    """What to do about a claim and its volume, either of which may not exist."""
    if volume is not None and volume["spec"].get("storageClassName") != STORAGE_CLASS:
        return None
    if volume is not None and volume.get("status", {}).get("phase") == "Released":
        retained = volume["spec"].get("persistentVolumeReclaimPolicy") != "Delete"
        return None if retained else Remove(volume["metadata"]["name"], _node_of(volume))
    if claim is None or claim["spec"].get("storageClassName") != STORAGE_CLASS:
        return None
    if claim["metadata"].get("deletionTimestamp"):
        return None
    size = _bytes(claim["spec"]["resources"]["requests"]["storage"])
    if volume is None:
        node = claim["metadata"].get("annotations", {}).get(_SELECTED_NODE)
        waits = claim.get("status", {}).get("phase") == "Pending" and not claim["spec"].get("volumeName")
        return Provision(volume_name(claim), node, size) if waits and node else None
    has = claim.get("status", {}).get("capacity", {}).get("storage")
    if has is not None and size > _bytes(has):
        return Expand(volume["metadata"]["name"], _node_of(volume), size)
    return None


def volume_object(step: Provision, claim: Mapping[str, Any], *, size: int, path: Path) -> Object:
    """The volume that a claim is bound to: a folder on its node, and on no other."""
    metadata = claim["metadata"]
    affinity = {"key": "kubernetes.io/hostname", "operator": "In", "values": [step.node]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": step.volume, "annotations": {_PROVISIONED_BY: PROVISIONER}},
        "spec": {
            "capacity": {"storage": _written(size)},
            "accessModes": claim["spec"]["accessModes"],
            "volumeMode": "Filesystem",
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": STORAGE_CLASS,
            "local": {"path": str(path)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [affinity]}]}},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
        },
    }


def _bytes(written: object) -> int:
    return quantities.units("storage", written)


def _written(size: int) -> str:
    return f"{size >> 20}Mi"  # disks are whole mebibytes; the API server writes 1024Mi as 1Gi


def _node_of(volume: Mapping[str, Any]) -> str:
    terms = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    return str(terms[0]["matchExpressions"][0]["values"][0])


class Provisioner:
    """Does the steps, one at a time.

    Args:
        client: as a user that may read claims and write volumes.
        nodes: the real nodes by name.
    """

    def __init__(self, client: Client, nodes: Mapping[str, RealNode]) -> None:
        self._client = client
        self._nodes = nodes
        self._claims = Reflector(client, CLAIMS, self._on_event)
        self._volumes = Reflector(client, VOLUMES, self._on_event)
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._claims.run())
            group.create_task(self._volumes.run())
            group.create_task(self._work())

    def _on_event(self, event: Event[Object]) -> None:
        if not isinstance(event, Synced):
            self._changed.set()

    async def _work(self) -> None:
        await asyncio.gather(self._claims.synced(), self._volumes.synced())
        while True:
            self._changed.clear()
            failed = False
            for claim, volume in self._pairs():
                step = decide(claim, volume)
                if step is not None:
                    failed |= not await self._try(step, claim)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), _RETRY_DELAY if failed else None)

    def _pairs(self) -> list[tuple[Object | None, Object | None]]:
        """Every claim with its volume, then every volume whose claim is gone."""
        volumes = {name: volume for (_, name), volume in self._volumes.objects().items()}
        claims = self._claims.objects().values()
        pairs = [(claim, volumes.pop(claim["spec"].get("volumeName") or volume_name(claim), None)) for claim in claims]
        return [*pairs, *((None, volume) for volume in volumes.values())]

    async def _try(self, step: Step, claim: Object | None) -> bool:
        """Do a step; a failure is told and tried again."""
        try:
            await self._do(step, claim)
        except (LocalClusterError, KubernetesError, OSError) as error:
            _logger.warning("%s: %s", step, error)
            return False
        _logger.info("%s: done", step)
        return True

    async def _do(self, step: Step, claim: Object | None) -> None:
        node = self._nodes.get(step.node)
        if node is None:
            raise LocalClusterError(f"{step.node} is no real node: nothing can be stored there.")
        disk = Disk(node, step.volume)
        if isinstance(step, Remove):
            await asyncio.to_thread(disk.remove)
            await self._client.delete(VOLUMES, step.volume)
            return
        assert claim is not None  # noqa: S101 - both steps are about a claim
        if isinstance(step, Provision):
            size = await asyncio.to_thread(disk.make, step.size)
            body = volume_object(step, claim, size=size, path=disk.mount_point)
            await self._client.apply(VOLUMES, body, manager=_MANAGER, force=True)
            return
        size = await asyncio.to_thread(disk.grow, step.size)
        capacity = {"capacity": {"storage": _written(size)}}
        await self._client.patch(VOLUMES, step.volume, MergePatch({"spec": capacity}))
        metadata = claim["metadata"]
        await self._client.patch(
            CLAIMS,
            metadata["name"],
            MergePatch({"status": {**capacity, "conditions": None}}),
            namespace=metadata["namespace"],
            subresource="status",
        )


async def serve(folder: Path, kubeconfig: Path) -> None:
    """Serve the real nodes of the cluster in a folder."""
    state = RealNodesState.load(folder)
    if state is None:
        raise LocalClusterError(f"{folder} is no cluster with real nodes.")
    async with Client.connect(load_configuration(kubeconfig), user_agent=_MANAGER) as client:
        await Provisioner(client, {node.name: node for node in state.nodes(folder)}).run()


def main(run: Callable[[Any], None] = asyncio.run) -> None:
    """Serve the folder and kubeconfig named on the command line."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    run(serve(Path(sys.argv[1]), Path(sys.argv[2])))


if __name__ == "__main__":
    main()
