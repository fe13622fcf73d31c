"""Why a pod waits: one code and one sentence with numbers, and the smallest change that would start it now."""

from dataclasses import dataclass

import numpy as np

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.eligibility import beyond_guarantee, limits_met
from allotment_scheduler.core.pods import Pod
from allotment_scheduler.core.units import Unit


@dataclass(frozen=True, slots=True)
class Why:
    """A reason code with its sentence."""

    code: str
    message: str


class Explainer:
    """Explains waiting pods against one state."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.state = engine.state

    def why(self, pod: Pod) -> Why:
        """The reason why a pod does not run."""
        if pod.leaf is None:
            return Why("UnknownTenant", f"namespace {pod.spec.namespace} belongs to no tenant")
        if pod.leaf.suspended:
            return Why("TenantSuspended", f"tenant {pod.leaf.shown_name} is suspended")
        unit = pod.unit
        if not isinstance(unit, Unit) or not unit.live:
            return Why("GangIncomplete", "its gang is incomplete")
        if unit.shape.fixed and beyond_guarantee(self.state, pod.leaf, unit.shape) is not None:
            return Why("BeyondGuarantee", "it may not be preempted, and no guarantee covers it")
        blocker, _ = limits_met(pod.leaf, unit.shape)
        if blocker is not None:
            return Why("AboveLimit", f"limit of tenant {blocker.shown_name}")
        return Why("NoNodeFits", "no node fits")


_ = np
