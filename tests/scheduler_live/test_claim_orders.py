"""What is written to claims before their pod is bound, and what is not written twice."""

from math import inf
from typing import Any

import msgspec
import pytest

from allotment_kube import devices as kube
from allotment_kube.errors import ApiError, ConflictError, InvalidError, UnavailableError
from allotment_kube.patches import Patch
from allotment_kube.pods import Pod
from allotment_kube.resources import Resource
from allotment_scheduler.core.objects.devices import Grant
from allotment_scheduler.shell.claims import FINALIZER, Claims
from allotment_scheduler.shell.errands import Errands
from allotment_scheduler.shell.ledger import Start
from allotment_scheduler.translation.devices import DeviceError, Devices

DRIVER = "gpu.example.com"


def of(model: Any, **content: Any) -> Any:
    return msgspec.convert(content, model)


def claim(name: str, *numbers: int, consumers: tuple[str, ...] = ()) -> kube.ResourceClaim:
    """A claim for one device, that has some of node n."""
    results = [{"request": "r", "driver": DRIVER, "pool": "n", "device": f"d{number}"} for number in numbers]
    reserved = [{"resource": "pods", "name": uid, "uid": uid} for uid in consumers]
    found: kube.ResourceClaim = of(
        kube.ResourceClaim,
        metadata={"name": name, "namespace": "t", "resourceVersion": "7", "uid": f"uid-{name}"},
        spec={"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu"}}]}},
        status={"reservedFor": reserved, **({"allocation": {"devices": {"results": results}}} if numbers else {})},
    )
    return found


def claims(*known: kube.ResourceClaim, pods: tuple[str, ...] = ("me",), count: int = 2, **given: Any) -> Claims:
    """Claims of pods that are called like the claims that they use."""
    devices = Devices(claims={("t", each.metadata.name): each for each in known})
    devices.classes["gpu"] = of(kube.DeviceClass, metadata={"name": "gpu"})
    devices.slices["n"] = of(
        kube.ResourceSlice,
        metadata={"name": "n"},
        spec={
            "driver": DRIVER,
            "nodeName": "n",
            "pool": {"name": "n", "generation": 1, "resourceSliceCount": 1},
            "devices": [{"name": f"d{number}"} for number in range(count)],
        },
    )
    listed: dict[tuple[str, str], Pod] = {
        ("t", name): of(
            Pod,
            metadata={"name": name, "namespace": "t", "uid": name},
            spec={"resourceClaims": [{"name": "gpu", "resourceClaimName": name}]},
        )
        for name in pods
    }
    idle: dict[str, Any] = {
        "clock": lambda: 0.0,
        "woken": lambda: None,
        "chosen": lambda _: {},
        "decided": lambda _: None,
        "patience": lambda: inf,
        "told": lambda *_: None,
    }
    return Claims(devices, listed, **{**idle, **given})


START = Start(("t", "me"), "me", "n", ("t", "me"), 0.0)


class Answering:
    """A client that says yes to every patch, or no to all."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.sent: list[tuple[str, Any]] = []

    async def patch(
        self, resource: Resource[Any], name: str, patch: Patch, *, namespace: str = "", subresource: str = ""
    ) -> Any:
        assert (resource.kind, namespace) == ("ResourceClaim", "t")
        self.sent.append((subresource, msgspec.json.decode(patch.encode())))
        if self.error is not None:
            raise self.error
        return claim(name)

    @property
    def written(self) -> list[tuple[Any, Any]]:
        """What every write of a status says of devices and of pods."""
        found = [body["status"] for subresource, body in self.sent if subresource]
        return [(status.get("allocation", "as it is"), status["reservedFor"]) for status in found]


async def test_the_finalizer_is_written_first_and_then_devices_with_their_pod() -> None:
    told: list[Any] = []
    found = claims(
        claim("me"), chosen=lambda _: {"gpu": (Grant("r", (DRIVER, "n", "d1")),)}, told=lambda *it: told.append(it)
    )
    client = Answering()

    [order] = found.orders(START)
    found.begin(order)
    assert found.orders(START) == [], "one write at a time"
    await found.carry_out(client, order)

    assert [subresource for subresource, _ in client.sent] == ["", "status"]
    assert client.sent[0][1]["metadata"]["finalizers"] == [FINALIZER]
    status = client.sent[1][1]["status"]
    assert [each["device"] for each in status["allocation"]["devices"]["results"]] == ["d1"], "what the core chose"
    assert status["reservedFor"] == [{"resource": "pods", "name": "me", "uid": "me"}]
    assert [key for key, _ in told] == [("t", "me")]


async def test_what_the_api_server_refuses_is_said_and_not_sent_again_at_once() -> None:
    found = claims(claim("me"))
    client = Answering(InvalidError("spec: field is immutable", code=422))

    [order] = found.orders(START)
    found.begin(order)
    await found.carry_out(client, order)

    with pytest.raises(DeviceError, match="ResourceClaim me cannot be given its devices: spec: field is immutable"):
        found.orders(START)
    assert len(found.orders(START)) == 1, "after that it may be tried again"


def look(found: Claims) -> None:
    """Begin a turn, in which nothing is taken back."""
    found.look(Answering(), Nothing())


class Nothing(Errands):
    """Sends nothing."""

    def __init__(self) -> None:
        pass

    def send(self, work: Any, kind: str, about: object) -> None:
        raise AssertionError(f"{work} is sent: {kind} of {about}")


class Clock:
    """Seconds, as they are set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


