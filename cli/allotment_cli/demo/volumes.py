"""A stand-in for a storage provisioner: simulated nodes have no disks, but claims must be bound all the same.

It serves one StorageClass, the cluster's default, and does what a provisioner owes the API: a volume for each claim
that waits, and the end of volumes whose claim is gone. Binding, protection and reclaiming are the real controllers'.
"""

import asyncio
import logging
from typing import Any, Final

from allotment_kube.client import Client
from allotment_kube.errors import AlreadyExistsError, ApiError, NotFoundError
from allotment_kube.reflector import Deleted, Event, Reflector, Synced
from allotment_kube.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES

CLASS: Final = "simulated"
PROVISIONER: Final = "allotment.dev/simulated"
STORAGE_CLASS: Final[dict[str, Any]] = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
    "provisioner": PROVISIONER,
    "reclaimPolicy": "Delete",
    "volumeBindingMode": "Immediate",
}

_logger = logging.getLogger(__name__)
Object = dict[str, Any]


class Volumes:
    """Binds the claims of one StorageClass to volumes that hold nothing."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._work: asyncio.Queue[Object] = asyncio.Queue()

    async def run(self) -> None:
        """Work until cancelled."""
        claims = Reflector(self._client, PERSISTENT_VOLUME_CLAIMS.untyped, self._note, keep_objects=False)
        volumes = Reflector(self._client, PERSISTENT_VOLUMES.untyped, self._note, keep_objects=False)
        async with asyncio.TaskGroup() as group:
            group.create_task(claims.run())
            group.create_task(volumes.run())
            while True:
                item = await self._work.get()
                try:
                    await self._serve(item)
                except ApiError as error:
                    _logger.warning("%s: %s; trying again", item["metadata"]["name"], error)
                    await asyncio.sleep(0.5)
                    self._work.put_nowait(item)

    def _note(self, event: Event[Object]) -> None:
        if isinstance(event, Synced | Deleted) or event.new["spec"].get("storageClassName") != CLASS:
            return
        phase = (event.new.get("status") or {}).get("phase")
        if phase == ("Pending" if _is_claim(event.new) else "Released"):
            self._work.put_nowait(event.new)

    async def _serve(self, item: Object) -> None:
        if _is_claim(item):
            try:
                await self._client.create(PERSISTENT_VOLUMES, volume(item))
            except AlreadyExistsError:
                return
        elif item["spec"].get("persistentVolumeReclaimPolicy") == "Delete":
            try:
                await self._client.delete(PERSISTENT_VOLUMES, item["metadata"]["name"])
            except NotFoundError:
                return


def _is_claim(item: Object) -> bool:
    return "namespace" in item["metadata"]  # kinds are missing from objects in lists


def volume(claim: Object) -> Object:
    """The volume for a claim."""
    metadata, spec = claim["metadata"], claim["spec"]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": f"pvc-{metadata['uid']}",
            # With it the real controller leaves the volume's end to its provisioner.
            "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER},
        },
        "spec": {
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": spec["accessModes"],
            "storageClassName": CLASS,
            "persistentVolumeReclaimPolicy": "Delete",
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
            "hostPath": {"path": f"/simulated/{metadata['uid']}"},
        },
    }
