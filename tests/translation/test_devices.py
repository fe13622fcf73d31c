"""Devices by ResourceClaims: what nodes offer, what claims mean for their pods, and what is refused."""

from typing import Any

import msgspec
import pytest

from allotment_kube import devices as kube
from allotment_kube import pods as kube_pods
from allotment_kube.models import ObjectMeta
from allotment_kube.pods import Pod
from allotment_scheduler.core.objects.devices import Alike, DeviceClaim, Grant
from allotment_scheduler.core.objects.selectors import NodeSelectorTerm, Requirement
from allotment_scheduler.translation.allocations import allocation, devices_for
from allotment_scheduler.translation.device_selectors import Selectors
from allotment_scheduler.translation.devices import Devices, claims_of_devices, given_out
from allotment_scheduler.translation.pods import pod_spec

DRIVER = "gpu.example.com"
MODEL_T4 = 'device.attributes["gpu.example.com"].model == "t4"'
RESOURCE = "gpu.deviceclass.resource.k8s.io/devices"


def of(model: Any, **content: Any) -> Any:
    return msgspec.convert(content, model)


def resource_slice(node: str, *devices: dict[str, Any], generation: int = 1, name: str = "") -> kube.ResourceSlice:
    found: kube.ResourceSlice = of(
        kube.ResourceSlice,
        metadata={"name": name or node},
        spec={"driver": DRIVER, "nodeName": node, "pool": {"name": node, "generation": generation}, "devices": devices},
    )
    return found


