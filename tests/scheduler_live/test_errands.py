"""Errands beside the turns: few of a kind at a time, and none that holds up another kind."""

import asyncio

from allotment_scheduler.shell.errands import AT_ONCE, Errands


async def test_only_so_many_errands_of_a_kind_run_at_a_time_and_all_of_them_in_the_end() -> None:
    running = most = done = 0
    full, release, other = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        nonlocal running, most, done
        running += 1
        most = max(most, running)
        if running == AT_ONCE:
            full.set()
        await release.wait()
        running -= 1
        done += 1

    async def quick() -> None:
        other.set()

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        errands = Errands(group, lambda: None)
        for number in range(3 * AT_ONCE):
            errands.send(slow(), "volume", number)
        await full.wait()
        errands.send(quick(), "mark", 0)
        await other.wait()
        assert running == AT_ONCE
        release.set()

    assert most == AT_ONCE
    assert done == 3 * AT_ONCE


async def test_an_errand_that_fails_leaves_its_place_to_others() -> None:
    faults = done = 0

    def failed() -> None:
        nonlocal faults
        faults += 1

    async def fails() -> None:
        raise ZeroDivisionError

    async def works() -> None:
        nonlocal done
        done += 1

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        errands = Errands(group, failed)
        for number in range(2 * AT_ONCE):
            errands.send(fails(), "volume", number)
        errands.send(works(), "volume", "last")

    assert faults == 2 * AT_ONCE
    assert done == 1
