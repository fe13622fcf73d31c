"""Rounds of the engine on a fake API server, with a toy kind that makes ConfigMaps."""

import asyncio
import json
import random
from typing import Any, ClassVar

import pytest

from allotment_kube.resources import CONFIG_MAPS
from allotment_operator.census import Census
from allotment_operator.kind import Key, ServiceUnavailableError
from allotment_operator.metrics import PREFIX, Metrics
from allotment_operator.plans.outcome import Health, TenantView
from allotment_operator.reconcile.asking import ANSWER_SECONDS, PAUSES
from allotment_operator.reconcile.engine import PROBE_SECONDS, RESYNC_SECONDS, WAITING_SECONDS
from allotment_operator.reconcile.queue import WorkQueue
from allotment_operator.workers import Workers
from builders.toys import TOYS, Workbench
from fakes.faults import Fault, FaultPlan, Verb

pytestmark = pytest.mark.looptime


async def settle(bench: Workbench, *keys: Key, rounds: int = 3) -> None:
    for _ in range(rounds):
        for key in keys:
            await bench.engine.reconcile(key)


class Room:
    """Whether the tenant has room for another service."""

    full = True

    def excess(self, kind: str, namespace: str, name: str) -> str:  # noqa: ARG002 - the protocol's
        return "one too many" if self.full else ""


