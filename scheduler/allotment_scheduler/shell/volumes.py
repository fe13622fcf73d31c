"""Volumes before pods: claims that wait for their first consumer get their volume, then the pod is bound.

On the node that was chosen, a claim takes the smallest volume that exists, is free and suits, or has one made:

- an existing one is named in the claim (`spec.volumeName`, which may be set once); the controller manager checks it
  and binds the two. No right on PersistentVolumes is needed for that;
- for a new one the annotation `volume.kubernetes.io/selected-node` makes the provisioner of the class act. One that
  fails takes the annotation away again; then the node is barred for that claim, for doubling times, and another chosen.

The watch shows the claim bound; only then is the pod bound. A volume that was named for one claim is out of bounds for
every other until the watch shows whose it is. Should another scheduler give it away first, the claim can never be
bound, for the name stays: its pod is set aside and says so. A claim is told once; where the API server fails it is told
again after doubling times, and where it refuses the pod is set aside.
"""

import logging
from typing import Any, Final, Protocol

from allotment_kube.errors import ApiError, DeniedError, LeadershipLostError, RejectedError
from allotment_kube.patches import MergePatch, Patch
from allotment_kube.resources import PERSISTENT_VOLUME_CLAIMS, Resource
from allotment_scheduler.core.filters.volumes import asks_in_vain, existing_volumes
from allotment_scheduler.core.objects.attachments import Claim
from allotment_scheduler.core.state.cluster import ClusterState
from allotment_scheduler.shell.backoffs import Backoffs
from allotment_scheduler.shell.knowledge import Knowledge
from allotment_scheduler.shell.ledger import Start
from allotment_scheduler.translation.storage import SELECTED_NODE_ANNOTATION

_logger = logging.getLogger(__name__)
Key = tuple[str, str]
_AGAIN: Final = 1.0
"""Seconds after which a claim that could not be written is written again; doubled with every further failure."""


class ClaimClient(Protocol):
    """What is needed of a client."""

    async def patch(
        self, resource: Resource[Any], name: str, patch: Patch, *, namespace: str = "", subresource: str = ""
    ) -> Any:  # noqa: ANN401 - the patched object
        """Change part of an object."""


def unbound_claims(state: ClusterState, start: Start) -> list[Key]:
    """Claims of a pod that no volume is bound to yet."""
    pod = state.pods.get(start.key)
    found = []
    for name in pod.klass.spec.claims if pod is not None else ():
        claim = state.attachments.claims.get((start.key[0], name))
        if claim is None or claim.volume is None:
            found.append((start.key[0], name))
    return found