async def fails(found: Claims, error: ApiError) -> None:
    """The order that is due fails."""
    [order] = found.orders(START)
    found.begin(order)
    await found.carry_out(Answering(error), order)


async def test_a_write_that_fails_is_tried_again_after_doubling_times_and_wakes_nobody() -> None:
    clock, woken = Clock(), list[None]()
    found = claims(claim("me"), clock=clock, woken=lambda: woken.append(None))
    tried = []
    while clock.now < 100:
        look(found)
        if found.orders(START):
            tried.append(clock.now)
            await fails(found, UnavailableError("no etcd", code=500))
        clock.now += 0.5
    assert tried == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5, 61.5, 91.5]
    assert not woken, "the next turn would send the same again"
    clock.now = -3600.0
    look(found)
    assert found.orders(START), "the clock was set back"
    found.devices.claim(("t", "me"), msgspec.structs.replace(claim("me"), metadata=named("me", "7", uid="namesake")))
    assert found.orders(START), "it is another claim"


def named(name: str, version: str, *, uid: str) -> Any:
    return msgspec.structs.replace(claim(name).metadata, uid=uid, resource_version=version)


async def test_a_claim_that_has_changed_meanwhile_is_written_as_soon_as_its_new_version_is_known() -> None:
    found = claims(claim("me"))
    await fails(found, ConflictError("the object has been modified", code=409))
    assert found.orders(START) == [], "the watch shows the version of before"
    changed = msgspec.structs.replace(claim("me"), metadata=named("me", "8", uid="uid-me"))
    found.devices.claim(("t", "me"), changed)
    assert len(found.orders(START)) == 1


async def test_what_was_refused_is_not_said_of_another_claim_of_the_name() -> None:
    found = claims(claim("me"))
    await fails(found, InvalidError("spec: field is immutable", code=422))
    another = msgspec.structs.replace(claim("me"), metadata=named("me", "9", uid="another"))
    found.devices.claim(("t", "me"), another)
    assert len(found.orders(START)) == 1
    look(found)
    assert not found._refused, "nobody will ever be told"


class Unlisted(dict[tuple[str, str], Any]):
    """What may be asked by name, and not gone through."""

    def __iter__(self) -> Any:
        raise AssertionError("all of them are gone through for one start")

    items = values = keys = __iter__


def test_a_start_looks_at_its_own_claims_and_at_its_nodes_devices_only() -> None:
    found = claims(claim("me"), claim("other", 0, consumers=("other",)), pods=("me", "other"))
    found.devices.holders((DRIVER, "n", "d0"))  # from now on they are known by device
    found.devices.claims, found.pods = Unlisted(found.devices.claims), Unlisted(found.pods)

    [order] = found.orders(START)

    assert [device for _, _, device in order.given] == ["d1"]


@pytest.mark.parametrize(("there", "waits"), [(("me",), True), (("me", "other"), False)])
def test_devices_of_pods_that_are_gone_are_waited_for(there: tuple[str, ...], waits: bool) -> None:
    found = claims(claim("me"), claim("other", 0, consumers=("other",)), pods=there, count=1)

    if waits:
        assert found.orders(START) == []
    else:
        with pytest.raises(DeviceError, match="node n has too few devices left for ResourceClaim me"):
            found.orders(START)


def test_a_claim_that_has_its_devices_is_reserved_for_one_more_pod() -> None:
    [order] = claims(claim("me", 0, consumers=("other",)), pods=("me", "other")).orders(START)

    assert order.status == {
        "reservedFor": [
            {"resource": "pods", "name": "other", "uid": "other"}, {"resource": "pods", "name": "me", "uid": "me"},
        ]
    }  # fmt: skip


async def test_devices_of_another_node_are_taken_away_before_others_are_given() -> None:
    """The API server lets no allocation be changed."""
    found, client = claims(elsewhere("me")), Answering()

    [order] = found.orders(START)
    await found.carry_out(client, order)

    assert [subresource for subresource, _ in client.sent] == ["status", "", "status"]
    assert client.written[0] == (None, None)
    assert [each["device"] for each in client.written[1][0]["devices"]["results"]] == ["d0"]


def elsewhere(name: str) -> kube.ResourceClaim:
    """A claim of one pod with a device of another node."""
    found = claim(name, 7, consumers=(name,))
    field = {"key": "metadata.name", "operator": "In", "values": ["another"]}
    allocation = {
        "devices": {"results": [{"request": "r", "driver": DRIVER, "pool": "another", "device": "d7"}]},
        "nodeSelector": {"nodeSelectorTerms": [{"matchFields": [field]}]},
    }
    status = {"allocation": allocation, "reservedFor": msgspec.to_builtins(found.status.reserved_for)}
    return msgspec.structs.replace(found, status=of(kube.ResourceClaimStatus, **status))