def of_pool(name: str, pool: str, **spec: Any) -> kube.ResourceSlice:
    """One of three slices of a pool."""
    about = {"name": pool, "generation": 1, "resourceSliceCount": 3}
    found: kube.ResourceSlice = of(
        kube.ResourceSlice, metadata={"name": name}, spec={"driver": DRIVER, "pool": about, **spec}
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
    made = devices(small=MODEL_T4)

    assert {node: it.devices for node, it in made.offered().items()} == {"n1": (("gpu", 2), ("small", 1))}


@pytest.mark.parametrize(
    "unfit",
    [
        {"bindingConditions": ["ready"]},
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
    here = NodeSelectorTerm(fields=(Requirement("metadata.name", "In", ("n1",)),))
    assert me.scheduling.devices == (DeviceClaim(nodes=(here,)),)
    assert me.scheduling.required_nodes is None, "where its affinity lets it stand is another thing"


def test_every_pod_of_a_claim_counts_for_it_until_it_has_its_devices() -> None:
    made = devices(claim(count=2))

    specs = [pod_spec(pod("c", uid=uid), devices=made).scheduling for uid in ("first", "me")]

    assert [spec.requests for spec in specs] == [((RESOURCE, 2),), ((RESOURCE, 2),)]
    assert [spec.devices[0].key for spec in specs] == [("t", "c"), ("t", "c")]


def test_a_claim_held_for_one_pod_only_does_not_pin_it_and_counts_for_what_it_holds() -> None:
    alone = pod_spec(pod("c"), devices=devices(claim(consumers=("me",), node="n1", allocationMode="All")))

    assert alone.scheduling.devices[0].nodes is None
    assert alone.scheduling.requests == ((RESOURCE, 1),)
    assert alone.scheduling.devices[0].key == ("t", "c")


def test_claims_made_of_a_template_are_one_thing_for_all_pods_of_a_job() -> None:
    specs = []
    for number in range(2):
        mine = msgspec.structs.replace(
            claim(f"made-{number}"),
            metadata=of(ObjectMeta, name=f"made-{number}", namespace="t", ownerReferences=[
                {"kind": "Pod", "name": f"p{number}", "uid": f"uid-{number}", "controller": True}]),
        )  # fmt: skip
        one = msgspec.structs.replace(
            pod(uid=f"uid-{number}", resourceClaimTemplateName="one"),
            status=of(
                kube_pods.PodStatus, resourceClaimStatuses=[{"name": "x", "resourceClaimName": f"made-{number}"}]
            ),
        )
        specs.append(pod_spec(one, devices=devices(mine)).scheduling)
        another = msgspec.structs.replace(one, metadata=of(ObjectMeta, uid="other", namespace="t"))
        assert "was not made for this pod" in pod_spec(another, devices=devices(mine)).invalid

    assert specs[0] == specs[1]
    assert specs[0].devices[0].key is None


def test_a_pod_that_needs_no_claim_after_all_waits_for_none() -> None:
    spared = msgspec.structs.replace(
        pod(resourceClaimTemplateName="one"), status=of(kube_pods.PodStatus, resourceClaimStatuses=[{"name": "x"}])
    )

    spec = pod_spec(spared, devices=devices())

    assert (spec.invalid, spec.scheduling.devices, spec.scheduling.requests) == ("", (), ())


def test_a_claim_counts_for_the_most_that_it_may_get() -> None:
    made = devices(small=MODEL_T4)
    subs = [{"name": "many", "deviceClassName": "gpu", "count": 3}, {"name": "one", "deviceClassName": "small"}]
    made.claims["t", "c"] = of(
        kube.ResourceClaim,
        metadata={"name": "c", "namespace": "t"},
        spec={"devices": {"requests": [
            {"name": "either", "firstAvailable": subs},
            {"name": "all", "exactly": {"deviceClassName": "gpu", "allocationMode": "All"}},
            {"name": "look", "exactly": {"deviceClassName": "gpu", "adminAccess": True}},
        ]}},
    )  # fmt: skip

    spec = pod_spec(pod("c"), devices=made).scheduling

    assert dict(spec.requests) == {RESOURCE: 3 + 2, RESOURCE.replace("gpu", "small", 1): 1}


def test_selectors_constraints_and_tolerations_are_taken_over() -> None:
    made = devices(claim(selectors=[{"cel": {"expression": "true"}}], tolerations=[{"operator": "Exists"}]))
    asked = made.claims["t", "c"]
    rule = [{"matchAttribute": f"{DRIVER}/numa", "requests": ["r"]}]
    spec = msgspec.structs.replace(
        asked.spec.devices, constraints=msgspec.convert(rule, tuple[kube.DeviceConstraint, ...])
    )
    made.claims["t", "c"] = msgspec.structs.replace(asked, spec=kube.ResourceClaimSpec(spec))

    [found] = pod_spec(pod("c"), devices=made).scheduling.devices

    [[wish]] = found.requests
    assert wish.filter == Selectors((f"device.driver == '{DRIVER}'", "true"))
    assert [each.operator for each in wish.tolerations] == ["Exists"]
    assert found.constraints == (Alike((DRIVER, "numa"), frozenset({"r"})),)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"capacity": {}}, "ResourceClaim c, request r: capacity is not supported"),
        ({"allocationMode": "Some"}, "ResourceClaim c, request r: allocationMode Some: write ExactCount or All"),
        ({"deviceClassName": "none"}, "DeviceClass 'none' does not exist: create it"),
        ({"deviceClassName": "odd"}, "DeviceClass odd: its selector: 'all'"),
        ({"selectors": [{"cel": {"expression": "device.name"}}]}, "request r: its selector: 'name' is not understood"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_supported_is_named(given: dict[str, Any], said: str) -> None:
    made = devices(claim(**given), odd="[1, 2].all(x, x > 0)")

    assert said in pod_spec(pod("c"), devices=made).invalid


def test_a_claim_that_is_being_deleted_starts_nobody() -> None:
    leaving = msgspec.structs.replace(
        claim(), metadata=of(ObjectMeta, name="c", deletionTimestamp="2026-01-01T00:00:00Z")
    )

    assert "ResourceClaim c is being deleted" in pod_spec(pod("c"), devices=devices(leaving)).invalid


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"resourceClaimName": "lost"}, "ResourceClaim lost does not exist: create it"),
        ({"resourceClaimTemplateName": "t"}, "the ResourceClaim for x has not been made yet"),
    ],
)
def test_claims_that_are_missing_are_named(entry: dict[str, str], said: str) -> None:
    assert said in pod_spec(pod(**entry), devices=devices()).invalid