class Choices:
    """Tells claims their volume or their node, each once."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._known = knowledge
        self._under_way: set[Key] = set()
        self._named: dict[str, Key] = {}
        """Claims by the existing volume that was named for them."""
        self._told: dict[Key, tuple[str, str]] = {}
        """Claims for which a volume is being made: their uid, and the node."""
        self._delayed = Backoffs[Key]()
        """Claims that could not be written."""
        self._barred = Backoffs[tuple[Key, str]]()
        """Claims with a node for which no volume could be made."""
        self._refused: dict[Key, tuple[str, str]] = {}
        """Claims whose last write the API server refused: their uid, and what it said, until somebody has been told."""

    def look(self) -> None:
        """Once a turn: let nodes be tried again whose time is over, and forget claims that are gone or bound."""
        now, claims = self._known.clock(), self._known.state.attachments.claims
        self._delayed.over(now)
        for key, node in self._barred.over(now):
            self._known.picture.ground.bar(key, node, barred=False)

        def over(key: Key, uid: str) -> bool:
            claim = claims.get(key)
            return claim is None or claim.uid != uid or claim.volume is not None

        self._told = {key: (uid, node) for key, (uid, node) in self._told.items() if not over(key, uid)}
        self._refused = {key: (uid, said) for key, (uid, said) in self._refused.items() if not over(key, uid)}
        self._delayed.forget_where(over)
        self._barred.forget_where(lambda key, uid: over(key[0], uid))

    def trouble(self, claims: list[Key]) -> str | None:
        """What the API server has against a claim being written, told once; or why its volume is awaited in vain."""
        storage = self._known.state.attachments
        found = [self._refused.pop(key)[1] for key in claims if key in self._refused]
        known = [storage.claims[key] for key in claims if key in storage.claims]
        found += [said for claim in known if (said := asks_in_vain(claim, storage.volumes)) is not None]
        return found[0] if found else None

    def failed(self, claims: list[Key], node: str) -> bool:
        """Whether no volume can be made on a node for one of these claims: then it is barred there for a while."""
        now, first = self._known.clock(), self._known.settings().quarantine_seconds
        found = False
        for key in claims:
            claim = self._known.state.attachments.claims.get(key)
            if claim is not None and claim.selected_node is None and self._told.get(key) == (claim.uid, node):
                del self._told[key]
                seconds = self._barred.refused((key, node), claim.uid, "", now=now, first=first)
                self._known.picture.ground.bar(key, node, barred=True)
                _logger.info("no volume can be made for claim %s/%s on node %s, for %.0f s", *key, node, seconds)
                found = True
        return found

    def due(self, claims: list[Key], node: str) -> dict[Key, str | None] | None:
        """What claims are to be told, each by one call of `tell`: a volume's name, or None for the node.

        None instead of all that if a claim can have no volume on that node; nothing yet where the only one that it
        could have is being given to another claim.
        """
        state = self._known.state
        known = state.attachments.claims
        waiting = [known[key] for key in claims if key in known and known[key].awaits is None]
        waiting = [claim for claim in waiting if claim.selected_node is None and _key(claim) not in self._under_way]
        waiting = [claim for claim in waiting if not self._delayed.holds(_key(claim), claim.uid)]
        place = state.nodes.by_name.get(node)
        if not waiting or place is None or place.index < 0:
            return {}
        promised = self._promised(waiting)
        found = existing_volumes(waiting, state.attachments, state.nodes, place.index, promised=promised)
        if len(found) < len(waiting):
            # Whose volume it is going to be is not known yet: decided anew, it would be the same choice again.
            given = promised - {name for name, key in self._named.items() if key in self._under_way}
            if_free = existing_volumes(waiting, state.attachments, state.nodes, place.index, promised=given)
            return {} if len(if_free) == len(waiting) else None
        due = {(waiting[0].namespace, name): volume for name, volume in found.items()}
        for key, volume in due.items():  # from now on, and not only when the request is on its way
            self._under_way.add(key)
            if volume is not None:
                self._named[volume] = key
        return due

    def _promised(self, claims: list[Claim]) -> frozenset[str]:
        """Volumes that other claims are about to take."""
        storage, own = self._known.state.attachments, {_key(claim) for claim in claims}
        for name, key in [*self._named.items()]:
            claim, volume = storage.claims.get(key), storage.volumes.get(name)
            if claim is None or volume is None or claim.volume is not None or volume.claimed_by is not None:
                del self._named[name]
        awaited = {name for name, keys in storage.supply.awaited.items() if not own.issuperset(keys)}
        return frozenset({name for name, key in self._named.items() if key not in own} | awaited)

    async def tell(self, client: ClaimClient, start: Start, key: Key, volume: str | None) -> None:
        """Tell one claim its volume or its node, unless the start has come to nothing meanwhile."""
        try:
            if self._known.ledger.starts.get(start.key) is start:
                await self._tell(client, start, key, volume)
            else:
                self._named.pop(volume or "", None)
        finally:
            self._under_way.discard(key)

    async def _tell(self, client: ClaimClient, start: Start, key: Key, volume: str | None) -> None:
        known = self._known.state.attachments.claims.get(key)
        # A claim made anew under the same name has a choice of its own: the server compares the uid.
        uid = known.uid if known is not None else ""
        if volume is not None:
            patch = MergePatch({"spec": {"volumeName": volume}}, uid=uid)
        else:
            patch = MergePatch({"metadata": {"annotations": {SELECTED_NODE_ANNOTATION: start.node}}}, uid=uid)
        try:
            changed = await client.patch(PERSISTENT_VOLUME_CLAIMS, key[1], patch, namespace=key[0])
        except LeadershipLostError:
            raise
        except ApiError as error:
            self._named.pop(volume or "", None)
            self._failed(key, uid, error)
            return
        self._delayed.forget(key)
        if volume is None:
            self._told[key] = (uid, start.node)
        self._known.picture.ground.claim_written(key, changed)

    def _failed(self, key: Key, uid: str, error: ApiError) -> None:
        """A claim could not be written: the same again at once would fail again."""
        seconds = self._delayed.refused(key, uid, error.message, now=self._known.clock(), first=_AGAIN)
        _logger.warning("claim %s/%s cannot be told its volume, for %.0f s: %s", *key, seconds, error)
        if isinstance(error, RejectedError | DeniedError):
            self._refused[key] = uid, f"claim {key[1]} cannot be told its volume: {error.message:.300s}"


def _key(claim: Claim) -> Key:
    return (claim.namespace, claim.name)
