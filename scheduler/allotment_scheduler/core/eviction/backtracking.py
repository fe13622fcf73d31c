"""The last resort of a plan: sets of victims, depth first, where no order of victims made room.

A right ends where the victims' side comes down to its guarantee or entitlement, and a gang where it comes down to its
minimum. So who goes first decides who may go at all, and neither the order of the rules nor the order by size finds
every set: of victims of 1, 1 and 2 from a side 2 above its guarantee, a claimant of 3 needs one of 1 and then the one
of 2. To find the set is a knapsack problem, so only a few sets are tried; small victims first, since they leave most of
the right to those that follow.
"""

from collections.abc import Callable, Iterable

from allotment_scheduler.core.eviction.budgets import Budgets
from allotment_scheduler.core.eviction.rules import Claim, rule
from allotment_scheduler.core.eviction.victims import Age, Step, Victim
from allotment_scheduler.core.objects.pods import Pod, PodKey
from allotment_scheduler.core.state.trial import Trial


class Backtracking:
    """One search. The trial is left with the found steps taken, or as it was."""

    def __init__(
        self, claim: Claim, trial: Trial, budgets: Budgets, *, fits: Callable[[], bool],
        victims: Callable[[Iterable[Pod]], Iterable[Victim]], tries: int,
    ) -> None:  # fmt: skip
        self.claim = claim
        self.trial = trial
        self.fits = fits
        self.victims = victims
        self.tries = tries
        """Sets that may still be tried."""
        self.budgets = budgets
        self.steps: list[Step] = []
        self._seen: set[frozenset[PodKey]] = set()

    def run(self, pods: Iterable[Pod]) -> bool:
        """Whether a set of these pods makes room; `steps` then tells which, in an order that obeys the rules."""
        if self.fits():
            return True
        left = [pod for pod in pods if pod.node is not None]
        gone = frozenset(pod.key for step in self.steps for pod in step.victim.pods)
        for victim in sorted(self.victims(left), key=_size):
            then = gone | {pod.key for pod in victim.pods}
            by = self._rule(victim) if then not in self._seen else None
            if by is not None and self.tries > 0:
                self._seen.add(then)
                self.tries -= 1
                mark = self.trial.mark()
                self._take(Step(victim, by))
                if self.run(left):
                    return True
                self._give_back(mark)
        return False

    def _rule(self, victim: Victim) -> str | None:
        by = rule(self.claim, victim) if self.budgets.allows(victim.pods) else None
        return by if by is None or self.budgets.allowance.allows(victim.pods, by) else None

    def _take(self, step: Step) -> None:
        for pod in step.victim.places:
            self.trial.evict(pod)
        self.budgets.spend(step.victim.pods, step.rule)
        self.steps.append(step)

    def _give_back(self, mark: int) -> None:
        step = self.steps.pop()
        self.budgets.spend(step.victim.pods, step.rule, -1)
        self.trial.rollback(mark)


def _size(victim: Victim) -> tuple[int, int, Age]:
    return (len(victim.pods), sum(amount for _, amount in victim.asks), victim.age)