class TestARound:
    async def test_makes_what_is_missing_and_says_so(self) -> None:
        bench = Workbench()
        key = bench.put("a", count=2)

        await settle(bench, key)

        assert bench.made() == ["a-0", "a-1"]
        assert bench.condition("a", "Ready")["message"] == "2 of 2"
        assert bench.condition("a", "Valid")["status"] == "True"
        assert bench.toy("a")["status"]["made"] == 2
        assert bench.toy("a")["status"]["observedGeneration"] == 1
        assert ("created", "ConfigMap play/a-0", "done") in bench.notes.acts

    async def test_says_so_when_a_mapping_of_the_status_has_become_empty(self) -> None:
        """The API server merges {} over entries to null, and refuses the whole status for it."""
        bench = Workbench()
        key = bench.put("a", count=2)
        await settle(bench, key)
        assert bench.toy("a")["status"]["each"] == {"a-0": "0", "a-1": "1"}

        bench.put("a", count=0)
        await settle(bench, key)

        assert not bench.toy("a")["status"].get("each")
        assert bench.toy("a")["status"]["made"] == 0

    async def test_at_rest_writes_nothing_at_all(self) -> None:
        bench = Workbench()
        key = bench.put("a", count=3)
        await settle(bench, key)
        before = bench.writes()

        again = await bench.engine.reconcile(key)

        assert bench.writes() == before
        assert again == RESYNC_SECONDS

    async def test_mends_what_somebody_else_changed(self) -> None:
        bench = Workbench()
        key = bench.put("a")
        await settle(bench, key)
        child = bench.server.get(CONFIG_MAPS, "a-0", "play")
        assert child is not None
        bench.server.put(CONFIG_MAPS, {**child, "data": {"number": "tampered"}})

        await settle(bench, key)

        mended = bench.server.get(CONFIG_MAPS, "a-0", "play")
        assert mended is not None
        assert mended["data"] == {"number": "0"}

    async def test_keeps_the_time_of_an_answer_that_did_not_change(self) -> None:
        bench = Workbench()
        key = bench.put("a")
        await settle(bench, key)
        first = bench.condition("a", "Valid")["lastTransitionTime"]
        bench.put("a", count=2)

        await settle(bench, key)

        assert bench.condition("a", "Valid")["lastTransitionTime"] == first
        assert bench.condition("a", "Valid")["observedGeneration"] == 2

    async def test_leaves_the_answers_of_other_writers_to_them(self) -> None:
        """The API server keeps book of who applied what; a stale copy of ours must not overrule theirs."""
        bench = Workbench()
        key = bench.put("a")
        when = "2026-01-01T00:00:00Z"
        theirs = {"type": "Scheduled", "status": "True", "reason": "AsExpected", "lastTransitionTime": when}
        book = {
            "manager": "allotment-scheduler",
            "fieldsV1": {"f:status": {"f:conditions": {'k:{"type":"Scheduled"}': {".": {}}}}},
        }
        toy = bench.toy("a")
        toy["metadata"]["managedFields"] = [book]
        bench.server.put(TOYS, {**toy, "status": {"conditions": [theirs]}})

        await settle(bench, key)

        ours = [
            json.loads(entry.body or b"{}")["status"]["conditions"]
            for entry in bench.server.journal
            if entry.method == "PATCH" and entry.path.endswith("/status")
        ]
        assert ours
        assert all("Scheduled" not in {each["type"] for each in said} for said in ours)

    async def test_asks_a_service_for_its_health_more_often(self) -> None:
        bench = Workbench(health=Health(ready=True, reason="Asked", message="it answers"))
        key = bench.put("a")
        await settle(bench, key)

        assert await bench.engine.reconcile(key) == PROBE_SECONDS

    async def test_asks_a_service_that_served_again_before_it_calls_it_silent(self) -> None:
        bench = Workbench(health=Health(ready=True, reason="Asked", message="it answers"))
        key = bench.put("a")
        await settle(bench, key)
        bench.kind.silent = len(PAUSES)

        await bench.engine.reconcile(key)
        assert bench.condition("a", "Ready")["status"] == "True"

        bench.kind.silent = len(PAUSES) + 1
        await bench.engine.reconcile(key)
        assert bench.condition("a", "Ready")["reason"] == "Unreachable"

    async def test_asks_a_service_that_is_not_ready_once_a_round(self) -> None:
        bench = Workbench(health=Health(ready=False, reason="Starting", message="not yet"))
        key = bench.put("a")
        await settle(bench, key)
        bench.kind.silent = 2

        await bench.engine.reconcile(key)

        assert bench.kind.silent == 1

    async def test_of_an_invalid_spec_says_what_to_change_and_touches_nothing(self) -> None:
        bench = Workbench()
        key = bench.put("a", count=-1)

        assert await bench.engine.reconcile(key) is None

        assert bench.made() == []
        assert bench.condition("a", "Valid")["reason"] == "InvalidSpec"
        assert "spec.count" in bench.condition("a", "Valid")["message"]
        assert bench.condition("a", "Ready")["status"] == "False"

    async def test_of_a_running_service_whose_spec_became_invalid_leaves_it_ready(self) -> None:
        bench = Workbench()
        key = bench.put("a", count=1)
        await settle(bench, key)
        bench.put("a", count=-1)

        await settle(bench, key)

        assert bench.made() == ["a-0"]
        assert bench.condition("a", "Ready")["status"] == "True"
        assert bench.condition("a", "Valid")["status"] == "False"

    async def test_of_a_paused_resource_leaves_everything_alone(self) -> None:
        bench = Workbench()
        key = bench.put("a", count=1)
        await settle(bench, key)
        bench.put("a", count=5, paused=True)

        await settle(bench, key)

        assert bench.made() == ["a-0"]
        assert bench.condition("a", "Paused")["status"] == "True"

    async def test_with_a_bug_in_it_shows_on_its_own_resource(self) -> None:
        bench = Workbench()
        bad = bench.put("bad", broken=True)

        with pytest.raises(KeyError):
            await bench.engine.reconcile(bad)

        assert bench.condition("bad", "Degraded")["status"] == "True"
        assert "fault of the operator" in bench.condition("bad", "Degraded")["message"]

    async def test_that_fails_does_not_wipe_out_that_the_service_has_served_before(self) -> None:
        """Plans know it from the reason alone; without it, an outage would be taken for a first start."""
        bench = Workbench()
        key = bench.put("a")
        bench.kind.trouble = "0 of 1 pods serve."
        await settle(bench, key)
        bench.put("a", broken=True)

        for _ in range(2):
            with pytest.raises(KeyError):
                await bench.engine.reconcile(key)

        said = bench.condition("a", "Degraded")
        assert (said["status"], said["reason"]) == ("True", "WaitingForPods")
        assert "fault of the operator" in said["message"]

    async def test_waits_for_no_service_longer_than_its_time(self) -> None:
        bench = Workbench()
        key = bench.put("a")
        bench.kind.answers.clear()
        began = asyncio.get_running_loop().time()

        with pytest.raises(ServiceUnavailableError):
            await bench.engine.reconcile(key)

        assert asyncio.get_running_loop().time() - began <= ANSWER_SECONDS + 1
        assert bench.condition("a", "Degraded")["message"] == "the service did not answer within 120 s"

    async def test_of_one_service_too_many_makes_nothing_until_there_is_room(self) -> None:
        bench = Workbench(allowances=(room := Room()))
        key = bench.put("a")
        await settle(bench, key)

        assert bench.made() == []
        assert bench.condition("a", "QuotaExceeded")["message"] == "one too many"
        assert bench.condition("a", "Ready")["status"] == "False"

        room.full = False
        await settle(bench, key)
        assert bench.made() == ["a-0"]
        assert bench.condition("a", "QuotaExceeded")["status"] == "False"

        room.full = True  # what runs goes on, whatever becomes of the allowance
        bench.put("a", count=2)
        await settle(bench, key)
        assert bench.made() == ["a-0", "a-1"]

    @pytest.mark.parametrize("born_before_its_child", [True, False], ids=["made for it", "left by a former life"])
    async def test_of_one_service_too_many_is_not_fooled_by_objects_that_pass_for_its_own(
        self, *, born_before_its_child: bool
    ) -> None:
        bench = Workbench(allowances=Room())
        if born_before_its_child:
            await settle(bench, bench.put("a"))
        reference = {"apiVersion": "allotment.dev/v1alpha1", "kind": "Toy", "name": "a", "uid": "any"}
        labels = TestAnObjectThatOnlyWearsTheLabels.LABELS
        child = {"name": "a-9", "namespace": "play", "labels": labels, "ownerReferences": [reference]}
        bench.server.put(CONFIG_MAPS, {"metadata": child, "data": {"number": "9"}})

        await settle(bench, bench.put("a"))

        assert bench.made() == ["a-9"]
        assert bench.condition("a", "QuotaExceeded")["status"] == "True"

    async def test_of_a_service_that_is_being_set_up_goes_on_when_there_is_no_room_any_more(self) -> None:
        bench = Workbench(allowances=(room := Room()))
        room.full = False
        key = bench.put("a", count=2)
        await bench.engine.reconcile(key)
        assert bench.condition("a", "Ready")["status"] == "False"

        room.full = True
        bench.put("a", count=3)
        await settle(bench, key)

        assert bench.made() == ["a-0", "a-1", "a-2"]

    async def test_below_a_tenant_of_unknown_bounds_changes_nothing_and_says_so(self) -> None:
        bench = Workbench(tenant=TenantView("leaf", frozen="the tenant odd, above leaf, cannot be read: x. Mend odd."))
        key = bench.put("a", count=1)

        again = await bench.engine.reconcile(key)

        assert bench.made() == []
        assert bench.condition("a", "Degraded")["reason"] == "TenantUnknown"
        assert "Mend odd" in bench.condition("a", "Degraded")["message"]
        assert again == WAITING_SECONDS

    async def test_waits_for_its_finalizer_before_it_acts(self) -> None:
        bench = Workbench(finalizer="allotment.dev/operator")
        key = bench.put("a", finalizers=())
        await settle(bench, key)
        assert bench.made() == []

        bench.put("a", finalizers=("allotment.dev/operator",))
        await settle(bench, key)
        assert bench.made() == ["a-0"]

    async def test_never_acts_on_what_is_gone_whatever_the_watch_said(self) -> None:
        bench = Workbench()
        key = bench.put("a")
        ghost = bench.toy("a")
        bench.server.remove(TOYS, "a", "play")
        bench.engine.saw(key, ghost)

        assert await bench.engine.reconcile(key) is None

        assert bench.made() == []
        assert not bench.engine.knows(key)

    async def test_tells_of_a_change_once(self) -> None:
        bench = Workbench()
        key = bench.put("a")

        await settle(bench, key, rounds=5)

        # First 0 of 1 (made in that round), then 1 of 1: two answers, whatever number of rounds.
        assert [event for event in bench.notes.events if event[1] == "Counted"] == [
            ("a", "Counted", "Warning"),
            ("a", "Counted", "Normal"),
        ] or [event[2] for event in bench.notes.events] == ["Warning"]


