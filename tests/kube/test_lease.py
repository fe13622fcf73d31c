"""The election, step by step, on virtual time."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from allotment_kube import ApiError, Client, LeadershipLostError, Lease, LeaseSettings, unique_identity
from allotment_kube.models import Object
from allotment_kube.program.reign import reign_until
from allotment_kube.resources import CONFIG_MAPS, LEASES
from fakes.environments import Fake
from fakes.faults import Fault, FaultPlan, Verb
from fakes.in_process import InProcessTransport

pytestmark = pytest.mark.looptime

FREE = {"metadata": {"name": "l", "namespace": "a"}, "spec": {}}


class Process:
    """A contender with a network of its own."""

    def __init__(self, fake: Fake, name: str, *, plan: FaultPlan | None = None) -> None:
        self.transport = InProcessTransport(fake.server, plan, latency=0.01)
        self.client = Client(self.transport, rng=random.Random(name))
        loop = asyncio.get_running_loop()
        self.lease = Lease(
            self.client,
            "l",
            namespace="a",
            identity=name,
            clock=lambda: loop.time() + 1000.0 * len(name),  # clocks agree on nothing but their pace
            wall_clock=lambda: datetime(1970 + len(name), 1, 1, tzinfo=UTC) + timedelta(seconds=loop.time()),
        )
        self.led_from: float | None = None
        self.led_until: float | None = None

    async def lead(self) -> None:
        loop = asyncio.get_running_loop()
        self.led_from = loop.time()
        try:
            await asyncio.Event().wait()
        finally:
            self.led_until = loop.time()


@asynccontextmanager
async def running(process: Process) -> AsyncIterator["asyncio.Task[None]"]:
    task = asyncio.create_task(process.lease.run(process.lead))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await process.transport.close()


def holder(fake: Fake) -> str:
    found: Object | None = fake.server.get(LEASES, "l", "a")
    assert found is not None
    value: str = found["spec"].get("holderIdentity") or ""
    return value


@pytest.mark.parametrize(
    "times",
    [
        {"duration": 10.0, "renew_deadline": 9.0, "request_timeout": 2.0},
        {"duration": 60.0, "renew_deadline": 4.0, "retry_period": 2.0, "request_timeout": 3.0},
    ],
)
def test_times_under_which_writes_could_outlive_the_lease_are_refused(times: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be less than"):
        LeaseSettings(**times)


async def test_a_free_lease_is_taken_at_once(fake: Fake) -> None:
    fake.server.put(LEASES, FREE)
    one = Process(fake, "one")
    async with running(one):
        await asyncio.sleep(1.0)

        assert (holder(fake), one.lease.is_leader, one.led_from is not None) == ("one", True, True)


@pytest.mark.parametrize(
    ("before", "meanwhile", "unheld"),
    [
        (FREE, [], True),
        (FREE, ["somebody", ""], False),
        ({**FREE, "spec": {"holderIdentity": "somebody"}}, [""], False),
        (None, [""], False),
    ],
    ids=["nobody has", "it was taken and released", "it was held", "there was none"],
)
async def test_who_takes_a_lease_knows_whether_anybody_has_held_it_since_he_looked(
    fake: Fake, before: Object | None, meanwhile: list[str], unheld: bool
) -> None:
    if before is not None:
        fake.server.put(LEASES, before)
    one = Process(fake, "one")
    await one.lease.look()
    for identity in meanwhile:
        fake.server.put(LEASES, {**FREE, "spec": {"holderIdentity": identity}})
    async with running(one):
        await asyncio.sleep(1.0)

        assert (one.lease.is_leader, one.lease.unheld) == (True, unheld)


async def test_a_missing_lease_may_have_been_deleted_under_its_holder(fake: Fake) -> None:
    one = Process(fake, "one")
    async with running(one):
        await asyncio.sleep(17.0)
        early = (one.lease.is_leader, one.led_from)
        await asyncio.sleep(3.0)

        assert (early, one.lease.is_leader) == ((False, None), True)


async def test_a_released_lease_changes_hands_at_once(fake: Fake) -> None:
    fake.server.put(LEASES, FREE)
    one, second = Process(fake, "one"), Process(fake, "second")
    async with running(one), running(second) as second_task:
        await asyncio.sleep(30.0)
        winner, other = (one, second) if one.lease.is_leader else (second, one)
        assert winner.lease.is_leader is not other.lease.is_leader
        if winner is one:
            async with asyncio.timeout(10.0):
                one_stopped = asyncio.get_running_loop().time()
                await stop(one, fake)
                while not second.lease.is_leader:  # noqa: ASYNC110 - on virtual time
                    await asyncio.sleep(0.1)
            assert asyncio.get_running_loop().time() - one_stopped < 3.0
            assert not second_task.done()


def label(fake: Fake) -> None:
    """What an administrator may do to a lease that somebody holds."""
    current = fake.server.get(LEASES, "l", "a")
    assert current is not None
    fake.server.put(LEASES, {**current, "metadata": {**current["metadata"], "labels": {"x": "y"}}})


async def stop(process: Process, fake: Fake) -> None:
    """Release by hand what the test's context will cancel later."""
    current = fake.server.get(LEASES, "l", "a")
    assert current is not None
    process.transport.partitioned = True
    fake.server.put(LEASES, {**current, "spec": {**current["spec"], "holderIdentity": ""}})


