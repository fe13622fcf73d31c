"""Devices by ResourceClaims: selectors of classes, counts, what is refused, and which devices are given out."""

import re
from typing import Any

import msgspec
import pytest

from allotment_kube import devices as kube
from allotment_kube.pods import Pod
from allotment_scheduler.translation.device_selectors import DeviceFacts, SelectorError, parse, selects
from allotment_scheduler.translation.devices import DeviceError, Devices, allocation, given_out
from allotment_scheduler.translation.pods import pod_spec

DRIVER = "gpu.example.com"
A100 = DeviceFacts(DRIVER, {(DRIVER, "model"): "a100", (DRIVER, "index"): 3}, {(DRIVER, "memory"): 80 * 2**30})
RESOURCE = "gpu.deviceclass.resource.k8s.io/devices"


@pytest.mark.parametrize(
    ("expression", "want"),
    [
        ('device.driver == "gpu.example.com"', True),
        ("device.driver == 'other'", False),
        ('device.driver != "other" && device.attributes["gpu.example.com"].model == "a100"', True),
        ('device.attributes["gpu.example.com"].model in ["h100", "a100"]', True),
        ('device.attributes["gpu.example.com"].model.startsWith("a")', True),
        ('device.attributes["gpu.example.com"].index >= 4 || device.driver.endsWith(".com")', True),
        ('!(device.attributes["gpu.example.com"].index == 3)', False),
        ('device.attributes["gpu.example.com"].missing == "x"', False),
        ('device.attributes["gpu.example.com"].missing == "x" || true', True),
        ('device.attributes["other.example.com"].model == "a100"', False),
        ('device.capacity["gpu.example.com"].memory.compareTo(quantity("40Gi")) >= 0', True),
        ('device.capacity["gpu.example.com"].memory.isLessThan(quantity("40Gi"))', False),
        ('"gpu.example.com" in device.attributes', True),
        ('"model" in device.attributes["gpu.example.com"]', True),
        ('device.attributes["gpu.example.com"].model < 5', False),
        ("true", True),
    ],
)
def test_selectors(expression: str, want: bool) -> None:
    assert selects(parse(expression), A100) is want


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("", "the end"),
        ("device.name == 'x'", "'name' is not understood, at character 7"),
        ("device.driver ==", "the end"),
        ("cel.bind(x, 1, x == 1)", "'cel'"),
        ("device.driver == 'a' extra", "'extra'"),
        ('device.attributes["d"].x == quantity("many")', "many"),
        ("device.driver ~ 'a'", "at character 13"),
    ],
)
def test_what_is_not_understood_is_refused_with_its_place(expression: str, said: str) -> None:
    with pytest.raises(SelectorError) as caught:
        parse(expression)

    assert said in str(caught.value)


def of(model: Any, **content: Any) -> Any:
    return msgspec.convert(content, model)


def resource_slice(node: str, *devices: dict[str, Any], generation: int = 1, name: str = "") -> kube.ResourceSlice:
    found: kube.ResourceSlice = of(
        kube.ResourceSlice,
        metadata={"name": name or node},
        spec={"driver": DRIVER, "nodeName": node, "pool": {"name": node, "generation": generation}, "devices": devices},
    )
    return found


def device(name: str, model: str = "a100", **more: Any) -> dict[str, Any]:
    return {"name": name, "attributes": {"model": {"string": model}}, **more}


def claim(name: str = "c", *, consumers: tuple[str, ...] = (), node: str | None = None, **exactly: Any) -> Any:
    request = {"name": "r", "exactly": {"deviceClassName": "gpu", **exactly}}
    given = {"devices": {"results": [{"request": "r", "driver": DRIVER, "pool": node, "device": "d0"}]},
             "nodeSelector": {"nodeSelectorTerms": [
                 {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}]}}  # fmt: skip
    reserved = [{"resource": "pods", "name": uid, "uid": uid} for uid in consumers]
    return of(
        kube.ResourceClaim,
        metadata={"name": name, "namespace": "t"},
        spec={"devices": {"requests": [request]}},
        status={"reservedFor": reserved, **({"allocation": given} if node else {})},
    )


def devices(*claims: kube.ResourceClaim, **classes: str) -> Devices:
    made = Devices()
    for name, expression in {"gpu": f"device.driver == '{DRIVER}'", **classes}.items():
        selectors = [{"cel": {"expression": expression}}]
        made.classes[name] = of(kube.DeviceClass, metadata={"name": name}, spec={"selectors": selectors})
    made.slices["n1"] = resource_slice("n1", device("d0"), device("d1", "t4"))
    made.claims = {("t", each.metadata.name): each for each in claims}
    return made