class TestARelease:
    async def test_takes_everything_down_and_says_what_it_waits_for(self) -> None:
        bench = Workbench()
        key = bench.put("a", count=2)
        await settle(bench, key)

        assert await bench.engine.release(key) == "2 are left"
        assert "phase" not in bench.toy("a")["status"], (
            "a toy's status has no such field, so the write would be refused"
        )
        assert await bench.engine.release(key) is None
        assert bench.made() == []

    async def test_of_something_unreadable_works_by_its_labels(self) -> None:
        bench = Workbench()
        key = bench.put("a", count=2)
        await settle(bench, key)
        bench.put("a", count=-5)

        assert await bench.engine.release(key) is not None
        assert await bench.engine.release(key) is None

    async def test_shuts_out_a_round_still_under_way(self) -> None:
        """Else the round would make again what the release has just taken down."""
        bench = Workbench(faults=FaultPlan(1, rate=1.0, only=frozenset({Fault.DELAY}), longest_delay=2.0))
        key = bench.put("a", count=2)
        round_ = asyncio.create_task(bench.engine.reconcile(key))
        await asyncio.sleep(0.1)

        for _attempt in range(20):
            if await bench.engine.release(key) is None:
                break
        await round_
        toy = bench.toy("a")
        bench.server.put(TOYS, {**toy, "metadata": {**toy["metadata"], "deletionTimestamp": "2030-01-01T00:00:00Z"}})
        await settle(bench, key)

        assert bench.made() == []


