"""Whether a service's pods may be evicted in favour of others, and what to say when they may be.

A pod that is not preemptible starts only within its tenant's guarantee. A service whose tenant holds no guarantee for
something that it requests would therefore never start: it gets preemptible pods instead, and its conditions say so.
"""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass

from allotment_api.conditions import Condition, ConditionType, Reason, condition
from allotment_api.labels import PREEMPTIBLE_LABEL
from allotment_operator.plans.outcome import TenantView


@dataclass(frozen=True, slots=True)
class Preemption:
    """The answer for one service.

    Attributes:
        wanted: whether the owner asked for preemptible pods.
        missing: resources that it requests and for which the tenant holds no guarantee.
    """

    tenant: str
    wanted: bool
    missing: tuple[str, ...]

    @classmethod
    def of(cls, tenant: TenantView, *, requested: Iterable[str], preemptible: bool) -> "Preemption":
        """Judge a service by the names of all resources that its pods request."""
        return cls(tenant.name, preemptible, tuple(sorted(set(requested) - tenant.guaranteed)))

    @property
    def labels(self) -> dict[str, str]:
        """Return the label for the pods."""
        evictable = self.wanted or bool(self.missing)
        return {PREEMPTIBLE_LABEL: "true" if evictable else "false"}

    def condition(self, *, now: dt.datetime) -> Condition:
        """Say whether the service stands on its tenant's guarantee."""
        if self.missing and not self.wanted:
            resources = ", ".join(self.missing)
            message = (
                f"The pods may be evicted: tenant {self.tenant} holds no guarantee for {resources}. "
                f"Ask a platform admin to add {resources} to the Tenant's spec.guaranteed (and to that of every tenant "
                "above it that has a guarantee), or set spec.preemptible: true to accept it."
            )
            return condition(ConditionType.GUARANTEE_INCOMPLETE, True, "NoGuarantee", message, now=now)
        message = (
            "The pods may be evicted, as spec.preemptible asks for."
            if self.wanted
            else f"The pods start only within the guarantee of tenant {self.tenant}, and are not evicted for others."
        )
        return condition(ConditionType.GUARANTEE_INCOMPLETE, False, Reason.AS_EXPECTED, message, now=now)
