"""Volumes before pods: claims that wait for their first consumer get their volume, then the pod is bound.

On the node that was chosen, a claim takes the smallest volume that exists, is free and suits, or has one made:

- an existing one is named in the claim (`spec.volumeName`, which may be set once); the controller manager checks it
  and binds the two. No right on PersistentVolumes is needed for that;
- for a new one the annotation `volume.kubernetes.io/selected-node` makes the provisioner of the class act. One that
  fails takes the annotation away again; then the node is chosen anew.

The watch shows the claim bound; only then is the pod bound. A volume that was named for one claim is out of bounds for
every other until the watch shows whose it is.
"""

import logging
from typing import Any, Protocol

from allotment_kube.errors import ApiError, LeadershipLostError
from allotment_kube.patches import MergePatch, Patch
from allotment_kube.resources import PERSISTENT_VOLUME_CLAIMS, Resource
from allotment_scheduler.core.filters.volumes import existing_volumes
from allotment_scheduler.core.objects.attachments import Claim
from allotment_scheduler.core.state.cluster import ClusterState
from allotment_scheduler.shell.ledger import Start
from allotment_scheduler.translation.storage import SELECTED_NODE_ANNOTATION

_logger = logging.getLogger(__name__)
Key = tuple[str, str]


class ClaimClient(Protocol):
    """What is needed of a client."""

    async def patch(
        self, resource: Resource[Any], name: str, patch: Patch, *, namespace: str = "", subresource: str = ""
    ) -> Any:  # noqa: ANN401 - the patched object, which nobody reads
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

    def __init__(self, state: ClusterState) -> None:
        self.state = state
        """The core's, as it is now."""
        self._under_way: set[Key] = set()
        self._named: dict[str, Key] = {}
        """Claims by the existing volume that was named for them."""

    def due(self, claims: list[Key], node: str) -> dict[Key, str | None] | None:
        """What claims are to be told, each by one call of `tell`: a volume's name, or None for the node.

        None instead of all that if a claim can have no volume on that node.
        """
        known = self.state.attachments.claims
        waiting = [known[key] for key in claims if key in known and known[key].awaits is None]
        waiting = [claim for claim in waiting if claim.selected_node is None and _key(claim) not in self._under_way]
        place = self.state.nodes.by_name.get(node)
        if not waiting or place is None or place.index < 0:
            return {}
        found = existing_volumes(
            waiting, self.state.attachments, self.state.nodes, place.index, promised=self._promised(waiting)
        )
        if len(found) < len(waiting):
            return None
        due = {(waiting[0].namespace, name): volume for name, volume in found.items()}
        for key, volume in due.items():  # from now on, and not only when the request is on its way
            self._under_way.add(key)
            if volume is not None:
                self._named[volume] = key
        return due

    def _promised(self, claims: list[Claim]) -> frozenset[str]:
        """Volumes that other claims are about to take."""
        storage, own = self.state.attachments, {_key(claim) for claim in claims}
        for name, key in [*self._named.items()]:
            claim, volume = storage.claims.get(key), storage.volumes.get(name)
            if claim is None or volume is None or claim.volume is not None or volume.claimed_by is not None:
                del self._named[name]
        awaited = {claim.awaits for key, claim in storage.claims.items() if claim.awaits is not None and key not in own}
        return frozenset({name for name, key in self._named.items() if key not in own} | {it for it in awaited if it})

    async def tell(self, client: ClaimClient, key: Key, node: str, volume: str | None) -> None:
        """Tell one claim its volume or its node; a failure is tried again when somebody looks next."""
        known = self.state.attachments.claims.get(key)
        # A claim made anew under the same name has a choice of its own: the server compares the uid.
        uid = known.uid if known is not None else ""
        if volume is not None:
            patch = MergePatch({"spec": {"volumeName": volume}}, uid=uid)
        else:
            patch = MergePatch({"metadata": {"annotations": {SELECTED_NODE_ANNOTATION: node}}}, uid=uid)
        try:
            await client.patch(PERSISTENT_VOLUME_CLAIMS, key[1], patch, namespace=key[0])
        except LeadershipLostError:
            raise
        except ApiError as error:
            _logger.warning("claim %s/%s cannot be told its volume: %s", *key, error)
            if volume is not None:
                self._named.pop(volume, None)
        finally:
            self._under_way.discard(key)


def _key(claim: Claim) -> Key:
    return (claim.namespace, claim.name)
