"""Asides: pods, or whatever has a key and a uid, that are left alone for a while after a refusal, for doubling times.

Whoever was refused would be refused again if asked at once, as often as there is time for. The count of refusals is
kept for an hour after the last one, so that the next time is longer.

It must never last beyond `LONGEST`: what lasts longer is from before the clock was set back.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
LONGEST: Final = 600.0
_FORGIVEN_AFTER: Final = 3600.0
"""Seconds after which refusals are forgotten."""


@dataclass(slots=True)
class _Aside:
    uid: str
    refusals: int
    until: float
    message: str
    last: float


@dataclass(slots=True)
class Asides(Generic[K]):
    """Pods set aside for one kind of refusal."""

    _known: dict[K, _Aside] = field(default_factory=dict)

    def refused(self, key: K, uid: str, message: str, *, now: float, first: float) -> float:
        """Set a pod aside; returns for how many seconds: `first`, doubled with every further refusal."""
        known = self._known.get(key)
        refusals = 0
        if known is not None and known.uid == uid and now - known.last < _FORGIVEN_AFTER:
            refusals = known.refusals
        seconds: float = min(first * 2 ** min(refusals, 60), LONGEST)  # a float overflows at 1024
        self._known[key] = _Aside(uid, refusals + 1, now + seconds, message, now)
        return seconds

    def holds(self, key: K, uid: str) -> bool:
        """Whether this pod is set aside."""
        found = self._known.get(key)
        return found is not None and found.uid == uid and found.until > 0

    def why(self, key: K) -> tuple[str, int, float] | None:
        """Why a pod is set aside: the message, how often, and until when; None where it is not."""
        found = self._known.get(key)
        return (found.message, found.refusals, found.until) if found is not None and found.until > 0 else None

    def over(self, now: float) -> list[K]:
        """Pods whose time is over; they are not set aside any more."""
        over = [key for key, found in self._known.items() if found.until > 0 and not now < found.until <= now + LONGEST]
        for key in over:
            self._known[key].until = 0.0
        return over

    def next_over(self) -> float | None:
        """When the next time ends."""
        return min((found.until for found in self._known.values() if found.until > 0), default=None)

    def forget(self, key: K) -> None:
        """A pod was accepted, or is gone."""
        self._known.pop(key, None)

    def forget_where(self, gone: Callable[[K, str], bool]) -> None:
        """Forget all that are gone, told by their key and uid."""
        for key in [key for key, found in self._known.items() if gone(key, found.uid)]:
            del self._known[key]

    def __len__(self) -> int:
        return sum(found.until > 0 for found in self._known.values())