def given(made: Devices, name: str, **chosen: Any) -> list[str] | None:
    """The devices of node n1 for a claim beside those that other claims hold."""
    claims = claims_of_devices(pod(name))
    taken = set(given_out(made.claims.values()))
    found = devices_for(made, claims, "n1", taken, chosen)
    return None if found is None else [grant.device[2] for grants in found.values() for grant in grants]


def test_devices_that_fewer_classes_select_are_given_out_first() -> None:
    assert given(devices(claim()), "c") == ["d0"]
    assert given(devices(claim(), a100=MODEL_T4.replace("t4", "a100")), "c") == ["d1"]


def test_no_device_is_given_out_twice() -> None:
    made = devices(claim("held", node="n1"), claim("c"), claim("both", count=2))

    assert given(made, "c") == ["d1"]
    assert given(made, "both") is None


def test_what_was_chosen_is_given_unless_somebody_has_it() -> None:
    made = devices(claim("c"))
    chosen = {"c": (Grant("r", (DRIVER, "n1", "d1")),)}

    assert given(made, "c", **chosen) == ["d1"]
    made.claims["t", "held"] = claim("held", node="n1")
    assert given(made, "c", c=(Grant("r", (DRIVER, "n1", "d0")),)) == ["d1"]


def test_an_allocation_says_what_drivers_need_to_know() -> None:
    made = devices()
    made.classes["gpu"] = msgspec.structs.replace(
        made.classes["gpu"],
        spec=msgspec.structs.replace(made.classes["gpu"].spec, config=({"opaque": {"driver": "a"}},)),
    )
    subs = [{"name": "best", "deviceClassName": "gpu", "tolerations": [{"key": "flaky", "operator": "Exists"}]}]
    asked: kube.ResourceClaim = of(
        kube.ResourceClaim,
        metadata={"name": "c", "namespace": "t"},
        spec={"devices": {
            "requests": [
                {"name": "r", "firstAvailable": subs}, {"name": "look", "exactly": {"deviceClassName": "gpu"}},
            ],
            "config": [
                {"requests": ["r"], "opaque": {"driver": "b"}},
                {"requests": ["r/other"], "opaque": {"driver": "c"}},
                {"opaque": {"driver": "d"}},
            ],
        }},
    )  # fmt: skip
    grants = (Grant("r/best", (DRIVER, "n1", "d0")), Grant("look", (DRIVER, "n1", "d1"), monitors=True))

    written = allocation(made.classes, asked, grants, "n1")

    d0, d1 = ({"driver": DRIVER, "pool": "n1", "device": name} for name in ("d0", "d1"))
    assert written["devices"]["results"] == [
        {"request": "r/best", **d0, "tolerations": [{"key": "flaky", "operator": "Exists"}]},
        {"request": "look", **d1, "adminAccess": True},
    ]
    assert written["devices"]["config"] == [
        {"source": "FromClass", "requests": ["r/best", "look"], "opaque": {"driver": "a"}},
        {"source": "FromClaim", "requests": ["r"], "opaque": {"driver": "b"}},
        {"source": "FromClaim", "opaque": {"driver": "d"}},
    ]
    assert written["nodeSelector"]["nodeSelectorTerms"][0]["matchFields"][0]["values"] == ["n1"]


def test_parts_of_a_device_on_other_nodes_use_up_the_same_counters() -> None:
    half: dict[str, Any] = {"consumesCounters": [{"counterSet": "set", "counters": {"memory": {"value": "60Gi"}}}]}
    made = devices()
    made.slices = {
        "counters": of_pool(
            "counters", "p", sharedCounters=[{"name": "set", "counters": {"memory": {"value": "80Gi"}}}]
        ),
        "n1": of_pool("n1", "p", nodeName="n1", devices=[device("on-n1", **half)]),
        "n2": of_pool("n2", "p", nodeName="n2", devices=[device("on-n2", **half), device("whole")]),
    }
    made.claims = {("t", "c"): claim()}
    made.reread()
    wanted = {("t", "c"): "gpu"}

    there, elsewhere = (DRIVER, "p", "on-n2"), (DRIVER, "p", "whole")
    assert [part for part, _ in made.inventories()["n1"].others] == [there]
    assert devices_for(made, wanted, "n1", [elsewhere], {}) is not None
    assert devices_for(made, wanted, "n1", [there], {}) is None
