"""What an admin may set of the engine's behaviour in time. Every value has a reason and a default.

`allot simulate` uses `Settings.timeless()`: no time passes there, so whatever depends on time is off.
"""

import sys
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Settings:
    """Times in seconds."""

    least_runtime: float = 300.0
    """A pod younger than this is no victim for fairness (R2): work just begun is not thrown away. R1 does not wait."""
    backoff: float = 60.0
    """After its first eviction a workload may not claim for so long; doubled with every further one."""
    longest_backoff: float = 3600.0
    """Bound of the doubling."""
    evictions_per_hour: int = 1000
    """Pods of one tenant that may be evicted within an hour by R2. No plan goes beyond it."""
    evictions_per_cycle: int = 1000
    """Pods that may be evicted in one cycle over all, by claims. No plan goes beyond it."""
    claim_effort: int = 10_000
    """Victims that may be looked at in one cycle in search of plans; who is left over is tried in the next. It keeps a
    cycle on a full cluster below a second, so that watches and the Lease get their turn."""
    hysteresis: bool = True
    """By R2 a side may fall below its entitlement by its smallest unit at most (a pod, or a gang that goes as a whole),
    so that nobody swings to and fro."""
    age: float = 300.0
    """A unit that fitted nowhere for so long gets a reservation."""
    drain: float = 1800.0
    """A reservation without an end in sight keeps others off its nodes after so long."""
    reservations_per_pool: int = 1
    """Units with a reservation at a time in one pool."""
    successor_hold: float = 600.0
    """Room of a pod that its owner recreates is held for so long: a rolling restart keeps its seats."""
    gang_recovery: float = 600.0
    """A gang that lost members from outside is given so long to be whole again; then the rest of it is evicted."""
    overstay: float = 120.0
    """Nobody waits for the room of a pod that is still there so long after the end of its grace period: its node may
    be dead, or its volumes stuck. Until then no claim makes room that is about to come anyway."""
    longest: float = 3600.0
    """Nobody waits for longer for room that leaves, whatever grace period its owner names."""
    quarantine: float = 60.0
    """A pod that cannot be decided about is set aside for so long; doubled each time, up to `longest_backoff`."""
    timed: bool = True
    """Whether time passes at all."""

    @classmethod
    def timeless(cls) -> "Settings":
        """For simulations without time."""
        return replace(cls(), timed=False, hysteresis=False, claim_effort=sys.maxsize)