class TestWorkers:
    async def work(self, bench: Workbench, keys: list[Key], *, seconds: float, workers: int = 3) -> WorkQueue[Key]:
        queue: WorkQueue[Key] = WorkQueue()
        for key in keys:
            queue.add(key)
        crew = Workers(bench.engine, queue, metrics=Metrics(), rng=random.Random(1))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(crew.run(workers), timeout=seconds)
        return queue

    async def test_one_failing_resource_does_not_hold_up_the_others(self) -> None:
        bench = Workbench()
        keys = [bench.put("bad", broken=True), bench.put("odd", count=-1), *(bench.put(f"t{n}") for n in range(5))]

        await self.work(bench, keys, seconds=30)

        assert bench.made() == [f"t{n}-0" for n in range(5)]

    @pytest.mark.parametrize("seed", range(5))
    async def test_everything_converges_through_an_api_server_that_fails_all_the_time(self, seed: int) -> None:
        plan = FaultPlan(seed, rate=0.25, rates=dict.fromkeys(Verb, 0.25), longest_delay=2.0)
        bench = Workbench(faults=plan)
        keys = [bench.put(f"t{n}", count=3) for n in range(4)]

        await self.work(bench, keys, seconds=120)
        bench.restart()  # killed, and started again: nothing is remembered
        await self.work(bench, keys, seconds=120)
        plan.stop()
        await self.work(bench, keys, seconds=400)

        assert bench.made() == [f"t{n}-{m}" for n in range(4) for m in range(3)], plan.describe()
        for n in range(4):
            assert bench.condition(f"t{n}", "Ready")["status"] == "True", plan.describe()
            assert bench.condition(f"t{n}", "Degraded")["status"] == "False", plan.describe()

    async def test_leave_some_of_their_number_to_tenants_whose_services_answer(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bench, queue = Workbench(), WorkQueue[Key]()
        crew = Workers(bench.engine, queue, metrics=Metrics(), rng=random.Random(1))
        begun: list[Key] = []

        async def reconcile(key: Key) -> None:
            begun.append(key)
            if key.namespace == "slow":
                await asyncio.Event().wait()

        monkeypatch.setattr(bench.engine, "reconcile", reconcile)
        monkeypatch.setattr(bench.engine, "tenant_of", lambda key: key.namespace)
        for number in range(20):
            queue.add(Key("Toy", "slow", str(number)))
        queue.add(Key("Toy", "quick", "a"))

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(crew.run(16), timeout=30)

        assert [key.namespace for key in begun] == ["slow"] * 4 + ["quick"]

    async def test_count_how_late_they_begin(self, monkeypatch: pytest.MonkeyPatch) -> None:
        bench, queue, metrics = Workbench(), WorkQueue[Key](), Metrics()

        async def reconcile(_: Key) -> None:
            await asyncio.sleep(3)

        monkeypatch.setattr(bench.engine, "reconcile", reconcile)
        for name in ("at-once", "three-late", "six-late"):
            queue.add(Key("Toy", "space", name))
        crew = Workers(bench.engine, queue, metrics=metrics, rng=random.Random(1))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(crew.run(1), timeout=30)

        [line] = [
            line for line in metrics.text().decode().splitlines() if line.startswith(f"{PREFIX}queue_seconds_total")
        ]
        assert float(line.split()[1]) == pytest.approx(9, abs=0.1)

    async def test_count_what_they_do(self) -> None:
        bench, queue, metrics = Workbench(), WorkQueue[Key](), Metrics()
        crew = Workers(bench.engine, queue, metrics=metrics, rng=random.Random(1))
        for key in (bench.put("good"), bench.put("bad", broken=True)):
            queue.add(key)
            await crew.once(await queue.take())

        text = metrics.text().decode()
        assert 'allotment_operator_rounds_total{kind="Toy",result="done"} 1.0' in text
        assert 'allotment_operator_failures_total{kind="Toy",reason="KeyError"} 1.0' in text


class TestTheCensus:
    async def test_finds_what_is_new_and_forgets_what_is_gone(self) -> None:
        bench, queue = Workbench(), WorkQueue[Key]()
        census = Census(bench.client, bench.engine, queue, kinds=["Toy"])
        old, new = bench.put("old"), bench.put("new")
        assert await census.take() == 2
        assert len(queue) == 2

        bench.server.remove(TOYS, "old", "play")
        await census.take()

        assert bench.engine.known("Toy") == [new]
        assert not bench.engine.knows(old)
        assert len(queue) == 1

    async def test_takes_a_kind_without_definition_for_empty(self) -> None:
        bench, queue = Workbench(), WorkQueue[Key]()

        assert await Census(bench.client, bench.engine, queue, kinds=["Nothing", "Toy"]).take() == 0


class TestWhatIsNotOurs:
    async def test_a_namespace_of_nobody_is_left_alone(self) -> None:
        """There the operator has no rights; looking would only hide the reason behind a refusal."""
        bench = Workbench(tenant=None)
        key = bench.put("a", count=2)

        await settle(bench, key)

        # A toy does not ask whose it is and makes its things all the same; but nothing was listed.
        assert bench.made() == ["a-0", "a-1"]
        lists = [
            entry for entry in bench.server.journal if entry.method == "GET" and entry.path.endswith("/configmaps")
        ]
        assert lists == []

    async def test_an_object_that_another_service_has_is_not_taken_over(self) -> None:
        bench = Workbench()
        key = bench.put("a", count=1)
        labels = {"allotment.dev/kind": "Toy", "allotment.dev/instance": "other"}
        bench.server.put(CONFIG_MAPS, {"metadata": {"name": "a-0", "namespace": "play", "labels": labels}})

        await settle(bench, key)

        said = bench.condition("a", "Degraded")
        assert said["status"] == "True"
        assert "ConfigMap play/a-0 exists already and belongs to Toy other" in said["message"]


class TestAnObjectThatOnlyWearsTheLabels:
    LABELS: ClassVar = {
        "app.kubernetes.io/managed-by": "allotment",
        "allotment.dev/kind": "Toy",
        "allotment.dev/instance": "a",
    }

    def theirs(self, name: str) -> dict[str, Any]:
        return {"metadata": {"name": name, "namespace": "play", "labels": self.LABELS}, "data": {"mine": "yes"}}

    async def test_is_never_deleted_not_even_with_the_resource_and_is_named(self) -> None:
        bench = Workbench()
        key = bench.put("a", count=1)
        bench.server.put(CONFIG_MAPS, self.theirs("notes"))

        await settle(bench, key)

        said = bench.condition("a", "Degraded")
        assert said["status"] == "False"
        assert "Left alone: ConfigMap play/notes" in said["message"]
        bench.server.put(TOYS, {**bench.toy("a"), "metadata": {**bench.toy("a")["metadata"], "deletionTimestamp": "x"}})
        while await bench.engine.release(key) is not None:
            pass
        assert bench.made() == ["notes"]

    async def test_is_not_overwritten_but_told_of(self) -> None:
        bench = Workbench()
        key = bench.put("a", count=1)
        bench.server.put(CONFIG_MAPS, self.theirs("a-0"))

        await settle(bench, key)

        said = bench.condition("a", "Degraded")
        assert said["status"] == "True"
        assert "ConfigMap play/a-0 exists already and was made by somebody else" in said["message"]
        live = bench.server.get(CONFIG_MAPS, "a-0", "play")
        assert live is not None
        assert live["data"] == {"mine": "yes"}

    async def test_is_not_overwritten_either_where_it_took_the_place_of_a_child(self) -> None:
        bench = Workbench()
        key = bench.put("a", count=1)
        await settle(bench, key)
        bench.server.remove(CONFIG_MAPS, "a-0", "play")
        bench.server.put(CONFIG_MAPS, self.theirs("a-0"))

        await settle(bench, key)

        assert bench.condition("a", "Degraded")["status"] == "True"
        live = bench.server.get(CONFIG_MAPS, "a-0", "play")
        assert live is not None
        assert live["data"] == {"mine": "yes"}
