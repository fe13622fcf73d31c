"""Lanes: parts of a plan that run beside one another, of which none holds up another."""

import asyncio

import pytest

from allotment_kube.errors import LeadershipLostError, RejectedError
from allotment_kube.resources import CONFIG_MAPS
from allotment_operator.reconcile.engine import WAITING_SECONDS
from allotment_operator.reconcile.lanes import side_by_side
from builders.toys import Workbench

pytestmark = pytest.mark.looptime


class Crowd:
    """Counts who is inside; nobody leaves before so many have been inside together."""

    def __init__(self, together: int) -> None:
        self._gate = asyncio.Barrier(together)
        self.inside = 0
        self.most = 0

    async def visit(self, _: object) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        await self._gate.wait()
        self.inside -= 1


async def test_lanes_are_under_way_together_as_many_as_there_is_room_for() -> None:
    crowd = Crowd(together=3)

    async with asyncio.timeout(60):  # one after another they would wait for each other for ever
        failures = await side_by_side({str(number): number for number in range(9)}, crowd.visit, width=3)

    assert failures == {}
    assert crowd.most == 3


async def test_what_fails_in_one_is_an_answer_and_stops_no_other() -> None:
    done = []

    async def run(what: str) -> None:
        if what == "bad":
            raise RejectedError("no such label", code=422)
        if what == "odd":
            raise KeyError("oops")
        done.append(what)

    failures = await side_by_side({name: name for name in ("bad", "a", "odd", "b", "c")}, run, width=2)

    assert done == ["a", "b", "c"]
    assert {name: type(error) for name, error in failures.items()} == {"bad": RejectedError, "odd": KeyError}


async def test_the_loss_of_the_lease_ends_them_all() -> None:
    reached = []

    async def run(what: str) -> None:
        if what == "deposed":
            raise LeadershipLostError("somebody else leads")
        await asyncio.sleep(1)
        reached.append(what)

    with pytest.raises(LeadershipLostError):
        await side_by_side({"slow": "slow", "deposed": "deposed", "later": "later"}, run, width=2)

    assert reached == []


class TestARoundWithLanes:
    @staticmethod
    def taken(name: str) -> dict[str, object]:
        labels = {"allotment.dev/kind": "Toy", "allotment.dev/instance": "other"}
        return {"metadata": {"name": name, "namespace": "play", "labels": labels}}

    async def test_makes_and_reports_the_rest_when_one_fails(self) -> None:
        bench = Workbench()
        key = bench.put("a", count=3, apart=True)
        bench.server.put(CONFIG_MAPS, self.taken("a-1"))

        first = await bench.engine.reconcile(key)
        await bench.engine.reconcile(key)

        assert bench.made() == ["a-0", "a-1", "a-2"]
        assert bench.toy("a")["status"]["made"] == 2
        said = bench.condition("a", "Degraded")
        assert (said["status"], said["reason"]) == ("True", "PartlyFailed")
        assert said["message"].startswith("1 of 3 parts failed and are tried again: a-1: ConfigMap play/a-1 exists")
        assert bench.toy("a")["status"]["each"]["a-1"] == "failed"
        assert first is not None
        assert first < WAITING_SECONDS

        bench.kind.trouble = "A pod has failed."
        await bench.engine.reconcile(key)
        said = bench.condition("a", "Degraded")
        assert (said["reason"], said["message"][:38]) == ("WaitingForPods", "A pod has failed. 1 of 3 parts failed ")
        bench.kind.trouble = ""

        bench.server.remove(CONFIG_MAPS, "a-1", "play")
        for _ in range(2):
            await bench.engine.reconcile(key)

        assert bench.condition("a", "Degraded")["status"] == "False"
        assert bench.toy("a")["status"]["made"] == 3

    async def test_comes_back_later_when_all_fail(self) -> None:
        bench = Workbench()
        key = bench.put("a", count=1, apart=True)
        bench.server.put(CONFIG_MAPS, self.taken("a-0"))

        assert await bench.engine.reconcile(key) == WAITING_SECONDS

    async def test_of_a_deletion_says_what_could_not_be_taken_down(self) -> None:
        bench = Workbench()
        key = bench.put("a", count=2, apart=True)
        for _ in range(2):
            await bench.engine.reconcile(key)
        bench.kind.refuses = "a-1"

        assert await bench.engine.release(key) == (
            "2 are left; 1 of 2 parts failed and are tried again: a-1: the stand-in refuses"
        )
        assert bench.made() == ["a-1"]
        bench.kind.refuses = ""
        await bench.engine.release(key)
        assert await bench.engine.release(key) is None
