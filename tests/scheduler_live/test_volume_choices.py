"""What a volume's claim is told before its pod is bound, how often, and what follows where it comes to nothing."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from allotment_kube import Client
from allotment_kube import storage as kube
from allotment_kube.errors import ApiError, ForbiddenError, UnavailableError
from allotment_kube.models import Object
from allotment_kube.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, STORAGE_CLASSES, Resource
from allotment_scheduler.core.state.cluster import ClusterState
from allotment_scheduler.core.state.invariants import check
from allotment_scheduler.shell.ground import Ground
from allotment_scheduler.shell.ledger import Start
from allotment_scheduler.shell.settings import Settings
from allotment_scheduler.shell.teller import Teller
from allotment_scheduler.shell.volumes import Choices
from allotment_scheduler.translation.storage import BOUND_ANNOTATION, SELECTED_NODE_ANNOTATION
from builders.live_world import World, until
from fakes.faults import FaultPlan

CLAIM = ("a", "data")


class Recorder:
    """A client that keeps what it is to patch."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []

    async def patch(
        self, _: Resource[Any], __: str, patch: Any, *, namespace: str = "", subresource: str = ""
    ) -> kube.PersistentVolumeClaim:
        assert (namespace, subresource) == ("a", "")
        self.bodies.append(msgspec.json.decode(patch.encode()))
        return claim("2")


def claim(version: str, *, node: str = "", uid: str = "first") -> kube.PersistentVolumeClaim:
    """The claim at some version; a provisioner may have been told a node."""
    annotations = {SELECTED_NODE_ANNOTATION: node} if node else {}
    metadata = {"name": "data", "namespace": "a", "uid": uid, "resourceVersion": version, "annotations": annotations}
    return msgspec.convert({"metadata": metadata}, kube.PersistentVolumeClaim)


@pytest.mark.looptime
@pytest.mark.parametrize("volume", ["disk", None])
async def test_a_claim_made_anew_under_the_same_name_is_not_told_the_old_ones_choice(volume: str | None) -> None:
    known, client = World(FaultPlan()).scheduler._known, Recorder()
    known.picture.ground.claim(CLAIM, claim("1"))
    start = Start(("a", "p"), "u", "n", ("a", "p"), 0.0)
    known.ledger.open(start)

    await Choices(known).tell(client, start, CLAIM, volume)

    (body,) = client.bodies
    assert body["metadata"]["uid"] == "first"
    assert body.get("spec") == ({"volumeName": "disk"} if volume else None)


@pytest.mark.looptime
async def test_what_was_refused_is_not_said_of_a_claim_made_anew_under_the_same_name() -> None:
    known = World(FaultPlan()).scheduler._known
    known.picture.ground.claim(CLAIM, claim("1"))
    choices = Choices(known)
    choices._failed(CLAIM, "first", ForbiddenError("not you", code=403))
    choices.look()
    known.picture.ground.claim(CLAIM, claim("2", uid="second"))
    choices.look()

    assert choices.trouble([CLAIM]) is None


@pytest.mark.looptime
async def test_a_claim_is_not_told_what_a_start_chose_that_has_come_to_nothing() -> None:
    known, client = World(FaultPlan()).scheduler._known, Recorder()

    await Choices(known).tell(client, Start(("a", "p"), "u", "n", ("a", "p"), 0.0), CLAIM, None)

    assert not client.bodies


@pytest.mark.parametrize(
    ("told", "node"),
    [
        ([claim("10")], "n"),
        ([claim("11", node="n")], "n"),
        ([claim("12")], None),
        ([claim("11", node="n"), claim("12")], None),
        ([claim("11", node="n"), claim("3")], None),
        ([claim("10", uid="another")], None),
    ],
    ids=["late", "as it was written", "later, all at once", "later", "of a cluster that was restored", "another"],
)
def test_what_the_watch_told_of_a_claim_before_we_wrote_it_says_nothing(
    told: list[kube.PersistentVolumeClaim], node: str | None
) -> None:
    state = ClusterState()
    ground = Ground(Teller(state, lambda: None, lambda: None, lambda: None))
    ground.claim(CLAIM, claim("9"))
    ground.claim_written(CLAIM, claim("11", node="n"))
    assert state.attachments.claims[CLAIM].selected_node == "n"

    for each in told:
        ground.claim(CLAIM, each)

    assert state.attachments.claims[CLAIM].selected_node == node