def pod(*claims: str, uid: str = "me", **entry: str) -> Pod:
    entries = [{"name": name, "resourceClaimName": name} for name in claims] or [{"name": "x", **entry}]
    found: Pod = of(
        Pod,
        metadata={"name": "p", "namespace": "t", "uid": uid},
        spec={"schedulerName": "allotment", "resourceClaims": entries},
    )
    return found


def test_nodes_offer_devices_by_class() -> None:
    made = devices(small='device.attributes["gpu.example.com"].model == "t4"')

    assert {node: it.devices for node, it in made.offered().items()} == {"n1": (("gpu", 2), ("small", 1))}


@pytest.mark.parametrize(
    "unfit",
    [
        {"taints": [{"key": "broken", "effect": "NoSchedule"}]},
        {"consumesCounters": [{"counterSet": "x"}]},
        {"allowMultipleAllocations": True},
    ],
    ids=str,
)
def test_only_whole_sound_devices_are_offered(unfit: dict[str, Any]) -> None:
    made = devices()
    made.slices["n1"] = resource_slice("n1", device("d0"), device("d1", **unfit))

    assert made.offered()["n1"].devices == (("gpu", 1),)


def test_only_the_newest_generation_of_a_pool_counts() -> None:
    made = devices()
    made.slices["newer"] = resource_slice("n1", device("d9"), generation=2, name="newer")

    assert made.offered()["n1"].devices == (("gpu", 1),)


def test_a_claim_counts_as_requests_of_its_pod() -> None:
    spec = pod_spec(pod("c"), devices=devices(claim(count=2)))

    assert spec.scheduling.requests == ((RESOURCE, 2),)
    assert spec.invalid == ""


def test_a_shared_claim_is_paid_for_once_and_pins_the_others() -> None:
    shared = claim(consumers=("first", "me"), node="n1")

    first, me = (pod_spec(pod("c", uid=uid), devices=devices(shared)) for uid in ("first", "me"))

    assert first.scheduling.requests == ((RESOURCE, 1),)
    assert me.scheduling.requests == ()
    assert me.scheduling.required_nodes is not None
    assert [term.fields[0].values for term in me.scheduling.required_nodes] == [("n1",)]


def test_a_claim_held_for_one_pod_only_does_not_pin_it() -> None:
    alone = pod_spec(pod("c"), devices=devices(claim(consumers=("me",), node="n1")))

    assert alone.scheduling.required_nodes is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"selectors": [{"cel": {"expression": "true"}}]}, "ResourceClaim c, request r: selectors are not supported"),
        ({"allocationMode": "All"}, "only allocationMode ExactCount"),
        ({"adminAccess": True}, "without adminAccess"),
        ({"deviceClassName": "none"}, "DeviceClass 'none' does not exist: create it"),
        ({"deviceClassName": "odd"}, "DeviceClass odd: its selector: 'cel'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_supported_is_named(given: dict[str, Any], said: str) -> None:
    made = devices(claim(**given), odd="cel.bind(x, 1, true)")

    assert said in pod_spec(pod("c"), devices=made).invalid
    with pytest.raises(DeviceError, match=re.escape(said)):
        allocation(made, made.claims["t", "c"], "n1", ())


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"resourceClaimName": "lost"}, "ResourceClaim lost does not exist: create it"),
        ({"resourceClaimTemplateName": "t"}, "the ResourceClaim for x has not been made yet"),
    ],
)
def test_claims_that_are_missing_are_named(entry: dict[str, str], said: str) -> None:
    assert said in pod_spec(pod(**entry), devices=devices()).invalid


def test_devices_that_fewer_classes_select_are_given_out_first() -> None:
    made = devices(claim(), small='device.attributes["gpu.example.com"].model == "t4"')

    given = allocation(made, made.claims["t", "c"], "n1", ())

    assert given is not None
    assert given["devices"]["results"] == [{"request": "r", "driver": DRIVER, "pool": "n1", "device": "d0"}]
    assert given["nodeSelector"]["nodeSelectorTerms"][0]["matchFields"][0]["values"] == ["n1"]


def test_no_device_is_given_out_twice() -> None:
    made = devices(claim("held", node="n1"), claim("c"), claim("both", count=2))
    taken = list(given_out(made.claims.values()))

    one, two = (allocation(made, made.claims["t", name], "n1", taken) for name in ("c", "both"))

    assert one is not None
    assert one["devices"]["results"][0]["device"] == "d1"
    assert two is None
