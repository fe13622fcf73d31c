"""The work queue: one round per key at a time, later when asked, slower after failures."""

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allotment_operator.reconcile.queue import WorkQueue

pytestmark = pytest.mark.looptime


async def test_many_events_for_one_object_are_one_piece_of_work() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for _ in range(100):
        queue.add("a")

    assert await queue.take() == "a"
    queue.done("a")
    assert len(queue) == 0


async def test_an_event_during_the_work_makes_one_more_round() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    await queue.take()
    queue.add("a")
    queue.add("a")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.take(), 10)

    queue.done("a")

    assert await queue.take() == "a"
    assert len(queue) == 0


async def test_failures_back_off_up_to_the_ceiling_and_success_forgets_them() -> None:
    queue: WorkQueue[str] = WorkQueue(base=1, ceiling=5)
    queue.add("a")
    delays = []
    for _ in range(4):
        await queue.take()
        delays.append(queue.failed("a"))
    await queue.take()
    queue.done("a", again_after=0)
    await queue.take()

    assert delays == [1, 2, 4, 5]
    assert queue.failed("a") == 1


async def test_a_mended_object_does_not_wait_for_its_backoff() -> None:
    queue: WorkQueue[str] = WorkQueue(base=60)
    loop = asyncio.get_running_loop()
    queue.add("a")
    await queue.take()
    queue.failed("a")
    start = loop.time()

    queue.add("a")
    await queue.take()

    assert loop.time() - start == 0


async def test_an_earlier_wish_wins_over_a_later_one() -> None:
    queue: WorkQueue[str] = WorkQueue()
    loop = asyncio.get_running_loop()
    start = loop.time()
    queue.add("a", after=30)
    queue.add("a", after=10)
    queue.add("a", after=20)

    await queue.take()

    assert loop.time() - start == pytest.approx(10)


async def test_a_forgotten_key_never_comes_back() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a", after=1)
    queue.forget("a")

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.take(), 10)


@given(events=st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 3)), max_size=30))
async def test_no_key_is_ever_lost_or_worked_on_twice_at_once(events: list[tuple[str, float]]) -> None:
    """Two workers, keys arriving in any order: every key is worked on after its last event."""
    now = 0.0
    queue: WorkQueue[str] = WorkQueue(clock=lambda: now)
    active: Counter[str] = Counter()
    last_round: dict[str, float] = {}
    for key, after in events:
        queue.add(key, after=after)
    now = 10.0
    while len(queue):
        key = await queue.take()
        active[key] += 1
        assert active[key] == 1
        last_round[key] = now
        active[key] -= 1
        queue.done(key)

    assert set(last_round) == {key for key, _ in events}


async def test_one_partys_work_leaves_workers_to_the_others() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.share(lambda key: key.rpartition("/")[0], most=2)
    for key in ("slow/1", "slow/2", "slow/3", "slow/4", "quick/1", "everybody"):
        queue.add(key)

    taken = [await queue.take() for _ in range(4)]

    assert taken == ["slow/1", "slow/2", "quick/1", "everybody"]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.take(), 10)
    queue.forget("slow/3")
    queue.done("slow/1", again_after=5)
    assert await queue.take() == "slow/4"
    queue.done("slow/2")
    assert await queue.take() == "slow/1"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), max_size=40), st.integers(1, 3))
async def test_with_shares_nothing_is_lost_and_no_party_has_more_than_its_own(
    keys: list[tuple[str, int]], most: int
) -> None:
    queue: WorkQueue[tuple[str, int]] = WorkQueue()
    queue.share(lambda key: key[0] if key[0] != "a" else "", most=most)
    for key in keys:
        queue.add(key)
    done: list[tuple[str, int]] = []
    active: Counter[str] = Counter()

    async def work() -> None:
        while True:
            key = await queue.take()
            active[key[0]] += 1
            assert key[0] == "a" or active[key[0]] <= most
            await asyncio.sleep(1)
            active[key[0]] -= 1
            done.append(key)
            queue.done(key)

    workers = [asyncio.create_task(work()) for _ in range(5)]
    await asyncio.wait(workers, timeout=100)
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)

    assert sorted(done) == sorted(set(keys))
    assert len(queue) == 0


async def test_keys_that_wait_behind_one_party_go_on_when_the_party_is_another() -> None:
    queue: WorkQueue[int] = WorkQueue()
    owner = {"namespace": "old"}
    queue.share(lambda _: owner["namespace"], most=2)
    for key in range(6):
        queue.add(key)
    active = [await queue.take(), await queue.take()]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.take(), 10)

    owner["namespace"] = "new"
    worked = []
    while active:
        worked.append(active.pop(0))
        queue.done(worked[-1])
        if len(queue):
            active.append(await asyncio.wait_for(queue.take(), 10))

    assert sorted(worked) == list(range(6))


@given(
    st.lists(st.integers(0, 9), max_size=40),
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["", "b", "c"]), st.booleans()), max_size=40),
    st.integers(1, 3),
)
async def test_with_shares_nothing_is_lost_while_keys_go_from_party_to_party(
    keys: list[int], changes: list[tuple[int, str, bool]], most: int
) -> None:
    queue: WorkQueue[int] = WorkQueue()
    parties = dict.fromkeys(range(10), "b")
    queue.share(parties.__getitem__, most=most)
    done: Counter[int] = Counter()
    wanted = set(keys)

    async def work() -> None:
        while True:
            key = await queue.take()
            await asyncio.sleep(1 + key % 3)
            done[key] += 1
            queue.done(key)

    workers = [asyncio.create_task(work()) for _ in range(4)]
    for key in keys:
        queue.add(key)
    for key, party, gone in changes:
        await asyncio.sleep(0.4)
        parties[key] = party
        if gone:
            queue.forget(key)
            wanted.discard(key)
        else:
            queue.add(key)
            wanted.add(key)
    await asyncio.sleep(200)
    assert len(queue) == 0
    assert wanted <= set(done)
    before = done.total()
    for key in parties:
        queue.add(key)
    await asyncio.sleep(200)
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)

    assert done.total() == before + len(parties)


async def test_a_key_that_waits_behind_its_party_is_told_as_late() -> None:
    queue: WorkQueue[str] = WorkQueue()
    late: list[float] = []
    queue.tell_lateness(late.append)
    queue.share(lambda _: "retail", most=1)
    queue.add("first")
    queue.add("second", after=1)

    await queue.take()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.take(), 4)
    queue.done("first")
    await queue.take()

    assert late == pytest.approx([0, 3], abs=0.01)