def test_the_answer_to_a_write_of_a_claim_is_no_news_where_the_watch_was_faster() -> None:
    state = ClusterState()
    ground = Ground(Teller(state, lambda: None, lambda: None, lambda: None))
    ground.claim(CLAIM, claim("12"))
    ground.claim_written(CLAIM, claim("11", node="n"))
    assert state.attachments.claims[CLAIM].selected_node is None


class Provisioner:
    """Makes volumes for some nodes, and for others says that it cannot."""

    def __init__(self, world: World, *works_on: str, reach: str = "") -> None:
        self.world = world
        self.reach = reach
        self.works_on = set(works_on)
        self.asked: Counter[str] = Counter()
        world.server.put(
            STORAGE_CLASSES,
            {"metadata": {"name": "c"}, "provisioner": "x", "volumeBindingMode": "WaitForFirstConsumer"},
        )
        spec = {"storageClassName": "c", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1"}}}
        claim = {"metadata": {"name": "data", "namespace": "a"}, "spec": spec, "status": {"phase": "Pending"}}
        world.server.put(PERSISTENT_VOLUME_CLAIMS, claim)

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._work())
        try:
            yield
        finally:
            task.cancel()

    async def _work(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            found: Object = self.world.server.get(PERSISTENT_VOLUME_CLAIMS, "data", "a") or {}
            annotations = found["metadata"].get("annotations") or {}
            node = annotations.get(SELECTED_NODE_ANNOTATION)
            if node is None or found["spec"].get("volumeName"):
                continue
            self.asked[node] += 1
            metadata = {**found["metadata"], "annotations": {}}
            spec = found["spec"]
            if node in self.works_on:
                metadata["annotations"] = {**annotations, BOUND_ANNOTATION: "yes"}
                spec = {**spec, "volumeName": "v"}
                modes = ["ReadWriteOnce"]
                about: Object = {"capacity": {"storage": "1"}, "accessModes": modes, "storageClassName": "c"}
                if self.reach:
                    named = {"key": "metadata.name", "operator": "In", "values": [self.reach]}
                    about["nodeAffinity"] = {"required": {"nodeSelectorTerms": [{"matchFields": [named]}]}}
                self.world.server.put(PERSISTENT_VOLUMES, {"metadata": {"name": "v"}, "spec": about})
            self.world.server.put(PERSISTENT_VOLUME_CLAIMS, {**found, "metadata": metadata, "spec": spec})


def patches(world: World) -> int:
    """How often the claim was written by the scheduler."""
    return sum(each.method == "PATCH" and each.path.endswith("/data") for each in world.server.journal)


@pytest.mark.looptime
@pytest.mark.parametrize("good", ["m", "n"])
async def test_another_node_is_chosen_where_no_volume_can_be_made(good: str) -> None:
    world = World(FaultPlan())
    for name in "nm":
        world.node(name)
    provisioner = Provisioner(world, good)
    async with world.running() as scheduler, provisioner.at_work():
        world.pod("a", "p", claim="data")
        await until(lambda: world.bound() == {"p": good}, seconds=30)
        assert provisioner.asked[good] == 1
        assert max(provisioner.asked.values()) == 1
        assert patches(world) == sum(provisioner.asked.values()), "each node was told once"
    check(scheduler.state)


@pytest.mark.looptime
@pytest.mark.parametrize("reach", ["m", "n"])
async def test_a_pod_starts_where_its_volume_was_made_after_all(reach: str) -> None:
    """A provisioner may make it somewhere else than it was told."""
    world = World(FaultPlan())
    for name in "nm":
        world.node(name)
    provisioner = Provisioner(world, "n", "m", reach=reach)
    async with world.running() as scheduler, provisioner.at_work():
        world.pod("a", "p", claim="data")
        await until(lambda: world.bound() == {"p": reach}, seconds=30)
        assert provisioner.asked.total() == 1
    check(scheduler.state)


@pytest.mark.looptime
async def test_a_node_for_which_no_volume_could_be_made_is_tried_again_after_doubling_times() -> None:
    world = World(FaultPlan())
    world.node("n")
    provisioner = Provisioner(world)
    async with world.running() as scheduler, provisioner.at_work():
        world.pod("a", "p", claim="data")
        await asyncio.sleep(65)
        assert provisioner.asked == {"n": 3}, "after 10 and 20 seconds"
        assert not scheduler.ledger.starts, "others may have its room meanwhile"
        provisioner.works_on.add("n")
        await until(lambda: world.bound() == {"p": "n"})
        await until(lambda: not scheduler._issuing._choices._barred)
    check(scheduler.state)


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("error", "most", "set_aside"),
    [
        (UnavailableError("a webhook is away", code=500), 7, False),
        (ForbiddenError("a webhook says no", code=403), 5, True),
    ],
    ids=["failed", "refused"],
)
async def test_a_claim_that_cannot_be_written_is_written_again_after_doubling_times(
    error: ApiError, most: int, *, set_aside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch, tried = Client.patch, 0

    async def fail(client: Client, resource: Resource[Any], *given: Any, **named: Any) -> Any:
        nonlocal tried
        if resource is PERSISTENT_VOLUME_CLAIMS:
            tried += 1
            raise error
        return await patch(client, resource, *given, **named)

    world = World(FaultPlan())
    world.node("n")
    provisioner = Provisioner(world, "n")
    async with world.running() as scheduler, provisioner.at_work():
        monkeypatch.setattr(Client, "patch", fail)
        world.pod("a", "p", claim="data")
        await asyncio.sleep(60)
        assert 3 <= tried <= most
        refusal = scheduler.ledger.refusal(("a", "p"))
        assert (refusal is not None) == set_aside
        if refusal is not None:
            assert refusal[0] == "claim data cannot be told its volume: a webhook says no"
        monkeypatch.undo()
        await until(lambda: world.bound() == {"p": "n"})
    check(scheduler.state)


@pytest.mark.looptime
async def test_a_pod_says_at_once_that_another_scheduler_gave_its_volume_away() -> None:
    world = World(FaultPlan())
    world.node("n")
    world.server.put(
        STORAGE_CLASSES,
        {
            "metadata": {"name": "c"},
            "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer",
        },
    )
    room = {"capacity": {"storage": "1"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "c"}
    free: Object = {"metadata": {"name": "v"}, "spec": room, "status": {"phase": "Available"}}
    world.server.put(PERSISTENT_VOLUMES, free)
    spec = {"storageClassName": "c", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1"}}}
    world.server.put(PERSISTENT_VOLUME_CLAIMS, {"metadata": {"name": "data", "namespace": "a"}, "spec": spec})

    def named() -> bool:
        found = world.server.get(PERSISTENT_VOLUME_CLAIMS, "data", "a") or {}
        return bool(found["spec"].get("volumeName") == "v")

    async with world.running() as scheduler:
        world.pod("a", "p", claim="data")
        await until(named)
        foreign = {"namespace": "kube-system", "name": "other", "uid": "other"}
        world.server.put(PERSISTENT_VOLUMES, {**free, "spec": {**room, "claimRef": foreign}})
        await until(lambda: scheduler.ledger.refusal(("a", "p")), seconds=5)
        assert (
            "claim data, which asks for volume v, and that is another claim's"
            in (scheduler.ledger.refusal(("a", "p")) or [""])[0]
        )
    check(scheduler.state)


@pytest.mark.looptime
async def test_who_gets_no_volume_in_time_leaves_its_room_to_others_for_a_while() -> None:
    world = World(FaultPlan())
    world.settings = Settings(volume_seconds=20)
    world.node("n", cpu="1")
    Provisioner(world)  # it does nothing
    async with world.running() as scheduler:
        world.pod("a", "p", claim="data")
        await until(lambda: ("a", "p") in scheduler.ledger.starts)
        world.pod("a", "next")
        await until(lambda: world.bound() == {"next": "n"}, seconds=30)
        assert patches(world) == 1
    check(scheduler.state)


@pytest.mark.looptime
async def test_who_gets_no_volume_in_time_gives_its_room_up_though_others_are_tried_again_and_again() -> None:
    """Where a node is tried again, or barred, what each may use is laid out anew."""
    world = World(FaultPlan())
    world.settings = Settings(volume_seconds=20)
    world.node("n")
    failing = Provisioner(world)
    found: Object = world.server.get(PERSISTENT_VOLUME_CLAIMS, "data", "a") or {}
    world.server.put(PERSISTENT_VOLUME_CLAIMS, {"metadata": {"name": "no", "namespace": "a"}, "spec": found["spec"]})
    async with world.running() as scheduler, failing.at_work():
        world.pod("a", "other", claim="data")
        await until(lambda: failing.asked["n"] == 1)
        await asyncio.sleep(5)
        world.pod("a", "p", claim="no")
        await until(lambda: ("a", "p") in scheduler.ledger.starts)
        await until(lambda: scheduler.ledger.refusal(("a", "p")), seconds=25)
        assert failing.asked["n"] > 1
    check(scheduler.state)


@pytest.mark.looptime
async def test_a_claim_is_told_nothing_before_the_room_is_there() -> None:
    """A new leader holds the room while a victim takes its half hour; a volume would bind the pod to the node."""
    world = World(FaultPlan(), graceful=True)
    world.node("n", cpu="2")
    provisioner = Provisioner(world, "n")
    async with world.running(), provisioner.at_work():
        world.pod("a", "victim", cpu="2", terminationGracePeriodSeconds=1800)
        await until(lambda: world.bound() == {"victim": "n"})
        world.pod("a", "claimant", cpu="2", priority=9, claim="data")
        await world.being_evicted()
    world.scheduler = world.new_scheduler()
    async with world.running() as successor, provisioner.at_work():
        await asyncio.sleep(900)
        assert patches(world) == 0
        assert successor.ledger.refusal(("a", "claimant")) is None
        assert world.status("a", "claimant").get("nominatedNodeName") == "n"
        world.server.remove(PODS, "victim", "a")
        await until(lambda: world.bound() == {"claimant": "n"})
    check(successor.state)


@pytest.mark.looptime
async def test_who_would_take_a_volume_that_is_being_given_waits_until_that_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An admission webhook may take its time over a claim; others that would take the same volume ask in vain."""
    world = World(FaultPlan())
    world.node("n")
    driver = {"provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer"}
    world.server.put(STORAGE_CLASSES, {"metadata": {"name": "c"}, **driver})
    room = {"capacity": {"storage": "1"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "c"}
    world.server.put(PERSISTENT_VOLUMES, {"metadata": {"name": "v"}, "spec": room, "status": {"phase": "Available"}})
    spec = {"storageClassName": "c", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1"}}}
    for name in ("one", "other"):
        world.server.put(PERSISTENT_VOLUME_CLAIMS, {"metadata": {"name": name, "namespace": "a"}, "spec": spec})
    patch, answered = Client.patch, asyncio.Event()

    async def late(client: Client, resource: Resource[Any], *given: Any, **named: Any) -> Any:
        if resource is PERSISTENT_VOLUME_CLAIMS:
            await answered.wait()
        return await patch(client, resource, *given, **named)

    monkeypatch.setattr(Client, "patch", late)
    async with world.running() as scheduler:
        world.pod("a", "first", claim="one")
        await until(lambda: scheduler._issuing._choices._named)
        world.pod("a", "second", claim="other")
        await asyncio.sleep(1)
        before = scheduler.progress.cycles
        await asyncio.sleep(8)

        assert scheduler.progress.cycles - before < 20, "it is not decided anew all the time"
        answered.set()
        await until(lambda: ("a", "second") not in scheduler.ledger.starts)
        assert [(world.server.get(PERSISTENT_VOLUME_CLAIMS, name, "a") or {})["spec"].get("volumeName")
                for name in ("one", "other")] == ["v", None]  # fmt: skip
    check(scheduler.state)
