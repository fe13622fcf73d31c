"""The teller: tells the core what the parts of the picture have made of what the watches show.

It keeps what those parts share: the state, which is replaced when it can be trusted no more, and a record of the
objects that are not in force as they stand. A Tenant, NodePool or PodGroup that cannot be understood keeps its last
good version; `problems` says what is wrong with it.

What is told and was known wakes nobody: statuses of pods, Jobs and tenants are written all the time, each of our own
Bindings comes back as a pod on its node, and a cycle over many pods that wait is not for nothing.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from allotment_api.errors import InvalidManifestError
from allotment_kube.models import Object
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.state.cluster import ClusterState

_DESCRIPTIONS: Final = (ev.PodSeen, ev.NodeSeen, ev.PoolSeen, ev.TenantSeen, ev.NamespaceSeen, ev.GroupSeen)
"""What says how something looks: the core counts each of these by which anything changes."""
Key = tuple[str, str]
"""Namespace (empty for cluster-scoped kinds) and name."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an object's present version is not in force."""

    kind: str
    key: Key
    message: str
    generation: int


class Teller:
    """Applies events to one `ClusterState`.

    Args:
        state: the core's state.
        changed: called after anything that may let somebody start.
        doubt: called when the state may be half changed.
        fault: called when something cannot be taken in for a fault of ours.
    """

    def __init__(
        self, state: ClusterState, changed: Callable[[], None], doubt: Callable[[], None], fault: Callable[[], None]
    ) -> None:
        self.state = state
        self.problems: dict[tuple[str, Key], Problem] = {}
        self.generations: dict[tuple[str, Key], int] = {}
        """Of every Tenant, NodePool and PodGroup: the generation in force."""
        self.uids: dict[tuple[str, Key], str] = {}
        """Which object of its name each of them is, in force or not."""
        self.conditions: dict[tuple[str, Key], dict[str, tuple[str, str]]] = {}
        """What their conditions say, by type: status, and since when."""
        self.changed = changed
        self.fault = fault
        self._doubt = doubt
        self._faulty: set[tuple[str, Key]] = set()
        """Objects whose problem is a fault of ours: it is over as soon as they can be taken in."""

    def apply(self, event: ev.Event) -> None:
        """Tell the core."""
        before = self._version
        try:
            self.state.apply(event)
        except Exception:
            self._doubt()
            raise
        if self._version != before or not isinstance(event, _DESCRIPTIONS):
            self.changed()

    @property
    def _version(self) -> int:
        """Moves whenever a pod, node, pool, tenant, namespace or group is another than it was."""
        return self.state.demand_version + self.state.own_version

    def parsed(self, kind: str, key: Key, manifest: Object, parse: Callable[..., Any]) -> Any:  # noqa: ANN401 - a model
        """An object of ours; None, and a problem, where it makes no sense."""
        generation = int(manifest["metadata"].get("generation") or 0)
        self.uids[kind, key] = manifest["metadata"].get("uid", "")
        self.conditions[kind, key] = {
            each["type"]: (each.get("status", ""), each.get("lastTransitionTime", ""))
            for each in (manifest.get("status") or {}).get("conditions") or ()
            if each.get("type")
        }
        try:
            found = parse(manifest, strict=False)
        except (InvalidManifestError, ValueError) as error:
            self.problems[kind, key] = Problem(kind, key, str(error), generation)
            return None
        self.problems.pop((kind, key), None)
        self.generations[kind, key] = generation
        return found

    def failed(self, kind: str, key: Key, error: Exception) -> None:
        """Taking in an object failed, which is a fault of ours: it is left as it was known before, if at all."""
        message = in_words(error)
        self.problems[kind, key] = Problem(kind, key, message, self.generations.get((kind, key), 0))
        self._faulty.add((kind, key))
        self.fault()

    def once_more(self, kind: str, key: Key) -> None:
        """An object is about to be taken in, or is gone: a fault of ours over its last version says nothing of this."""
        if (kind, key) in self._faulty:
            self._faulty.discard((kind, key))
            self.problems.pop((kind, key), None)

    def forget(self, kind: str, key: Key) -> None:
        """An object is gone."""
        self.problems.pop((kind, key), None)
        self.generations.pop((kind, key), None)
        self.uids.pop((kind, key), None)
        self.conditions.pop((kind, key), None)

    def known(self, kind: str) -> Iterable[Key]:
        """Names of all Tenants, NodePools or PodGroups that are in force."""
        return [key for found, key in self.generations if found == kind]


def in_words(error: Exception) -> str:
    """A fault of ours, in words."""
    return f"a fault of the scheduler, {type(error).__name__}: {error}"
