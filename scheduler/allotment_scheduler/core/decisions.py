"""What a cycle decides: plain values for whoever carries them out."""

from dataclasses import dataclass, field

import msgspec

from allotment_scheduler.core.objects.pods import PodKey


class Start(msgspec.Struct, frozen=True, gc=False):
    """Bind a pod to a node. `unit` is the first pod of the unit it starts with."""

    pod: PodKey
    node: str
    unit: PodKey
    phantom: bool = False
    """Room held for an expected member: nothing to bind yet."""


class Evict(msgspec.Struct, frozen=True, gc=False):
    """Evict a pod from its node so that a claimant can start.

    By the rule `Gang` there is none: what is left of a cut gang is let go, and `claimant` is the first of its pods.
    """

    pod: PodKey
    claimant: PodKey
    rule: str
    node: str = ""


@dataclass(slots=True)
class Round:
    """One cycle's decisions, in order: every eviction stands before the starts it makes room for.

    Evictions by the rule `Gang` make room for nobody in particular, and stand last.
    """

    decisions: list[Start | Evict] = field(default_factory=list)
    cut_short: bool = False
    """Some claimants have not been tried yet, or may have a plan by now: the next cycle goes on with them."""
    troubles: list[tuple[PodKey, str]] = field(default_factory=list)
    """Units that could not be decided about, by their first pod, with the error: bugs, or requests beyond all sense."""

    @property
    def starts(self) -> list[Start]:
        """The starts among them."""
        return [decision for decision in self.decisions if isinstance(decision, Start)]

    @property
    def evictions(self) -> list[Evict]:
        """The evictions among them."""
        return [decision for decision in self.decisions if isinstance(decision, Evict)]

    def __bool__(self) -> bool:
        return bool(self.decisions)
