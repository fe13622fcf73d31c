"""Whatever the network does, a reflector's picture becomes the truth, and its story never contradicts itself."""

import asyncio
import random

import pytest

from allotment_kube import Added, Client, Deleted, Event, Modified, Reflector, ReflectorSettings
from allotment_kube.models import Object
from allotment_kube.reflector import Key
from allotment_kube.resources import CONFIG_MAPS
from allotment_kube.watch import WatchSettings
from fakes.api_server import FakeApiServer
from fakes.faults import FaultPlan, Verb
from fakes.in_process import InProcessTransport

pytestmark = pytest.mark.looptime


class Witness:
    """Checks every sentence of a story against the ones before it."""

    def __init__(self) -> None:
        self.alive: dict[Key, tuple[str, int]] = {}
        self.dead: set[str] = set()

    def __call__(self, event: Event[Object]) -> None:
        match event:
            case Added(key, new):
                uid, version = identity(new)
                assert key not in self.alive, f"{key} added twice"
                assert uid not in self.dead, f"{key} came back from the dead"
                self.alive[key] = uid, version
            case Modified(key, _, new):
                uid, version = identity(new)
                assert self.alive[key][0] == uid, f"{key} changed its uid in a modification"
                assert self.alive[key][1] < version, f"{key} went back in time"
                self.alive[key] = uid, version
            case Deleted(key, uid, _):
                assert self.alive.pop(key)[0] == uid, f"{key} deleted under another uid"
                self.dead.add(uid)


def identity(item: Object) -> tuple[str, int]:
    return item["metadata"]["uid"], int(item["metadata"]["resourceVersion"])


def disturb(server: FakeApiServer, rng: random.Random) -> None:
    """One random change of the world."""
    name = f"c{rng.randrange(8)}"
    match rng.randrange(10):
        case 0 | 1 | 2:
            if server.get(CONFIG_MAPS, name, "a"):
                server.remove(CONFIG_MAPS, name, "a")
        case 3:
            server.store.compact()
        case _:
            value = {"metadata": {"name": name, "namespace": "a"}, "data": {"v": str(rng.random())}}
            server.put(CONFIG_MAPS, value)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("page_size", [0, 3])
async def test_the_picture_converges_to_the_truth(seed: int, page_size: int) -> None:
    rng = random.Random(seed)
    loop = asyncio.get_running_loop()
    server = FakeApiServer(clock=loop.time)
    plan = FaultPlan(seed, rate=0.4, rates={Verb.WATCH: 0.8})
    client = Client(InProcessTransport(server, plan, latency=0.01), rng=random.Random(seed))
    witness = Witness()
    settings = ReflectorSettings(page_size=page_size, watch=WatchSettings(server_timeout=15.0, silence=20.0))
    reflector = Reflector(client, CONFIG_MAPS, witness, settings=settings, rng=rng)
    running = asyncio.create_task(reflector.run())

    for _ in range(100):
        disturb(server, rng)
        await asyncio.sleep(rng.expovariate(1 / 3.0))
    plan.stop()
    truth = {(i["metadata"]["namespace"], i["metadata"]["name"]): i for i in server.objects(CONFIG_MAPS)}
    # The longest a healthy server can go unheard: a silent watch, and the longest pause.
    await asyncio.sleep(180.0)
    running.cancel()
    ended = await asyncio.gather(running, return_exceptions=True)
    await client.close()

    assert isinstance(ended[0], asyncio.CancelledError), f"{ended[0]!r}; {plan.describe()}"
    assert reflector.objects() == truth, plan.describe()
    assert witness.alive == {key: identity(found) for key, found in truth.items()}, plan.describe()
    assert sum(plan.injected.values()) > 5
