"""The watches: one reflector per kind, each handing its objects to the picture.

No objects are kept by the reflectors: what the picture needs, it keeps in its own, smaller form. Kinds of ours come as
plain dicts, because a bad one must be told from a good one; everything else comes typed.

An object that cannot be taken in for a fault of ours is named in the log and left aside; the watch goes on.

Pods come last: with nodes, tenants and Jobs known before them, the first lists cost no second look at a pod.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any, Final

from allotment_api.labels import API_VERSION
from allotment_kube.client import Client
from allotment_kube.errors import ApiError, NotFoundError
from allotment_kube.reflector import Deleted, Event, Reflector, ReflectorStatistics, Synced
from allotment_kube.resources import (
    CSI_NODES,
    DEVICE_CLASSES,
    JOBS,
    NAMESPACES,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    POD_DISRUPTION_BUDGETS,
    PODS,
    PRIORITY_CLASSES,
    RESOURCE_CLAIMS,
    RESOURCE_SLICES,
    STORAGE_CLASSES,
    Resource,
)
from allotment_kube.workloads import SchedulingPodGroup
from allotment_scheduler.shell.freshness import caught_up
from allotment_scheduler.shell.picture import Picture

_logger = logging.getLogger(__name__)
TENANTS: Final = Resource.custom(API_VERSION, "Tenant", "tenants", namespaced=False)
NODE_POOLS: Final = Resource.custom(API_VERSION, "NodePool", "nodepools", namespaced=False)
SCHEDULING_GROUPS: Final = ("scheduling.k8s.io/v1beta1", "scheduling.k8s.io/v1alpha3", "scheduling.k8s.io/v1alpha2")
"""Versions that serve PodGroups of Kubernetes itself (KEP-5832), the newest first; by default there are none."""
_ASK_AGAIN: Final = 600.0
_AFTER_FAILURE: Final = 5.0
POD_GROUPS: Final = Resource.custom(API_VERSION, "PodGroup", "podgroups")


class Watches:
    """All watches of one scheduler.

    Args:
        client: unguarded: a standby watches too.
        picture: takes what is seen.
        told: given the counts of each kind for metrics.
    """

    def __init__(self, client: Client, picture: Picture) -> None:
        ground, groups, jobs, hardware = picture.ground, picture.groups, picture.jobs, picture.hardware
        made: list[tuple[Resource[Any], Callable[[Any, Any], None], Callable[[Any], None]]] = [
            (PRIORITY_CLASSES, groups.priority_class, _gone(groups.priority_class)),
            (NODE_POOLS, ground.pool, ground.pool_gone),
            (TENANTS, ground.tenant, ground.tenant_gone),
            (NAMESPACES, ground.namespace, _gone(ground.namespace)),
            (CSI_NODES, ground.csi_node, _gone(ground.csi_node)),
            (NODES, ground.node, _gone(ground.node)),
            (STORAGE_CLASSES, ground.storage_class, _gone(ground.storage_class)),
            (PERSISTENT_VOLUMES, ground.volume, _gone(ground.volume)),
            (PERSISTENT_VOLUME_CLAIMS, ground.claim, _gone(ground.claim)),
            (DEVICE_CLASSES, hardware.device_class, _gone(hardware.device_class)),
            (RESOURCE_SLICES, hardware.resource_slice, _gone(hardware.resource_slice)),
            (RESOURCE_CLAIMS, hardware.resource_claim, _gone(hardware.resource_claim)),
            (POD_DISRUPTION_BUDGETS, ground.budget, _gone(ground.budget)),
            (JOBS, jobs.job, jobs.job_gone),
            (POD_GROUPS, groups.group, groups.group_gone),
        ]
        self._client, self._picture = client, picture
        self._groups_known = asyncio.Event()
        """Whether PodGroups of scheduling.k8s.io have been listed, or are not served."""
        self._ground = [_reflect(client, picture, resource, seen, gone) for resource, seen, gone in made]
        self._pods = _reflect(client, picture, PODS, picture.pod, picture.pod_gone)

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_scheduling_groups(), name="watch scheduling groups")
            for reflector in self._ground:
                group.create_task(reflector.run(), name=f"watch {reflector.resource}")
            for reflector in self._ground:
                await reflector.synced()
            group.create_task(self._pods.run(), name="watch pods")

    async def synced(self, told: Callable[[str], None] = lambda _: None) -> None:
        """Wait until everything has been listed; `told` hears each kind's name as it is."""
        for reflector in (*self._ground, self._pods):
            await reflector.synced()
            told(str(reflector.resource))
        await self._groups_known.wait()

    async def _watch_scheduling_groups(self) -> None:
        """Watch PodGroups of scheduling.k8s.io once they are served."""
        while True:
            try:
                served = await self._served()
            except ApiError as error:
                _logger.warning("whether PodGroups of scheduling.k8s.io are served cannot be told: %s", error)
                await asyncio.sleep(_AFTER_FAILURE)
                continue
            if served is not None:
                break
            self._groups_known.set()
            await asyncio.sleep(_ASK_AGAIN)
        seen = self._picture.groups.scheduling_group
        reflector = _reflect(self._client, self._picture, served.decoded_as(SchedulingPodGroup), seen, _gone(seen))
        async with asyncio.TaskGroup() as group:
            group.create_task(reflector.run())
            await reflector.synced()
            self._groups_known.set()

    async def _served(self) -> Resource[Any] | None:
        for version in SCHEDULING_GROUPS:
            try:
                return await self._client.discover(version, "PodGroup")
            except NotFoundError:
                continue
        return None

    async def caught_up(self) -> None:
        """Wait until the picture shows every pod as it is now, or newer: before it is decided by."""
        await caught_up(self._client, self._pods)

    def names(self) -> list[str]:
        """Every kind, as `told` will name it."""
        return [str(reflector.resource) for reflector in (*self._ground, self._pods)]

    def statistics(self) -> Iterator[tuple[str, ReflectorStatistics]]:
        """What each watch has been through."""
        for reflector in (*self._ground, self._pods):
            yield str(reflector.resource), reflector.statistics


def _reflect(
    client: Client,
    picture: Picture,
    resource: Resource[Any],
    seen: Callable[[Any, Any], None],
    gone: Callable[[Any], None],
) -> Reflector[Any]:
    def handle(event: Event[Any]) -> None:
        if isinstance(event, Synced):
            return
        try:
            if isinstance(event, Deleted):
                gone(event.key)
            else:
                seen(event.key, event.new)
        except Exception as error:
            _logger.exception("%s %s cannot be taken in", resource.kind, "/".join(event.key).strip("/"))
            picture.failed(resource.kind, event.key, error)

    return Reflector(client, resource, handle, keep_objects=False)


def _gone(take: Callable[[Any, None], None]) -> Callable[[Any], None]:
    return lambda key: take(key, None)
