"""Setbacks: writes to claims that failed, and when each may be tried again.

Whatever an API server or a webhook answers in a bad moment, it answers to whoever asks at once, as often as there is
time for. So a failed write is tried again after a while, which doubles with every further failure. One that failed
because the object had changed is tried again as soon as the watch shows another version: it is not the server's fault.

It must never last beyond `LONGEST`: what lasts longer is from before the clock was set back.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

Key = tuple[str, str]
"""Namespace and name."""
FIRST: Final = 0.5
LONGEST: Final = 30.0
_FORGIVEN_AFTER: Final = 3600.0
"""Seconds after which failures are forgotten."""
_MANY: Final = 1000


@dataclass(frozen=True, slots=True)
class _Setback:
    uid: str
    failures: int
    until: float
    version: str
    """The version that was to be changed, where the failure says something of that version alone."""


@dataclass(slots=True)
class Setbacks:
    """The last failure of each object.

    Args:
        clock: seconds since the epoch.
    """

    clock: Callable[[], float]
    _known: dict[Key, _Setback] = field(default_factory=dict)
    _many: int = _MANY

    def happened(self, key: Key, uid: str, *, version: str = "") -> None:
        """A write has failed; `version` names the object's, where another one may fare better at once."""
        now, known = self.clock(), self._known.get(key)
        failures = known.failures if known is not None and known.uid == uid else 0
        pause = min(FIRST * 2.0 ** min(failures, 60), LONGEST)  # a float overflows at 1024
        self._known[key] = _Setback(uid, failures + 1, now + pause, version)
        if len(self._known) > self._many:
            kept = {it: each for it, each in self._known.items() if now - each.until < _FORGIVEN_AFTER}
            self._known, self._many = kept, max(_MANY, 2 * len(kept))

    def holds(self, key: Key, uid: str, version: str) -> bool:
        """Whether it is too soon to write to this object again."""
        found = self._known.get(key)
        if found is None or found.uid != uid or found.version not in ("", version):
            return False
        return self.clock() < found.until <= self.clock() + LONGEST

    def over(self, key: Key) -> None:
        """A write has succeeded."""
        self._known.pop(key, None)
