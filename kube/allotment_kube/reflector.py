"""A local picture of one kind that always converges to the server's: list once, then watch for ever.

The reflector turns the API's list-and-watch into a plain story for one handler: `Added`, `Modified`, `Deleted`, and
`Synced` after every complete list. Whatever happens on the wire, the story stays consistent:

- an object is added once, its versions only move forward (late and repeated events are dropped), and it is deleted
  once; a successor of the same name with another uid is a `Deleted` and an `Added`;
- when the watch can go on, it goes on from the last version seen (bookmarks keep that fresh on quiet kinds);
- when it cannot (410), everything is listed again and the difference is told, deletions included;
- lists that are older than what was seen (a lagging API server) are refused and tried again; only when they stay old
  does the reflector believe that the cluster was restored from a backup, and starts over.

Resource versions are compared as integers, which the API guarantees from Kubernetes 1.35 on (KEP-5504).

The handler is called on the loop and must not block; an exception in it is a bug and ends the reflector. The cache
holds whole objects, or only uid and version where the handler keeps its own state (`keep_objects=False`).
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from sys import intern
from typing import Any, Final, Generic, TypeVar

import msgspec

from .client import DEFAULT_PAGE_SIZE, Client
from .decoding import UndecodableObject, WatchEvent
from .errors import ApiError, GoneError, RetryError
from .resources import Resource
from .retries import Backoff
from .watch import WatchSettings, watch

T = TypeVar("T")
Key = tuple[str, str]
"""Namespace (empty for cluster-scoped kinds) and name."""

_logger = logging.getLogger(__name__)
_PEACE: Final = 10.0  # seconds of watching after which a failure counts as the first one again
_LONGEST_WAIT: Final = 30.0  # seconds that a server may ask for: a proxy that names an hour would leave us blind
_YIELD_AFTER: Final = 256  # events told without letting other tasks run; about 5 ms of work for pods


class Added(msgspec.Struct, Generic[T], frozen=True, gc=False):
    """An object exists that did not before."""

    key: Key
    new: T


class Modified(msgspec.Struct, Generic[T], frozen=True, gc=False):
    """The object changed; `old` is None if objects are not kept."""

    key: Key
    old: T | None
    new: T


class Deleted(msgspec.Struct, Generic[T], frozen=True, gc=False):
    """The object is gone; `last` is its last known state, None if neither watched nor kept."""

    key: Key
    uid: str
    last: T | None


class Synced(msgspec.Struct, frozen=True, gc=False):
    """A list is complete: the story so far is a state the server has had. `lists` counts them from 1."""

    lists: int


Event = Added[T] | Modified[T] | Deleted[T] | Synced
Handler = Callable[[Event[T]], None]


@dataclass(frozen=True, slots=True)
class ReflectorSettings:
    """How a reflector lists, watches and recovers."""

    page_size: int = DEFAULT_PAGE_SIZE
    """Objects per page of a list; 0 asks for all at once."""
    watch: WatchSettings = field(default_factory=WatchSettings)
    """How long one watch lives."""
    backoff: Backoff = field(default_factory=lambda: Backoff(first=0.5, limit=30.0))
    """Delays between failures; some seconds of peace reset them."""
    stale_lists: int = 10
    """Lists in a row that may be older than what was seen, before they are believed."""


@dataclass(slots=True)
class ReflectorStatistics:
    """What a reflector has been through, for metrics."""

    lists: int = 0
    """Complete lists."""
    relists: int = 0
    """Lists after the first one."""
    watches: int = 0
    """Watches opened."""
    events: int = 0
    """Events received, bookmarks not counted."""
    bookmarks: int = 0
    """Bookmarks received."""
    stale: int = 0
    """Events dropped as late or repeated, and lists refused as too old."""
    failures: int = 0
    """Lists and watches that ended in an error."""
    undecodable: int = 0
    """Times that an object was left out because its type cannot hold it."""
    unread: int = 0
    """Objects that are left out now, for that reason."""
    last_heard: float = field(default=0.0)
    """Loop time of the last sign of life; now minus this is the lag to alert on."""


class _Known(msgspec.Struct, gc=False):
    """What is remembered of an object; `object` is None if objects are not kept."""

    uid: str
    version: int
    object: Any


class Reflector(Generic[T]):
    """Reflects one kind, of one namespace or all, narrowed by selectors."""

    def __init__(
        self,
        client: Client,
        resource: Resource[T],
        handler: Handler[T] | None = None,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        keep_objects: bool = True,
        settings: ReflectorSettings = ReflectorSettings(),
        rng: random.Random | None = None,
    ) -> None:
        self.resource = resource
        self.statistics = ReflectorStatistics()
        self._client = client
        self._handler = handler
        self._scope = {"namespace": namespace, "label_selector": label_selector, "field_selector": field_selector}
        self._keep_objects = keep_objects
        self._settings = settings
        self._rng = rng or client.rng
        self._known: dict[Key, _Known] = {}
        self._unread: set[Key] = set()  # objects whose present version cannot be read; what was known of them stays
        self._version = ""  # where to watch from; empty: list first
        self._latest = 0  # the newest version seen in any way; events up to here have been told
        self._stale_lists = 0
        self._watching: asyncio.Timeout | None = None
        self._synced = asyncio.Event()
        self._identity_of = _dict_identity if resource.model in _DICT_TYPES else _struct_identity

    @property
    def resource_version(self) -> str:
        """The version up to which the story is told; empty before the first list or when a list is due."""
        return self._version

    def get(self, name: str, namespace: str = "") -> T | None:
        """The object as last seen."""
        known = self._known.get((namespace, name))
        return None if known is None else known.object

    def objects(self) -> Mapping[Key, T]:
        """A copy of all objects as last seen."""
        return {key: known.object for key, known in self._known.items()}

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, key: Key) -> bool:
        return key in self._known

    async def synced(self) -> None:
        """Wait for the first complete list."""
        await self._synced.wait()

    def relist(self) -> None:
        """Leave the present watch and list anew: it may be dead, and a list tells the difference at once."""
        if self._version and self._watching is not None:
            self._watching.reschedule(0.0)
        self._version = ""

    async def run(self) -> None:
        """List and watch until cancelled. Ends by itself only if the handler fails."""
        attempt = 0
        while True:
            began = asyncio.get_running_loop().time()
            try:
                if not self._version:
                    await self._list()
                await self._watch()
                failure: Exception | None = None
            except GoneError as error:
                failure, self._version = error, ""
            except (ApiError, _StaleListError) as error:
                # Missing kinds and rights are worth waiting for as well: a CRD or a role may be a second away. So is
                # whatever a proxy on the way makes up.
                failure = error
            peaceful = asyncio.get_running_loop().time() - began
            attempt = 0 if failure is None or peaceful > _PEACE else attempt
            if failure is not None:
                self.statistics.failures += 1
                _logger.log(
                    logging.INFO if isinstance(failure, GoneError | RetryError) else logging.WARNING,
                    "%s: %s; trying again",
                    self.resource,
                    failure,
                )
                await asyncio.sleep(self._pause(failure, attempt))
                attempt += 1
            elif peaceful < 1.0:
                # A server that closes at once would otherwise be asked in a tight loop.
                await asyncio.sleep(self._settings.backoff.delay(0, self._rng))

    def _pause(self, failure: Exception, attempt: int) -> float:
        if isinstance(failure, GoneError) and attempt == 0:
            return 0.0
        delay = self._settings.backoff.delay(attempt, self._rng)
        after = getattr(failure, "after", None)
        return delay if after is None else max(delay, min(float(after), _LONGEST_WAIT) + delay / 2)

    async def _list(self) -> None:
        seen: set[Key] = set()
        unread: set[Key] = set()
        of_page: set[Key] = set()

        def leave_out(what: UndecodableObject) -> None:
            # It exists, whatever it holds now: what was known of it stays, or its pod's room would be given away.
            of_page.add((what.namespace, what.name))
            self._leave_out(what)

        version = ""
        pages = self._client.pages(
            self.resource,
            page_size=self._settings.page_size,
            on_undecodable=leave_out,
            **self._scope,
        )
        async with aclosing(pages):
            async for page in pages:
                if page.first:
                    seen.clear()
                    unread.clear()
                    self._accept_list_at(page.resource_version)
                unread |= of_page
                of_page.clear()
                for index, item in enumerate(page.items, 1):
                    seen.add(self._take(item))
                    if index % _YIELD_AFTER == 0:
                        await asyncio.sleep(0)
                version = page.resource_version
                self._heard()
        for key in [key for key in self._known if key not in seen and key not in unread]:
            self._drop(key, None)
        self._set_unread(unread)
        self._version, self._latest = version, _number(version)
        self.statistics.lists += 1
        self.statistics.relists = self.statistics.lists - 1
        self._tell(Synced(self.statistics.lists))
        self._synced.set()

    def _accept_list_at(self, resource_version: str) -> None:
        """Refuse to go back in time, unless time itself went back."""
        if _number(resource_version) >= self._latest:
            self._stale_lists = 0
            return
        self.statistics.stale += 1
        self._stale_lists += 1
        if self._stale_lists <= self._settings.stale_lists:
            raise _StaleListError(f"the list at {resource_version} is older than {self._latest}, seen before")
        _logger.error("%s: the server has gone back in time (restored from a backup?); starting over", self.resource)
        self._stale_lists = self._latest = 0
        for known in self._known.values():
            known.version = 0

    async def _watch(self) -> None:
        self.statistics.watches += 1
        batches = watch(
            self._client.transport,
            self.resource,
            self._version,
            settings=self._settings.watch,
            rng=self._rng,
            on_undecodable=self._leave_out,
            **self._scope,
        )
        scope = self._watching = asyncio.timeout(None)
        try:
            async with scope, aclosing(batches):
                await self._follow(batches)
        except TimeoutError:
            if not scope.expired():
                raise
            self._version = ""  # events that were on their way may have set it again
        finally:
            self._watching = None

    async def _follow(self, batches: AsyncIterator[list[WatchEvent[T]]]) -> None:
        told = 0
        async for batch in batches:
            self._heard()
            for event in batch:
                self._receive(event)
                told += 1
                if told % _YIELD_AFTER == 0:
                    await asyncio.sleep(0)

    def _receive(self, event: WatchEvent[T]) -> None:
        key, _, version = self._identity_of(event.object)
        if event.type == "BOOKMARK":
            self.statistics.bookmarks += 1
        else:
            self.statistics.events += 1
            if version <= self._latest:
                # Versions only grow along a watch, so this was told before: a repetition after a reconnect, or the
                # past of an object that may be gone since.
                self.statistics.stale += 1
                return
            if event.type != "DELETED":
                self._take(event.object)
            else:
                self._read(key)
                if key in self._known:
                    self._drop(key, event.object)
        if version > self._latest:
            self._latest = version
            self._version = str(version)

    def _take(self, new: T) -> Key:
        """Tell of an object that exists, unless this version of it (or a later one) was told before."""
        key, uid, version = self._identity_of(new)
        known = self._known.get(key)
        if known is not None and version <= known.version:
            return key
        if known is not None and known.uid != uid:
            self._drop(key, None)
            known = None
        self._read(key)
        self._known[key] = _Known(uid, version, new if self._keep_objects else None)
        self._tell(Added(key, new) if known is None else Modified(key, known.object, new))
        return key

    def _drop(self, key: Key, last: T | None) -> None:
        known = self._known.pop(key)
        self._tell(Deleted(key, known.uid, known.object if last is None else last))

    def _tell(self, event: Event[T]) -> None:
        if self._handler is not None:
            self._handler(event)

    def _heard(self) -> None:
        self.statistics.last_heard = asyncio.get_running_loop().time()

    def _read(self, key: Key) -> None:
        if key in self._unread:
            self._set_unread(self._unread - {key})

    def _set_unread(self, keys: set[Key]) -> None:
        self._unread, self.statistics.unread = keys, len(keys)

    def _leave_out(self, what: UndecodableObject) -> None:
        key = (what.namespace, what.name)
        if what.gone:
            self._read(key)
            if key in self._known:
                self._drop(key, None)
            return
        self._set_unread(self._unread | {key})
        self.statistics.undecodable += 1
        _logger.warning("%s %s/%s is left out: %s", self.resource, what.namespace, what.name, what.reason)


async def run_together(reflectors: Iterable[Reflector[Any]]) -> None:
    """Run several reflectors until cancelled; if one of them fails, all end."""
    async with asyncio.TaskGroup() as group:
        for reflector in reflectors:
            group.create_task(reflector.run(), name=f"watch {reflector.resource}")


async def all_synced(reflectors: Iterable[Reflector[Any]]) -> None:
    """Wait until each of them has its first complete list."""
    for reflector in reflectors:
        await reflector.synced()


class _StaleListError(Exception):
    """The server listed a past that we had left behind."""


_DICT_TYPES: Final = (dict, dict[str, Any])


def _struct_identity(item: Any) -> tuple[Key, str, int]:  # noqa: ANN401 - any Struct with metadata
    metadata = item.metadata
    # Keys are kept, and objects are many to a namespace.
    return (intern(metadata.namespace), metadata.name), metadata.uid, _number(metadata.resource_version)


def _dict_identity(item: Any) -> tuple[Key, str, int]:  # noqa: ANN401 - any JSON object
    metadata = item["metadata"]
    key = (metadata.get("namespace", ""), metadata.get("name", ""))
    return key, metadata.get("uid", ""), _number(metadata.get("resourceVersion", ""))


def _number(resource_version: str) -> int:
    return int(resource_version) if resource_version else 0
