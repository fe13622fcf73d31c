"""The fake API server's memory: objects, one revision counter, and a history that watches replay.

Like etcd, every write gets the next revision, and the history can be compacted, after which older versions are gone.
"""

import asyncio
import bisect
import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from fakes.patching import Owners

Object = dict[str, Any]
Key = tuple[str, str]
START_REVISION = 100


@dataclass(frozen=True, slots=True)
class Change:
    """One revision: what an object was and became."""

    revision: int
    kind: str
    type: str
    object: Object
    previous: Object | None


@dataclass(slots=True)
class Store:
    """All objects of all kinds; `kind` is the resource's string form, such as `jobs.batch`."""

    revision: int = START_REVISION
    compacted: int = 0
    history: list[Change] = field(default_factory=list)
    objects: dict[str, dict[Key, Object]] = field(default_factory=dict)
    owners: dict[tuple[str, str], Owners] = field(default_factory=dict)
    listeners: list[Callable[[Change], None]] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def get(self, kind: str, key: Key) -> Object | None:
        """The object as stored; copy before changing it."""
        return self.objects.get(kind, {}).get(key)

    def all(self, kind: str, namespace: str = "") -> list[Object]:
        """All objects, sorted as the API sorts them."""
        found = self.objects.get(kind, {})
        return [found[key] for key in sorted(found) if not namespace or key[0] == namespace]

    def write(self, kind: str, new: Object) -> Object:
        """Store an object under the next revision."""
        new = copy.deepcopy(new)
        key = key_of(new)
        previous = self.get(kind, key)
        self.revision += 1
        new["metadata"]["resourceVersion"] = str(self.revision)
        self.objects.setdefault(kind, {})[key] = new
        self._record(Change(self.revision, kind, "ADDED" if previous is None else "MODIFIED", new, previous))
        return copy.deepcopy(new)

    def remove(self, kind: str, key: Key) -> Object:
        """Forget an object; its last state gets the revision of its deletion."""
        previous = self.objects[kind].pop(key)
        self.owners.pop((kind, previous["metadata"]["uid"]), None)
        self.revision += 1
        last = copy.deepcopy(previous)
        last["metadata"]["resourceVersion"] = str(self.revision)
        self._record(Change(self.revision, kind, "DELETED", last, previous))
        return last

    def compact(self) -> None:
        """Drop the history: watches from before now, and continue tokens, are answered with 410."""
        self.compacted = self.revision
        self.history.clear()

    def since(self, revision: int) -> Iterator[Change]:
        """Changes after a revision."""
        start = bisect.bisect_right(self.history, revision, key=lambda change: change.revision)
        return iter(self.history[start:])

    def at(self, kind: str, revision: int) -> list[Object]:
        """All objects as they were at an earlier revision, as a stale cache would tell."""
        past = dict(self.objects.get(kind, {}))
        for change in reversed(self.history):
            if change.revision <= revision:
                break
            if change.kind == kind:
                key = key_of(change.object)
                past.pop(key, None)
                if change.previous is not None:
                    past[key] = change.previous
        return [past[key] for key in sorted(past)]

    async def wait(self) -> None:
        """Wait for the next change."""
        await self._changed.wait()

    def _record(self, change: Change) -> None:
        self.history.append(change)
        woken, self._changed = self._changed, asyncio.Event()
        woken.set()
        for listener in self.listeners:
            listener(change)


def key_of(item: Object) -> Key:
    """Namespace and name."""
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


def selected(item: Object, label_selector: str, field_selector: str) -> bool:
    """Whether an object matches both selectors; labels by =, ==, !=, key and !key, fields by = and !=."""
    labels = item["metadata"].get("labels") or {}
    terms = [(term, labels.get) for term in label_selector.split(",") if term]
    terms += [(term, lambda path: _field(item, path)) for term in field_selector.split(",") if term]
    for term, lookup in terms:
        if "!=" in term:
            key, _, value = term.partition("!=")
            if lookup(key) == value:
                return False
        elif "=" in term:
            key, _, value = term.replace("==", "=").partition("=")
            if lookup(key) != value:
                return False
        elif (lookup(term.lstrip("!")) is None) != term.startswith("!"):
            return False
    return True


def event_line(kind: str, item: Object) -> bytes:
    """One line of a watch."""
    return json.dumps({"type": kind, "object": item}, separators=(",", ":")).encode() + b"\n"


def _field(item: Object, path: str) -> str:
    value: Any = item
    for part in path.split("."):
        value = value.get(part, "") if isinstance(value, dict) else ""
    return str(value)
