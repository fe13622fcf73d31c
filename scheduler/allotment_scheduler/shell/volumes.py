"""Volumes before pods: a claim that waits for its first consumer is told the node, and the pod waits for the volume.

The annotation `volume.kubernetes.io/selected-node` makes a provisioner act (`WaitForFirstConsumer`); the controller
manager binds the volume that it makes to the claim, which the watch shows. Only then is the pod bound. A provisioner
that fails takes the annotation away again; then the node is chosen anew.
"""

import logging
from typing import Any, Protocol

from allotment_kube.errors import ApiError, LeadershipLostError
from allotment_kube.patches import MergePatch, Patch
from allotment_kube.resources import PERSISTENT_VOLUME_CLAIMS, Resource
from allotment_scheduler.core.state import ClusterState
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
    """Tells claims their node, each node once."""

    def __init__(self, state: ClusterState) -> None:
        self._state = state
        self._under_way: set[Key] = set()

    def due(self, claims: list[Key], node: str) -> list[Key]:
        """Claims that have not been told this node."""
        known = self._state.attachments.claims
        return [
            key for key in claims if key not in self._under_way and key in known and known[key].selected_node != node
        ]

    async def tell(self, client: ClaimClient, key: Key, node: str) -> None:
        """Tell one claim its node; a failure is tried again when somebody looks next."""
        self._under_way.add(key)
        patch = MergePatch({"metadata": {"annotations": {SELECTED_NODE_ANNOTATION: node}}})
        try:
            await client.patch(PERSISTENT_VOLUME_CLAIMS, key[1], patch, namespace=key[0])
        except LeadershipLostError:
            raise
        except ApiError as error:
            _logger.warning("claim %s/%s cannot be told its node: %s", *key, error)
        finally:
            self._under_way.discard(key)
