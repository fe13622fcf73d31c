"""Budgets of one plan: how many pods of each PodDisruptionBudget may still go, and how many by the brakes.

The controller's figure (`status.disruptionsAllowed`) counts where there is one, less what we evicted since; without it
the budget is reckoned from the pods we know. A pod under an exhausted budget is no victim, under any rule; nor is one
under several, for the Eviction API refuses to evict it whatever they allow.
"""

from dataclasses import dataclass, field
from math import ceil

from allotment_scheduler.core.eviction.brakes import Allowance
from allotment_scheduler.core.objects.events import BudgetSpec
from allotment_scheduler.core.objects.pods import Pod
from allotment_scheduler.core.state.cluster import ClusterState

BudgetKey = tuple[str, str]
Covering = dict[int, tuple[BudgetKey, ...]]
"""The budgets that cover pods, by the id of their labels."""


@dataclass(slots=True)
class Budgets:
    """Budgets of one plan. `spend` may be undone by the sign -1."""

    state: ClusterState
    allowance: Allowance
    known: Covering = field(default_factory=dict)
    """May be shared among the budgets of one search."""
    left: dict[BudgetKey, int] = field(default_factory=dict)

    def allows(self, pods: list[Pod]) -> bool:
        """Whether disruption budgets let all of these pods go; if not, they will not in the course of the plan."""
        if not self.state.budgets:
            return True
        needed: dict[BudgetKey, int] = {}
        for pod in pods:
            covering = self.covering(pod)
            if len(covering) > 1:
                return False
            for key in covering:
                needed[key] = needed.get(key, 0) + 1
        return all(self._left(key) >= count for key, count in needed.items())

    def spend(self, pods: list[Pod], rule: str, sign: int = 1) -> None:
        """Count pods, all of one leaf, as gone (1) or back (-1)."""
        self.allowance.spend(pods, rule, sign)
        if self.state.budgets:
            for pod in pods:
                for key in self.covering(pod):
                    self.left[key] = self._left(key) - sign

    def covering(self, pod: Pod) -> tuple[BudgetKey, ...]:
        """The budgets that cover a pod."""
        if not self.state.budgets:
            return ()
        found = self.known.get(pod.labels.id)
        if found is None:
            found = self.known[pod.labels.id] = tuple(
                key for key, budget in self.state.budgets.items() if budget.covers(pod.labels)
            )
        return found

    def _left(self, key: BudgetKey) -> int:
        found = self.left.get(key)
        if found is None:
            found = self.left[key] = self._allowed(self.state.budgets[key])
        return found

    def _allowed(self, budget: BudgetSpec) -> int:
        if budget.allowed is not None:
            return budget.allowed - self.state.disruptions.get((budget.namespace, budget.name), 0)
        pods = [pod for pod in self.state.pods.values() if budget.covers(pod.labels)]
        running = sum(pod.node is not None and not pod.spec.deleting for pod in pods)
        if budget.max_unavailable is not None:
            return running - (len(pods) - _scaled(budget.max_unavailable, len(pods)))
        if budget.min_available is not None:
            return running - _scaled(budget.min_available, len(pods))
        return 0


def _scaled(bound: int | str, count: int) -> int:
    """A number, or a percentage of the pods, rounded up as the controller does."""
    if isinstance(bound, str):
        return ceil(int(bound.rstrip("%")) * count / 100)
    return bound
