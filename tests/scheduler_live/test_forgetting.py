"""What is gone is forgotten, and what was wrong with it, too: memory does not grow with the age of a process."""

from typing import Any

import pytest

from allotment_kube.resources import NAMESPACES, PERSISTENT_VOLUME_CLAIMS
from allotment_scheduler.shell.watches import TENANTS
from allotment_scheduler.translation import storage
from builders.live_world import World, until
from fakes.faults import FaultPlan

pytestmark = pytest.mark.looptime


async def test_a_tenant_that_is_gone_leaves_no_memory_of_evictions_to_its_namesake() -> None:
    world = World(FaultPlan())
    async with world.running() as scheduler:
        world.tenant("short-lived")
        await until(lambda: "short-lived" in scheduler.picture.ground.evictions)
        world.server.remove(TENANTS, "short-lived")
        await until(lambda: "short-lived" not in scheduler.state.tenant_specs)
        assert set(scheduler.picture.ground.evictions) == {"a", "b"}


@pytest.mark.parametrize("mended", [False, True], ids=["it is deleted", "its next version is taken in"])
async def test_a_fault_of_ours_over_an_object_is_told_only_as_long_as_it_lasts(
    *, mended: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(_: Any) -> Any:
        raise ZeroDivisionError

    world = World(FaultPlan())
    async with world.running() as scheduler:
        monkeypatch.setattr(storage, "claim", faulty)
        claim = {"metadata": {"name": "data", "namespace": "a"}, "spec": {}}
        world.server.put(PERSISTENT_VOLUME_CLAIMS, claim)
        problem = ("PersistentVolumeClaim", ("a", "data"))
        await until(lambda: problem in scheduler.picture.problems)
        assert not scheduler._known.doubtful, "nothing was told to the core by half"
        monkeypatch.undo()
        if mended:
            world.server.put(PERSISTENT_VOLUME_CLAIMS, {**claim, "spec": {"volumeName": "v"}})
        else:
            world.server.remove(PERSISTENT_VOLUME_CLAIMS, "data", "a")
        await until(lambda: problem not in scheduler.picture.problems)


async def test_a_fault_over_one_object_leaves_what_is_wrong_with_others() -> None:
    world = World(FaultPlan())
    async with world.running() as scheduler:
        world.tenant("bad", weight="much")
        await until(lambda: ("Tenant", ("", "bad")) in scheduler.picture.problems)
        world.server.put(NAMESPACES, {"metadata": {"name": "c"}})
        world.tenant("bad", weight="more")
        await until(lambda: "more" in scheduler.picture.problems["Tenant", ("", "bad")].message)