async def test_a_stopped_leader_releases_its_lease(fake: Fake) -> None:
    fake.server.put(LEASES, FREE)
    one = Process(fake, "one")
    async with running(one):
        await asyncio.sleep(5.0)

    assert (holder(fake), one.lease.is_leader) == ("", False)


async def test_a_stopped_leader_releases_a_lease_that_was_changed_under_it(fake: Fake) -> None:
    fake.server.put(LEASES, FREE)
    one = Process(fake, "one")
    async with running(one):
        await asyncio.sleep(5.0)
        label(fake)

    assert holder(fake) == ""


async def test_a_dead_leader_is_succeeded_after_its_lease_and_its_last_writes(fake: Fake) -> None:
    fake.server.put(LEASES, FREE)
    one, second = Process(fake, "one"), Process(fake, "second")
    async with running(one) as first_run:
        await asyncio.sleep(5.0)
        async with running(second):
            await asyncio.sleep(20.0)
            one.transport.partitioned = True
            died = asyncio.get_running_loop().time()
            renewed = died + one.lease.remaining() - one.lease.settings.renew_deadline
            await asyncio.sleep(40.0)

            assert one.led_until is not None
            assert second.led_from is not None
            assert died <= one.led_until <= died + 10.0
            assert renewed + 15.0 + 3.0 <= second.led_from <= died + 15.0 + 3.0 + 2.4 + 0.1
            assert isinstance(first_run.exception(), LeadershipLostError)


async def test_a_frozen_process_writes_nothing_when_it_wakes(fake: Fake) -> None:
    fake.server.put(LEASES, FREE)
    loop = asyncio.get_running_loop()
    frozen_for = [0.0]
    lease = Lease(fake.client, "l", namespace="a", identity="x", clock=lambda: loop.time() + frozen_for[0])
    running_lease = asyncio.create_task(lease.run(asyncio.Event().wait))  # type: ignore[arg-type] # its result is unused
    await asyncio.sleep(5.0)
    with lease.write() as allowed:
        assert 0.0 < allowed < lease.settings.duration - lease.settings.renew_deadline

    frozen_for[0] = 10.0  # and no other task has run since
    with pytest.raises(LeadershipLostError), lease.write():
        pass

    assert (lease.is_leader, lease.remaining()) == (False, 0.0)
    await asyncio.sleep(1.0)
    running_lease.cancel()
    await asyncio.gather(running_lease, return_exceptions=True)


async def test_a_lease_is_not_released_while_a_write_may_be_under_way(fake: Fake) -> None:
    fake.server.put(LEASES, FREE)
    plan = FaultPlan(longest_delay=1000.0)
    plan.script(Verb.CREATE, Fault.DELAY)
    one = Process(fake, "one", plan=plan)
    started = asyncio.Event()

    async def lead() -> None:
        started.set()
        await one.client.guarded(one.lease).create(CONFIG_MAPS, {"metadata": {"name": "c", "namespace": "a"}})

    running_lease = asyncio.create_task(one.lease.run(lead))
    await started.wait()
    await asyncio.sleep(0.5)
    running_lease.cancel()
    await asyncio.sleep(2.9)
    held = holder(fake)
    await asyncio.gather(running_lease, return_exceptions=True)
    await one.transport.close()

    assert (held, holder(fake)) == ("one", "")


