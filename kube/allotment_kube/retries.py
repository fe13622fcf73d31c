"""When a failed request may be repeated, and after how long.

Repeating is safe if the first attempt certainly did nothing (no connection, 429, a refusal that names a time), or if
doing it twice is the same as doing it once (reads; server-side apply). Everything else that died half-way, an
`OutcomeUnknownError` or a bare 5xx on a create, goes back to the caller, who must read before writing again: only the
caller knows whether "already exists" would be its own work.
"""

import random
from dataclasses import dataclass
from typing import Final

from .errors import (
    ApiError,
    DisruptionBudgetError,
    OutcomeUnknownError,
    RetryError,
    ThrottledError,
    UnavailableError,
    UnreachableError,
)


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential delays with jitter: each in [1/2, 1] of its step, so that clients spread out but never rush."""

    first: float = 0.1
    """Seconds of the first step."""
    factor: float = 2.0
    """Growth per step."""
    limit: float = 10.0
    """Longest step in seconds."""

    def delay(self, attempt: int, rng: random.Random) -> float:
        """Seconds to wait after failure number `attempt`, counted from 0."""
        step = min(self.limit, self.first * self.factor ** min(attempt, 60))
        return step * (0.5 + 0.5 * rng.random())


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently one call repeats itself."""

    attempts: int = 5
    """Attempts in all; 1 never repeats."""
    backoff: Backoff = Backoff()
    """Delays where the server names none."""
    longest_wait: float = 30.0
    """A Retry-After beyond these seconds is handed to the caller instead of waited out."""

    def delay(self, error: ApiError, attempt: int, *, idempotent: bool, rng: random.Random) -> float | None:
        """Seconds to wait before attempt number `attempt + 1`; None: do not repeat."""
        if attempt + 1 >= self.attempts or not may_repeat(error, idempotent=idempotent):
            return None
        delay = self.backoff.delay(attempt, rng)
        if error.after is not None:
            # Jitter on top: everybody who was turned away was given the same number.
            delay = error.after + delay / 2
        return delay if delay <= self.longest_wait else None


DEFAULT_RETRIES: Final = RetryPolicy()
NEVER_REPEAT: Final = RetryPolicy(attempts=1)


def may_repeat(error: ApiError, *, idempotent: bool) -> bool:
    """Whether sending again cannot do harm."""
    if isinstance(error, DisruptionBudgetError) or not isinstance(error, RetryError):
        return False
    if isinstance(error, ThrottledError | UnreachableError):
        return True
    if isinstance(error, UnavailableError) and error.code == 503 and error.after is not None:
        return True  # the server's filters refuse so; a 500 or 504 with a hint may have reached etcd
    return idempotent and isinstance(error, UnavailableError | OutcomeUnknownError)
