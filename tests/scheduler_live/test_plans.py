"""Plans beside the turns: each is known by its own task for as long as it runs."""

import asyncio
from collections.abc import Sequence

from allotment_scheduler.core.decisions import Evict, Round
from allotment_scheduler.shell.errands import Errands
from allotment_scheduler.shell.evictor import Evictor, Fate
from allotment_scheduler.shell.knowledge import Knowledge
from allotment_scheduler.shell.ledger import Departure, Start
from allotment_scheduler.shell.metrics import Metrics
from allotment_scheduler.shell.outcomes import Outcomes
from allotment_scheduler.shell.plans import Plans
from allotment_scheduler.shell.settings import Settings
from builders.scheduling import World


class SlowEvictor(Evictor):
    """Evicts nobody until it is told to."""

    def __init__(self) -> None:
        self.may_end: list[asyncio.Event] = []

    async def carry_out(self, claimants: Sequence[Start], victims: Sequence[Departure], *, patience: float) -> None:  # noqa: ARG002 - as an evictor has it
        self.may_end.append(asyncio.Event())
        await self.may_end[-1].wait()


async def test_the_end_of_a_plan_that_was_given_up_leaves_the_claimants_next_plan_under_way() -> None:
    settings = Settings()
    known = Knowledge(lambda: settings, Metrics(), clock=lambda: 0.0)
    world = World().node("n", cpu=2).tenant("t").pod("t", "one", on="n", cpu=1).pod("t", "two", on="n", cpu=1)
    for event in world.pod("t", "claimant", cpu=1).events:
        known.state.apply(event)
    known.state.settle()
    plans, evictor, claimant = Plans(known, Outcomes(known)), SlowEvictor(), ("t", "claimant")

    async with asyncio.TaskGroup() as group:
        errands = Errands(group, lambda: None)
        for victim in ("one", "two"):
            plans.take_down(Round([Evict(("t", victim), claimant, "P", "n")]), evictor, errands)
        second = plans.under_way[claimant]
        await asyncio.sleep(0)
        evictor.may_end[0].set()
        for _ in range(5):
            await asyncio.sleep(0)

        assert plans.under_way == {claimant: second}
        plans.abandon_strays()
        assert ("t", "two") in known.ledger.departures, "somebody carries its eviction out"

        evictor.may_end[1].set()
    assert plans.under_way == {}


def test_a_pods_namesake_is_not_spared_for_it() -> None:
    """The eviction of a StatefulSet's pod is refused when the next one stands in its place already."""
    settings = Settings()
    known = Knowledge(lambda: settings, Metrics(), clock=lambda: 0.0)
    for event in World().node("n", cpu=2).tenant("t").pod("t", "db-0", on="n", cpu=1, more={"uid": "next"}).events:
        known.state.apply(event)
    known.picture.seats["t", "db-0"] = "n"
    before, present = (Departure(("t", "db-0"), uid, "n", ("t", "claimant"), "P", 0.0) for uid in ("before", "next"))

    Outcomes(known).evicted(before, Fate.REFUSED, "no")
    assert not known.state.pods["t", "db-0"].spec.spared
    Outcomes(known).evicted(present, Fate.REFUSED, "no")
    assert known.state.pods["t", "db-0"].spec.spared