async def test_a_leader_outlives_a_short_outage(fake: Fake) -> None:
    fake.server.put(LEASES, FREE)
    one = Process(fake, "one")
    async with running(one) as task:
        await asyncio.sleep(5.0)
        for _ in range(10):
            one.transport.partitioned = True
            await asyncio.sleep(4.0)
            one.transport.partitioned = False
            await asyncio.sleep(4.0)

        assert one.lease.is_leader
        assert not task.done()


async def test_a_label_set_by_an_administrator_costs_nothing(fake: Fake) -> None:
    fake.server.put(LEASES, FREE)
    one = Process(fake, "one")
    async with running(one):
        await asyncio.sleep(5.0)
        label(fake)
        await asyncio.sleep(20.0)

        assert one.lease.is_leader
        assert fake.server.get(LEASES, "l", "a")["metadata"]["labels"] == {"x": "y"}  # type: ignore[index] # it is there


@pytest.mark.parametrize("deleted", [True, False])
async def test_a_lease_taken_by_force_is_given_up(fake: Fake, deleted: bool) -> None:
    fake.server.put(LEASES, FREE)
    one = Process(fake, "one")
    async with running(one) as task:
        await asyncio.sleep(5.0)
        if deleted:
            fake.server.remove(LEASES, "l", "a")
        else:
            current = fake.server.get(LEASES, "l", "a")
            assert current is not None
            fake.server.put(LEASES, {**current, "spec": {**current["spec"], "holderIdentity": "admin"}})
        await asyncio.sleep(4.0)

        assert isinstance(task.exception(), LeadershipLostError)
        assert one.led_until is not None


async def test_nobody_writes_without_the_lease(fake: Fake) -> None:
    one = Process(fake, "one")
    guarded = one.client.guarded(one.lease)

    with pytest.raises(LeadershipLostError):
        await guarded.create(CONFIG_MAPS, {"metadata": {"name": "c", "namespace": "a"}})
    assert await guarded.list(CONFIG_MAPS) == []
    assert [entry.method for entry in fake.server.journal] == ["GET"]


async def test_a_guarded_write_ends_within_the_lease(fake: Fake) -> None:
    fake.server.put(LEASES, FREE)
    one = Process(fake, "one")
    guarded = one.client.guarded(one.lease)
    async with running(one):
        await asyncio.sleep(5.0)
        await guarded.create(CONFIG_MAPS, {"metadata": {"name": "c", "namespace": "a"}})
        one.transport.partitioned = True
        began = asyncio.get_running_loop().time()
        with pytest.raises(LeadershipLostError):
            await write_for_ever(guarded)

        assert asyncio.get_running_loop().time() - began <= 10.0


async def write_for_ever(client: Client) -> None:
    while True:
        with contextlib.suppress(ApiError):
            await client.create(CONFIG_MAPS, {"metadata": {"name": "d", "namespace": "a"}})


def test_a_container_that_is_started_anew_in_its_pod_is_somebody_else() -> None:
    first, second = unique_identity("pod_uid"), unique_identity("pod_uid")

    assert first.startswith("pod_uid_")
    assert first != second


async def test_a_reign_that_is_cancelled_is_over_and_the_lease_released_before_anybody_goes_on(fake: Fake) -> None:
    process = Process(fake, "a")
    reigning = asyncio.create_task(reign_until(asyncio.Event(), process.lease, process.lead, grace=0.0))
    await asyncio.sleep(60)
    assert process.led_from is not None

    reigning.cancel()
    await asyncio.wait({reigning})

    assert process.led_until is not None
    assert not process.lease.is_leader
    assert not (fake.server.get(LEASES, "l", "a") or {})["spec"].get("holderIdentity")
    await process.transport.close()
