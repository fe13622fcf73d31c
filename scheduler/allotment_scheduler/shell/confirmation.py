"""Confirmation: reads pods whose Binding was accepted, or may have been, and that no watch has shown bound.

Such a pod counts on its node until it has been read. A read that fails says nothing, and is tried again.

It must never read a pod of a doubtful Binding while that may still be on its way: the API server gives up what took
longer than the time that a request has; before that, what a read says of a Binding may become untrue.
"""

import logging
from typing import Any, Final, Protocol

from allotment_kube.errors import KubernetesError, LeadershipLostError, NotFoundError
from allotment_kube.program.reign import lease_times
from allotment_kube.resources import PODS, Resource
from allotment_scheduler.core.objects.pods import PodKey
from allotment_scheduler.shell.binder import Outcome
from allotment_scheduler.shell.errands import Errands
from allotment_scheduler.shell.knowledge import Knowledge
from allotment_scheduler.shell.ledger import Phase, Start
from allotment_scheduler.shell.outcomes import Outcomes

_logger = logging.getLogger(__name__)
_MARGIN: Final = 1.0
"""Seconds that the API server may take beyond the time that a request has."""


class ReadingClient(Protocol):
    """What is needed of a client."""

    async def get(self, resource: Resource[Any], name: str, *, namespace: str = "", subresource: str = "") -> Any:  # noqa: ANN401 - of the resource's type
        """Read one object."""


class Confirmation:
    """Reads pods of which the watch says nothing."""

    def __init__(self, knowledge: Knowledge, outcomes: Outcomes) -> None:
        self._known = knowledge
        self._outcomes = outcomes
        self._asked: set[PodKey] = set()
        """Pods that are being read, or are in line for it."""

    def look(self, now: float, client: ReadingClient, errands: Errands) -> None:
        """Read every pod whose Binding was answered too long ago, or can be on its way no more."""
        settings = self._known.settings()
        on_its_way = lease_times(settings.lease_seconds).request_timeout + _MARGIN
        for start in [*self._known.ledger.starts.values()]:
            start.since = min(start.since, now)  # the clock may have been set back
            wait = on_its_way if start.doubt else settings.confirm_seconds
            if start.phase is Phase.BOUND and start.since < now - wait and start.key not in self._asked:
                start.since = now
                self._asked.add(start.key)
                errands.send(self._ask(client, start), "confirmation", start.key)

    async def _ask(self, client: ReadingClient, start: Start) -> None:
        try:
            if self._known.ledger.starts.get(start.key) is start:
                await self._confirm(client, start)
        finally:
            self._asked.discard(start.key)

    async def _confirm(self, client: ReadingClient, start: Start) -> None:
        namespace, name = start.key
        try:
            pod = await client.get(PODS, name, namespace=namespace)
        except NotFoundError:
            pod = None
        except LeadershipLostError:
            raise
        except KubernetesError as error:
            _logger.warning("%s/%s cannot be read: %s", namespace, name, error)
            return
        if self._known.ledger.starts.get(start.key) is not start:
            return
        if pod is None or pod.metadata.uid != start.uid or not pod.spec.node_name:
            if start.doubt:
                self._outcomes.came_to_nothing(start, Outcome.DOUBTFUL, start.doubt)
            else:
                self._outcomes.forget(start)
