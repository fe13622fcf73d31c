"""The watches: one reflector per kind, each handing its objects to the picture.

No objects are kept by the reflectors: what the picture needs, it keeps in its own, smaller form. Kinds of ours come as
plain dicts, because a bad one must be told from a good one; everything else comes typed.

An object that cannot be taken in for a fault of ours is named in the log and left aside; the watch goes on.

Pods come last: with nodes, tenants and Jobs known before them, the first lists cost no second look at a pod.

Without the kinds that every decision rests on nobody leads: which one cannot be had, and why, is told in words to
whoever asks whether we are ready. Devices and PodGroups of Kubernetes itself may be absent (`optional_kinds`).
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from allotment_api.labels import API_VERSION
from allotment_kube.client import Client
from allotment_kube.errors import ApiError, ForbiddenError
from allotment_kube.program.server import Readiness
from allotment_kube.reflector import Deleted, Event, Key, Reflector, ReflectorStatistics, Synced
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
from allotment_scheduler.shell.freshness import Watched, caught_up, obstacle, present
from allotment_scheduler.shell.optional_kinds import OptionalKinds
from allotment_scheduler.shell.orphans import Orphans
from allotment_scheduler.shell.picture import Picture

_logger = logging.getLogger(__name__)
TENANTS: Final = Resource.custom(API_VERSION, "Tenant", "tenants", namespaced=False)
NODE_POOLS: Final = Resource.custom(API_VERSION, "NodePool", "nodepools", namespaced=False)
SCHEDULING_GROUPS: Final = [
    Resource.custom(f"scheduling.k8s.io/{version}", "PodGroup", "podgroups").decoded_as(SchedulingPodGroup)
    for version in ("v1beta1", "v1alpha3", "v1alpha2")
]
"""PodGroups of Kubernetes itself (KEP-5832) in every version, the newest first; by default none is served."""
_LOOK_AT_OBSTACLES: Final = 5.0
_ASK_AGAIN: Final = 60.0
POD_GROUPS: Final = Resource.custom(API_VERSION, "PodGroup", "podgroups")


class Watches:
    """All watches of one scheduler.

    Args:
        client: unguarded: a standby watches too.
        picture: takes what is seen.
        readiness: told what is awaited, why it does not come, and what there is not.
    """

    def __init__(self, client: Client, picture: Picture, readiness: Readiness | None = None) -> None:
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
            (POD_DISRUPTION_BUDGETS, ground.budget, _gone(ground.budget)),
            (JOBS, jobs.job, jobs.job_gone),
            (POD_GROUPS, groups.group, groups.group_gone),
        ]
        self._client = client
        self._readiness = readiness = readiness or Readiness()
        self._ground = [
            _reflect(client, picture, readiness, resource, seen=seen, gone=gone) for resource, seen, gone in made
        ]
        self._pods = _reflect(client, picture, readiness, PODS, seen=picture.pod, gone=picture.pod_gone)
        self._orphans = Orphans(jobs, self._know_all_jobs)
        for reflector in self._required:
            readiness.await_(str(reflector.resource))
        takers: dict[str, Callable[[Any, Any], None]] = {
            str(RESOURCE_CLAIMS): hardware.resource_claim,
            str(DEVICE_CLASSES): hardware.device_class,
            str(RESOURCE_SLICES): hardware.resource_slice,
            str(SCHEDULING_GROUPS[0]): groups.scheduling_group,
        }

        def reflect(resource: Resource[Any]) -> Reflector[Any]:
            taker = takers[str(resource)]
            return _reflect(client, picture, readiness, resource, seen=taker, gone=_gone(taker))

        # Claims first: a device is offered only once it is known who has it.
        devices = (RESOURCE_CLAIMS, DEVICE_CLASSES, RESOURCE_SLICES)
        groups_of_kubernetes = [(resource,) for resource in SCHEDULING_GROUPS]

        def gone(resource: Resource[Any], key: Key) -> None:
            takers[str(resource)](key, None)

        self._optional = [
            OptionalKinds(client, [devices], reflect, readiness, gone),
            OptionalKinds(client, groups_of_kubernetes, reflect, readiness, gone, dispensable=True),
        ]

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as group:
            for kinds in self._optional:
                group.create_task(kinds.run(), name=f"watch {', '.join(kinds.names)}")
            for reflector in self._ground:
                group.create_task(reflector.run(), name=f"watch {reflector.resource}")
            group.create_task(self._tell_obstacles(), name="obstacles")
            for reflector in self._ground:
                await reflector.synced()
            for kinds in self._optional:
                await kinds.settled()
            group.create_task(self._pods.run(), name="watch pods")
            group.create_task(self._orphans.run(), name="orphans")

    async def synced(self) -> None:
        """Wait until everything has been listed, or is known to be absent where it may be."""
        for kinds in self._optional:
            await kinds.settled()
        for reflector in self._required:
            await reflector.synced()

    async def _tell_obstacles(self) -> None:
        """Say of each kind that does not come why it does not, until all have come."""
        while pending := [each for each in self._required if not each.statistics.lists]:
            await asyncio.sleep(_LOOK_AT_OBSTACLES)
            for reflector in pending:
                if reflector.statistics.failures and not reflector.statistics.lists:
                    await self._tell_obstacle(reflector)

    async def _tell_obstacle(self, reflector: Reflector[Any]) -> None:
        resource = reflector.resource
        try:
            await present(self._client, resource)
        except ApiError as error:
            if reflector.statistics.lists:
                return  # it has come while we asked
            why = obstacle(resource, error)
            if self._readiness.await_(str(resource), why):
                _logger.warning("%s cannot be listed, and nobody can lead without: %s", resource, why)

    async def caught_up(self) -> None:
        """Wait until the picture shows everything as it is now, or newer: before anything is decided by it."""
        async with asyncio.TaskGroup() as group:
            for reflector in self._required:
                group.create_task(self._catch_up(reflector, optional=False))
            for kinds in self._optional:
                for name in kinds.watches:
                    catch_up = self._catch_up_if_allowed if kinds.dispensable else self._catch_up
                    group.create_task(catch_up(_Newest(kinds.watches, name), optional=True))

    async def _know_all_jobs(self) -> None:
        """Wait until every Job that exists now has been told."""
        said: set[str] = set()

        def hindered(why: str) -> None:
            if why not in said:
                said.add(why)
                _logger.warning("pods wait for their Job, and it is not known whether it exists: %s", why)

        watched = next(each for each in self._ground if each.resource is JOBS)
        await caught_up(self._client, watched, hindered, optional=False)

    async def _catch_up_if_allowed(self, watched: Watched, *, optional: bool) -> None:
        """Go on without, where the right to read a kind was taken away: nobody else would lead for waiting."""
        while not await self._is_forbidden(watched.resource):
            with suppress(TimeoutError):
                async with asyncio.timeout(_ASK_AGAIN):
                    await self._catch_up(watched, optional=optional)
                return

    async def _is_forbidden(self, resource: Resource[Any]) -> bool:
        try:
            await present(self._client, resource)
        except ForbiddenError as error:
            _logger.warning("what was known of %s stays: %s", resource, obstacle(resource, error))
            return True
        except ApiError:
            pass  # what catches up waits for it, and says so
        return False

    async def _catch_up(self, reflector: Watched, *, optional: bool) -> None:
        name = f"what was written to {reflector.resource} last"

        def hindered(why: str) -> None:
            if self._readiness.await_(name, why):
                _logger.warning("nothing is decided before it is known %s: %s", name, why)

        try:
            await caught_up(self._client, reflector, hindered, optional=optional)
        finally:
            self._readiness.done(name)

    @property
    def _required(self) -> list[Reflector[Any]]:
        return [*self._ground, self._pods]

    def names(self) -> list[str]:
        """Every kind."""
        return [
            *(str(reflector.resource) for reflector in self._required),
            *(name for kinds in self._optional for name in kinds.names),
        ]

    def statistics(self) -> Iterator[tuple[str, ReflectorStatistics]]:
        """What each watch has been through."""
        for reflector in (
            *self._required,
            *(each for kinds in self._optional if not kinds.lost for each in kinds.watches.values()),
        ):
            yield str(reflector.resource), reflector.statistics


class _Newest:
    """The watch of an optional kind, by name: it may be replaced while somebody waits for it."""

    def __init__(self, watches: Mapping[str, Reflector[Any]], name: str) -> None:
        self._watches = watches
        self._name = name

    @property
    def resource(self) -> Resource[Any]:
        return self._watches[self._name].resource

    @property
    def resource_version(self) -> str:
        return self._watches[self._name].resource_version

    def relist(self) -> None:
        self._watches[self._name].relist()


def _reflect(
    client: Client,
    picture: Picture,
    readiness: Readiness,
    resource: Resource[Any],
    *,
    seen: Callable[[Any, Any], None],
    gone: Callable[[Any], None],
) -> Reflector[Any]:
    # Kinds of ours are named as their statuses name them; another group's kind of the same name is told from them.
    named = str(resource) if resource.kind == POD_GROUPS.kind and resource.group != POD_GROUPS.group else resource.kind

    def handle(event: Event[Any]) -> None:
        if isinstance(event, Synced):
            readiness.done(str(resource))
            return
        picture.once_more(named, event.key)
        try:
            if isinstance(event, Deleted):
                gone(event.key)
            else:
                seen(event.key, event.new)
        except Exception as error:
            _logger.exception("%s %s cannot be taken in", named, "/".join(event.key).strip("/"))
            picture.failed(named, event.key, error)

    return Reflector(client, resource, handle, keep_objects=False)


def _gone(take: Callable[[Any, None], None]) -> Callable[[Any], None]:
    return lambda key: take(key, None)
