"""The reflector's story, event by event, through one misfortune at a time."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from allotment_kube import Added, Deleted, Event, Modified, Reflector, ReflectorSettings, Synced
from allotment_kube.models import Object
from allotment_kube.resources import CONFIG_MAPS, PODS, Resource
from allotment_kube.transport import Request, Response
from allotment_kube.watch import WatchSettings
from fakes.environments import Fake
from fakes.faults import Fault, Verb

pytestmark = pytest.mark.looptime


def item(name: str, value: str = "", **labels: str) -> Object:
    return {"metadata": {"name": name, "namespace": "a", "labels": labels}, "data": {"v": value}}


def told(event: Event[Object]) -> str:
    """An event in one word, such as `+a:1`, `~a:1>2`, `-a:2` or `synced`."""
    match event:
        case Added(key, new):
            return f"+{key[1]}:{new['data']['v']}"
        case Modified(key, old, new):
            return f"~{key[1]}:{old['data']['v'] if old else ''}>{new['data']['v']}"
        case Deleted(key, _, last):
            return f"-{key[1]}:{last['data']['v'] if last else ''}"
    return "synced"


@asynccontextmanager
async def reflecting(
    fake: Fake, story: list[str], resource: Resource[Object] = CONFIG_MAPS, **options: Any
) -> AsyncIterator[Reflector[Object]]:
    reflector = Reflector(
        fake.client, resource, lambda event: story.append(told(event)), rng=random.Random(7), **options
    )
    task = asyncio.create_task(reflector.run())
    try:
        yield reflector
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], object], within: float = 600.0) -> None:
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110 - on virtual time, where a look costs nothing
            await asyncio.sleep(1.0)


async def test_the_story_is_the_list_and_then_every_change(fake: Fake) -> None:
    story: list[str] = []
    fake.server.put(CONFIG_MAPS, item("a", "1"))
    async with reflecting(fake, story) as reflector:
        await reflector.synced()
        fake.server.put(CONFIG_MAPS, item("b", "1"))
        fake.server.put(CONFIG_MAPS, item("a", "2"))
        fake.server.remove(CONFIG_MAPS, "b", "a")
        await until(lambda: len(story) == 5)

    assert story == ["+a:1", "synced", "+b:1", "~a:1>2", "-b:1"]


async def test_selectors_turn_leaving_into_deletion(fake: Fake) -> None:
    story: list[str] = []
    async with reflecting(fake, story, label_selector="app=x", namespace="a") as reflector:
        await reflector.synced()
        fake.server.put(CONFIG_MAPS, item("a", "1", app="y"))
        fake.server.put(CONFIG_MAPS, item("a", "2", app="x"))
        fake.server.put(CONFIG_MAPS, item("a", "3", app="y"))
        await until(lambda: len(story) == 3)

    assert story == ["synced", "+a:2", "-a:3"]


async def test_a_broken_watch_goes_on_where_it_was(fake: Fake) -> None:
    story: list[str] = []
    fake.plan.script(Verb.WATCH, Fault.WATCH_CUT, Fault.WATCH_CLOSED, Fault.REFUSED, Fault.UNAVAILABLE)
    async with reflecting(fake, story) as reflector:
        await reflector.synced()
        for number in range(12):
            fake.server.put(CONFIG_MAPS, item("a", str(number)))
            await asyncio.sleep(3.0)
        await until(lambda: len(story) == 13)

    assert story == ["synced", "+a:0", *(f"~a:{n}>{n + 1}" for n in range(11))]
    assert reflector.statistics.lists == 1


async def test_an_expired_version_is_answered_by_a_new_list_and_its_differences(fake: Fake) -> None:
    story: list[str] = []
    for name in "abc":
        fake.server.put(CONFIG_MAPS, item(name, "1"))
    async with reflecting(fake, story) as reflector:
        await reflector.synced()
        fake.transport.partitioned = True
        fake.server.put(CONFIG_MAPS, item("a", "2"))
        fake.server.remove(CONFIG_MAPS, "b", "a")
        fake.server.remove(CONFIG_MAPS, "c", "a")
        fake.server.put(CONFIG_MAPS, item("c", "new incarnation"))
        fake.server.store.compact()
        await asyncio.sleep(100.0)
        fake.transport.partitioned = False
        await until(lambda: story.count("synced") == 2)

    assert story == ["+a:1", "+b:1", "+c:1", "synced", "~a:1>2", "-c:1", "+c:new incarnation", "-b:1", "synced"]
    assert reflector.statistics.relists == 1


async def test_a_silent_watch_is_given_up(fake: Fake) -> None:
    story: list[str] = []
    fake.plan.script(Verb.WATCH, Fault.WATCH_SILENT)
    settings = ReflectorSettings(watch=WatchSettings(silence=70.0))
    async with reflecting(fake, story, settings=settings) as reflector:
        await reflector.synced()
        for number in range(5):
            fake.server.put(CONFIG_MAPS, item(f"c{number}"))
        began = asyncio.get_running_loop().time()
        await until(lambda: len(reflector) == 5)

    assert 60.0 < asyncio.get_running_loop().time() - began < 90.0
    assert reflector.statistics.failures == 1


async def test_a_quiet_watch_is_kept_alive_and_fresh_by_bookmarks(fake: Fake) -> None:
    story: list[str] = []
    async with reflecting(fake, story) as reflector:
        await reflector.synced()
        for _ in range(50):
            fake.server.put(PODS, {"metadata": {"name": "p", "namespace": "a"}, "spec": {}})
            await asyncio.sleep(30.0)
            fake.server.store.compact()

    assert (reflector.statistics.lists, reflector.statistics.failures) == (1, 0)
    assert int(reflector.resource_version) >= fake.server.store.revision - 3
    assert reflector.statistics.bookmarks >= 20


async def test_repeated_events_are_told_once(fake: Fake) -> None:
    story: list[str] = []
    fake.plan.script(Verb.WATCH, Fault.WATCH_DUPLICATE)
    async with reflecting(fake, story) as reflector:
        await reflector.synced()
        fake.server.put(CONFIG_MAPS, item("a", "1"))
        fake.server.put(CONFIG_MAPS, item("a", "2"))
        fake.server.remove(CONFIG_MAPS, "a", "a")
        await until(lambda: reflector.statistics.events == 6)

    assert story == ["synced", "+a:1", "~a:1>2", "-a:2"]
    assert reflector.statistics.stale == 3


async def test_an_old_list_is_refused_until_the_server_has_caught_up(fake: Fake) -> None:
    story: list[str] = []
    fake.server.put(CONFIG_MAPS, item("ghost"))
    async with reflecting(fake, story) as reflector:
        await reflector.synced()
        fake.server.remove(CONFIG_MAPS, "ghost", "a")
        await until(lambda: "-ghost:" in story)
        fake.plan.script(Verb.LIST, Fault.STALE, Fault.STALE)
        fake.plan.script(Verb.WATCH, Fault.GONE)
        await asyncio.sleep(700.0)
        await until(lambda: story.count("synced") == 2)

    assert story == ["+ghost:", "synced", "-ghost:", "synced"]
    assert reflector.statistics.stale == 2


async def test_a_restored_cluster_is_believed_in_the_end(fake: Fake, caplog: pytest.LogCaptureFixture) -> None:
    story: list[str] = []
    fake.server.put(CONFIG_MAPS, item("a", "new"))
    fake.server.put(CONFIG_MAPS, item("b"))
    async with reflecting(fake, story, settings=ReflectorSettings(stale_lists=3)) as reflector:
        await reflector.synced()
        store = fake.server.store
        store.objects.clear()
        store.history.clear()
        store.revision, store.compacted = 10, 0
        fake.server.put(CONFIG_MAPS, item("a", "old"))
        fake.plan.script(Verb.WATCH, Fault.GONE)
        await until(lambda: story.count("synced") == 2)

    assert story[3:] == ["-a:new", "+a:old", "-b:", "synced"]
    assert "gone back in time" in caplog.text


async def test_without_kept_objects_only_names_are_remembered(fake: Fake) -> None:
    story: list[str] = []
    async with reflecting(fake, story, keep_objects=False) as reflector:
        await reflector.synced()
        fake.server.put(CONFIG_MAPS, item("a", "1"))
        fake.server.put(CONFIG_MAPS, item("a", "2"))
        fake.server.remove(CONFIG_MAPS, "a", "a")
        await until(lambda: len(story) == 4)

    assert story == ["synced", "+a:1", "~a:>2", "-a:2"]
    assert reflector.get("a", "a") is None


async def test_one_undecodable_object_is_left_out_and_named(fake: Fake, caplog: pytest.LogCaptureFixture) -> None:
    good = {"metadata": {"name": "good", "namespace": "a"}, "spec": {"nodeName": "n"}}
    bad = {"metadata": {"name": "bad", "namespace": "a"}, "spec": {"nodeName": 7}}
    fake.server.put(PODS, bad)
    fake.server.put(PODS, good)
    reflector = Reflector(fake.client, PODS, rng=random.Random(0))
    task = asyncio.create_task(reflector.run())
    await reflector.synced()
    fake.server.put(PODS, {**bad, "metadata": {"name": "bad-2", "namespace": "a"}})
    fake.server.put(PODS, {**good, "metadata": {"name": "good-2", "namespace": "a"}})
    await until(lambda: len(reflector) == 2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert set(reflector.objects()) == {("a", "good"), ("a", "good-2")}
    assert reflector.statistics.undecodable == 2
    assert "pods a/bad-2 is left out" in caplog.text


async def test_what_was_unreadable_and_gone_when_a_list_had_to_start_over_is_gone(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("p", "q"):
        fake.server.put(PODS, {"metadata": {"name": name, "namespace": "a"}, "spec": {"nodeName": "n"}})
    reflector = Reflector(fake.client, PODS, rng=random.Random(0), settings=ReflectorSettings(page_size=1))
    task = asyncio.create_task(reflector.run())
    await reflector.synced()
    fake.server.put(PODS, {"metadata": {"name": "p", "namespace": "a"}, "spec": {"nodeName": 7}})
    await until(lambda: reflector.statistics.unread == 1)
    send = fake.transport.send

    async def sent(request: Request) -> Response:
        if "continue=" in request.query and fake.server.get(PODS, "p", "a"):
            fake.server.remove(PODS, "p", "a")
            fake.server.store.compact()
        return await send(request)

    monkeypatch.setattr(fake.transport, "send", sent)
    reflector.relist()
    await until(lambda: reflector.statistics.relists)

    assert set(reflector.objects()) == {("a", "q")}
    assert reflector.statistics.unread == 0
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("ends", ["mended", "deleted", "listed"])
async def test_what_cannot_be_read_counts_until_it_can_or_is_gone(fake: Fake, ends: str) -> None:
    pod = {"metadata": {"name": "p", "namespace": "a"}, "spec": {"nodeName": "n"}}
    bad = {**pod, "spec": {"nodeName": 7}}
    fake.server.put(PODS, pod)
    reflector = Reflector(fake.client, PODS, rng=random.Random(0))
    task = asyncio.create_task(reflector.run())
    await reflector.synced()
    fake.server.put(PODS, bad)
    await until(lambda: reflector.statistics.unread == 1)
    assert ("a", "p") in reflector, "it is known as it was before"
    if ends == "mended":
        fake.server.put(PODS, pod)
    elif ends == "deleted":
        fake.server.remove(PODS, "p", "a")
    else:
        reflector.relist()
        await until(lambda: reflector.statistics.relists)
        assert reflector.statistics.unread == 1
        fake.server.put(PODS, pod)
        reflector.relist()
    await until(lambda: not reflector.statistics.unread)
    assert (("a", "p") in reflector) == (ends != "deleted")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_an_object_that_can_no_longer_be_read_is_not_taken_for_deleted(fake: Fake) -> None:
    """A pod that runs holds its room, whatever a newer server writes into it."""
    pod = {"metadata": {"name": "p", "namespace": "a"}, "spec": {"nodeName": "n"}}
    fake.server.put(PODS, pod)
    reflector = Reflector(fake.client, PODS, rng=random.Random(0))
    task = asyncio.create_task(reflector.run())
    await reflector.synced()
    fake.server.put(PODS, {**pod, "spec": {"nodeName": 7}})
    fake.server.store.compact()
    fake.plan.script(Verb.WATCH, Fault.GONE)
    await until(lambda: reflector.statistics.relists)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert set(reflector.objects()) == {("a", "p")}


async def test_a_kind_that_appears_later_is_waited_for(fake: Fake, caplog: pytest.LogCaptureFixture) -> None:
    widgets = Resource.custom("example.org/v1", "Widget", "widgets")
    caplog.set_level(logging.CRITICAL)
    story: list[str] = []
    async with reflecting(fake, story, widgets) as reflector:
        await asyncio.sleep(5.0)
        fake.server.register(widgets)
        await reflector.synced()

    assert story == ["synced"]


async def test_a_bug_in_the_handler_ends_the_reflector(fake: Fake) -> None:
    def broken(event: Event[Object]) -> None:
        raise RuntimeError(told(event))

    with pytest.raises(RuntimeError, match="synced"):
        await Reflector(fake.client, CONFIG_MAPS, broken).run()


def test_synced_counts_lists() -> None:
    assert Synced(2).lists == 2


async def test_a_dead_watch_is_left_for_a_new_list_when_told_so(fake: Fake) -> None:
    story: list[str] = []
    fake.server.put(CONFIG_MAPS, item("a", "1"))
    fake.plan.script(Verb.WATCH, Fault.WATCH_SILENT)
    async with reflecting(fake, story) as reflector:
        await reflector.synced()
        for number in range(9):
            fake.server.put(CONFIG_MAPS, item("b", str(number)))
        fake.server.remove(CONFIG_MAPS, "a", "a")
        await asyncio.sleep(5)
        assert "-a:1" not in story

        reflector.relist()
        reflector.relist()
        assert reflector.resource_version == ""
        await until(lambda: reflector.resource_version, within=5)
        fake.server.put(CONFIG_MAPS, item("b", "last"))
        await until(lambda: story[-1].endswith("last"), within=5)

    assert story.count("synced") == 2
    assert "-a:1" in story
    assert reflector.statistics.failures == 0


async def test_events_that_were_on_their_way_do_not_replace_the_list_that_was_asked_for(fake: Fake) -> None:
    story: list[str] = []
    async with reflecting(fake, story) as reflector:
        await reflector.synced()
        await until(lambda: reflector.statistics.watches)
        fake.server.put(CONFIG_MAPS, item("a", "1"))
        for _ in range(3):  # the event is about to be told
            await asyncio.sleep(0)
        reflector.relist()
        await until(lambda: reflector.statistics.lists == 2, within=5)

    assert story.count("+a:1") == 1
