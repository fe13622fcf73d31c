"""What kopf's events and deletions do to the queue and the engine."""

import asyncio
from typing import Any

import kopf
import pytest

from allotment_api.labels import FINALIZER
from allotment_operator.handlers import Handlers, NoDiff, kopf_settings
from allotment_operator.kind import Key
from allotment_operator.reconcile.queue import WorkQueue
from builders.toys import Toy, Workbench

pytestmark = pytest.mark.looptime


def handlers(bench: Workbench) -> tuple[Handlers, WorkQueue[Key]]:
    queue: WorkQueue[Key] = WorkQueue()
    return Handlers(bench.engine, queue), queue


def event(type_: str | None, **changes: Any) -> dict[str, Any]:
    metadata = {"name": "a", "namespace": "play", "uid": "u", "generation": 1, "resourceVersion": "5", **changes}
    return {"type": type_, "object": {"apiVersion": "allotment.dev/v1alpha1", "kind": "Toy", "metadata": metadata}}


class TestAnEvent:
    @pytest.mark.parametrize(
        ("changes", "want"),
        [
            ({"resourceVersion": "6"}, 0),
            ({"resourceVersion": "6", "generation": 2}, 1),
            ({"resourceVersion": "6", "labels": {"x": "y"}}, 1),
            ({"resourceVersion": "6", "annotations": {"allotment.dev/rotate-ca": "now"}}, 1),
            ({"resourceVersion": "6", "annotations": {"allotment.dev/touch-dummy": "now"}}, 0),
            ({"resourceVersion": "6", "finalizers": [FINALIZER]}, 1),
        ],
        ids=["a new status", "a new spec", "a label", "an annotation", "kopf's own note", "the finalizer"],
    )
    async def test_queues_the_resource_unless_it_is_only_our_own_doing(
        self, changes: dict[str, Any], want: int
    ) -> None:
        taken, queue = handlers(Workbench())
        taken.saw("Toy", event(None))
        await queue.take()
        queue.done(Key("Toy", "play", "a"))

        taken.saw("Toy", event("MODIFIED", **changes))

        assert len(queue) == want

    async def test_of_the_end_makes_everybody_forget(self) -> None:
        bench = Workbench()
        taken, queue = handlers(bench)
        taken.saw("Toy", event("ADDED"))

        taken.saw("Toy", event("DELETED"))

        assert len(queue) == 0
        assert not bench.engine.knows(Key("Toy", "play", "a"))


class TestADeletion:
    async def test_that_waits_for_one_tenants_services_holds_up_no_others(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bench = Workbench()
        taken, _ = handlers(bench)

        async def release(key: Key) -> None:
            if key.namespace == "slow":
                await asyncio.Event().wait()

        monkeypatch.setattr(bench.engine, "release", release)
        monkeypatch.setattr(bench.engine, "tenant_of", lambda key: key.namespace)
        slow = [asyncio.create_task(taken.release(Key("Toy", "slow", str(n)), attempt=0)) for n in range(100)]
        await asyncio.sleep(1)

        async with asyncio.timeout(60):
            await taken.release(Key("Toy", "quick", "a"), attempt=0)

        assert not any(task.done() for task in slow)
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)

    async def test_is_repeated_until_nothing_is_left(self) -> None:
        bench = Workbench()
        taken, _ = handlers(bench)
        key = bench.put("a", count=2)
        for _round in range(2):
            await bench.engine.reconcile(key)

        with pytest.raises(kopf.TemporaryError, match="2 are left") as waiting:
            await taken.release(key, attempt=0)
        assert waiting.value.delay == 1.0
        await taken.release(key, attempt=1)

        assert bench.made() == []

    async def test_waits_longer_and_longer_but_not_for_ever(self) -> None:
        bench = Workbench()
        taken, _ = handlers(bench)
        key = bench.put("a")
        delays = []
        for attempt in (0, 3, 50):
            await bench.engine.reconcile(key)
            with pytest.raises(kopf.TemporaryError) as waiting:
                await taken.release(key, attempt=attempt)
            delays.append(waiting.value.delay)

        assert delays == [1.0, pytest.approx(3.375), 8.0]


class TestKopf:
    def test_is_told_our_names_and_to_keep_no_copies(self) -> None:
        settings = kopf_settings()

        assert settings.persistence.finalizer == FINALIZER
        assert isinstance(settings.persistence.diffbase_storage, NoDiff)
        assert not settings.posting.enabled
        assert settings.peering.standalone

    async def test_gets_an_event_and_a_deletion_handler_for_each_kind_and_never_an_index(self) -> None:
        taken, _ = handlers(Workbench())

        async def login(**_: Any) -> Any:
            raise AssertionError("not called")

        registry = taken.register([Toy.definition], login=login)

        assert [each.id for each in registry._watching.get_all_handlers()] == ["event"]
        assert [each.id for each in registry._changing.get_all_handlers()] == ["release"]
        assert not registry._indexing.get_all_handlers()
        assert not registry._spawning.get_all_handlers()
