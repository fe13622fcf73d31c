"""The evictor: carries out a plan's evictions, in an order that a crash cannot hurt.

First the room is marked as held for the claimant (`status.nominatedNodeName`, which a successor reads), then the
victims are asked to go by the Eviction API, which honours PodDisruptionBudgets and marks them as `DisruptionTarget`. A
crash between the two leaves a mark and no harm; a crash after them leaves a mark under which the successor holds the
room.

Every request carries the pod's uid, and none is sent for a plan that has been given up meanwhile: nobody is evicted for
a claimant that is gone. A budget that has closed meanwhile is waited for until the plan's deadline; what
then remains refused is told to the loop, which gives the plan up.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, Final, Protocol

from allotment_kube.errors import (
    ApiError,
    ConflictError,
    DisruptionBudgetError,
    LeadershipLostError,
    NotFoundError,
    RetryError,
    ThrottledError,
    UnreachableError,
)
from allotment_kube.patches import MergePatch, Patch
from allotment_kube.resources import PODS, Resource
from allotment_scheduler.shell.ledger import Departure, Start

_logger = logging.getLogger(__name__)
_AT_ONCE: Final = 16
_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0  # seconds that a server may ask for
_MARKS: Final = 5
"""Attempts at a mark, before the plan is given up."""


class EvictionClient(Protocol):
    """What the evictor needs of a client."""

    async def patch(
        self, resource: Resource[Any], name: str, patch: Patch, *, namespace: str = "", subresource: str = ""
    ) -> Any:  # noqa: ANN401 - the patched object, which nobody reads
        """Change part of an object."""

    async def get(self, resource: Resource[Any], name: str, *, namespace: str = "", subresource: str = "") -> Any:  # noqa: ANN401 - of the resource's type
        """Read one object."""

    async def evict(self, namespace: str, pod: str, *, uid: str = "", grace_period: int | None = None) -> None:
        """Ask for a pod's eviction."""


class Fate(Enum):
    """What became of an eviction."""

    ACCEPTED = "accepted"
    GONE = "gone"
    REFUSED = "refused"
    NEEDLESS = "needless"
    """Nobody waits for the room any more; it was not asked for."""
    ABSENT = "absent"
    """The pod never came to its node: its Binding came to nothing, and it holds no room."""


class Prospect(Enum):
    """What there is to do about an eviction."""

    ASK = "ask"
    LATER = "later"


class Evictor:
    """Carries out plans.

    Args:
        client: guarded by the Lease.
        report: told what became of each eviction, with the server's message.
        abandon: told that a claimant cannot be held room for.
        prospect: asked before each request: ASK, or LATER while the pod's own Binding is under way, or its fate.
        grace: seconds that a pod has to end; None for those that it names itself.
    """

    def __init__(
        self,
        client: EvictionClient,
        *,
        report: Callable[[Departure, Fate, str], None],
        abandon: Callable[[Start, str], None],
        prospect: Callable[[Departure], "Fate | Prospect"],
        grace: Callable[[Departure], int | None],
    ) -> None:
        self._client = client
        self._grace = grace
        self._prospect = prospect
        self._report = report
        self._abandon = abandon
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def carry_out(self, claimants: Sequence[Start], victims: Sequence[Departure], *, patience: float) -> None:
        """Hold the room, then evict; `patience` is how many seconds a closed budget is waited for."""
        held = await asyncio.gather(*(self._hold(start) for start in claimants))
        if not all(held):
            for departure in victims:
                self._report(departure, Fate.NEEDLESS, "no room can be held for the claimant")
            return
        until = asyncio.get_running_loop().time() + patience
        await asyncio.gather(*(self._evict(departure, until) for departure in victims))

    async def _hold(self, start: Start) -> bool:
        """Mark the room as held; false, and the plan abandoned, where that cannot be done."""
        namespace, name = start.key
        patch = MergePatch({"status": {"nominatedNodeName": start.node}}, uid=start.uid)
        message = ""
        for attempt in range(_MARKS):
            try:
                async with self._slots:
                    await self._client.patch(PODS, name, patch, namespace=namespace, subresource="status")
            except LeadershipLostError:
                raise
            except RetryError as error:
                # It may stand there all the same: then it is taken off with the plan.
                start.nominated |= not isinstance(error, ThrottledError | UnreachableError)
                message = str(error)
                if attempt + 1 < _MARKS:
                    await asyncio.sleep(_pause(error))
            except ApiError as error:
                message = str(error)
                break
            else:
                start.nominated = True
                return True
        self._abandon(start, message)
        return False

    async def _has_gone(self, departure: Departure) -> bool:
        """Whether the pod of this uid is there no more."""
        namespace, name = departure.key
        try:
            found = await self._client.get(PODS, name, namespace=namespace)
        except NotFoundError:
            return True
        except ApiError:
            return False
        gone: bool = found.metadata.uid != departure.uid
        return gone

    async def _evict(self, departure: Departure, until: float) -> None:
        while True:
            fate, message, pause = await self._ask(departure)
            if fate is None and asyncio.get_running_loop().time() + pause > until:
                fate = Fate.REFUSED
            if fate is not None:
                self._report(departure, fate, message)
                return
            await asyncio.sleep(pause)

    async def _ask(self, departure: Departure) -> tuple[Fate | None, str, float]:
        """Ask for one eviction once; no fate yet where asking again may help, after so many seconds."""
        namespace, name = departure.key
        try:
            async with self._slots:
                prospect = self._prospect(departure)
                if prospect is Prospect.LATER:
                    return None, "its own Binding is under way", _PAUSE
                if isinstance(prospect, Fate):
                    return prospect, "", _PAUSE
                await self._client.evict(namespace, name, uid=departure.uid, grace_period=self._grace(departure))
        except NotFoundError as error:
            return Fate.GONE, str(error), _PAUSE
        except ConflictError as error:
            return (Fate.GONE if await self._has_gone(departure) else None), error.message, _PAUSE
        except DisruptionBudgetError as error:  # it may open at any moment, whatever the server advises
            return None, error.message, _PAUSE
        except RetryError as error:
            return None, error.message, _pause(error)
        except LeadershipLostError:
            raise
        except ApiError as error:
            return Fate.REFUSED, error.message, _PAUSE
        return Fate.ACCEPTED, "", _PAUSE


def _pause(error: ApiError) -> float:
    """Seconds before the same is asked again."""
    return min(max(error.after or 0.0, _PAUSE), _LONGEST_PAUSE)
