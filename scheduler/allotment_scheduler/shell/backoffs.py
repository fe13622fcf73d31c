"""Back-offs: what was refused, or has failed, is left alone for a while, for doubling times.

Whoever was refused would be refused again if asked at once, as often as there is time for. What is left alone is known
by a key and a uid: pods, claims, a claim with a node. How often it was refused is kept for an hour after the last time,
so that the next time is longer.

Whoever keeps them asks now and then what is over (`over`): until then it is left alone.

It must never last beyond `longest`: what lasts longer is from before the clock was set back.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
LONGEST: Final = 600.0
_FORGIVEN_AFTER: Final = 3600.0
"""Seconds after which refusals are forgotten."""


@dataclass(slots=True)
class _Backoff:
    uid: str
    refusals: int
    until: float
    message: str
    last: float


@dataclass(slots=True)
class Backoffs(Generic[K]):
    """What is left alone after refusals of one kind, for `longest` seconds at most."""

    longest: float = LONGEST
    _known: dict[K, _Backoff] = field(default_factory=dict)

    def refused(self, key: K, uid: str, message: str, *, now: float, first: float) -> float:
        """Leave something alone; returns for how many seconds: `first`, doubled with every further refusal."""
        known = self._known.get(key)
        refusals = 0
        if known is not None and known.uid == uid and now - known.last < _FORGIVEN_AFTER:
            refusals = known.refusals
        seconds: float = min(first * 2 ** min(refusals, 60), self.longest)  # a float overflows at 1024
        self._known[key] = _Backoff(uid, refusals + 1, now + seconds, message, now)
        return seconds

    def holds(self, key: K, uid: str) -> bool:
        """Whether this is left alone."""
        found = self._known.get(key)
        return found is not None and found.uid == uid and found.until > 0

    def why(self, key: K) -> tuple[str, int, float] | None:
        """Why something is left alone: the message, how often, and until when; None where it is not."""
        found = self._known.get(key)
        return (found.message, found.refusals, found.until) if found is not None and found.until > 0 else None

    def over(self, now: float) -> list[K]:
        """What need not be left alone any more, and is not from now on."""
        over = [
            key for key, found in self._known.items() if found.until > 0 and not now < found.until <= now + self.longest
        ]
        for key in over:
            self._known[key].until = 0.0
        return over

    def next_over(self) -> float | None:
        """When the next time ends."""
        return min((found.until for found in self._known.values() if found.until > 0), default=None)

    def forget(self, key: K) -> None:
        """It was accepted, or is gone."""
        self._known.pop(key, None)

    def forget_where(self, gone: Callable[[K, str], bool]) -> None:
        """Forget all that are gone, told by their key and uid."""
        for key in [key for key, found in self._known.items() if gone(key, found.uid)]:
            del self._known[key]

    def __len__(self) -> int:
        return sum(found.until > 0 for found in self._known.values())
