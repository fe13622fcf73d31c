"""Devices by ResourceClaims on a real API server: given out on the node that was decided, each once, then bound."""

from typing import Any

import pytest

from builders.ground import Ground
from builders.program_process import SchedulerProcess, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("scheduler")]
API = "/apis/resource.k8s.io/v1"


@pytest.fixture
def devices(ground: Ground) -> Ground:
    """One node with two devices, one without, and a class that selects them."""
    driver = f"{ground.name}.example.com"
    cel = {"cel": {"expression": f'device.driver == "{driver}"'}}
    ground.create(f"{API}/deviceclasses", {"metadata": {"name": ground.name}, "spec": {"selectors": [cel]}})
    ground.node(0)
    rich = ground.node(1)
    spec = {
        "driver": driver,
        "nodeName": rich,
        "pool": {"name": rich, "generation": 1, "resourceSliceCount": 1},
        "devices": [{"name": "d0"}, {"name": "d1"}],
    }
    ground.create(f"{API}/resourceslices", {"metadata": {"name": rich}, "spec": spec})
    return ground


def claim_spec(ground: Ground, count: int = 1) -> dict[str, Any]:
    return {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": ground.name, "count": count}}]}}


def claims_of(ground: Ground, namespace: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = ground.admin.request("GET", f"{API}/namespaces/{namespace}/resourceclaims").body[
        "items"
    ]
    return items


def given(claim: dict[str, Any]) -> list[str]:
    allocated = (claim.get("status") or {}).get("allocation") or {"devices": {"results": []}}
    return [each["device"] for each in allocated["devices"]["results"]]


def test_devices_are_given_out_before_pods_are_bound(devices: Ground, scheduler: SchedulerProcess) -> None:
    team = devices.tenant("team")
    template = {"metadata": {"name": "one"}, "spec": {"spec": claim_spec(devices)}}
    devices.create(f"{API}/namespaces/{team}/resourceclaimtemplates", template, remember=False)
    entry = [{"name": "device", "resourceClaimTemplateName": "one"}]
    for number in range(3):
        devices.pod(team, f"p{number}", resourceClaims=entry)

    bound = eventually(lambda: len(found := devices.nodes_of(team)) == 2 and found, because=scheduler.tail)

    assert set(bound.values()) == {f"{devices.name}-1"}
    pods = devices.pods(team)
    held = {}
    for claim in claims_of(devices, team):
        for consumer in (claim.get("status") or {}).get("reservedFor", ()):
            held[consumer["name"]] = given(claim)
            assert consumer["uid"] == pods[consumer["name"]]["metadata"]["uid"]
            assert "resource.kubernetes.io/delete-protection" in claim["metadata"]["finalizers"]
    assert set(held) == set(bound)
    assert sorted(device for each in held.values() for device in each) == ["d0", "d1"]
    [waits] = set(pods) - set(bound)
    eventually(lambda: "devices asked for, 0 free" in devices.condition(team, waits).get("message", ""))


def test_a_claim_whose_devices_help_no_more_is_given_others(ground: Ground, scheduler: SchedulerProcess) -> None:
    driver = f"{ground.name}.example.com"
    cel = {"cel": {"expression": f'device.driver == "{driver}"'}}
    ground.create(f"{API}/deviceclasses", {"metadata": {"name": ground.name}, "spec": {"selectors": [cel]}})
    closed, open_ = ground.nodes(2)
    for name in (closed, open_):
        pool = {"name": name, "generation": 1, "resourceSliceCount": 1}
        spec = {"driver": driver, "nodeName": name, "pool": pool, "devices": [{"name": "d0"}]}
        ground.create(f"{API}/resourceslices", {"metadata": {"name": name}, "spec": spec})
    team = ground.tenant("team")
    claims = f"{API}/namespaces/{team}/resourceclaims"
    ground.create(claims, {"metadata": {"name": "mine"}, "spec": claim_spec(ground)}, remember=False)
    entry = [{"name": "device", "resourceClaimName": "mine"}]
    ground.pod(team, "p", resourceClaims=entry, schedulingGates=[{"name": "example.com/later"}])
    ground.change(f"/api/v1/nodes/{closed}", {"spec": {"unschedulable": True}})
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [closed]}]}
    allocation = {
        "devices": {"results": [{"request": "r", "driver": driver, "pool": closed, "device": "d0"}]},
        "nodeSelector": {"nodeSelectorTerms": [term]},
    }
    pod = {"resource": "pods", "name": "p", "uid": ground.pods(team)["p"]["metadata"]["uid"]}
    status = {"allocation": allocation, "reservedFor": [pod]}
    answer = ground.change(f"{claims}/mine/status", {"status": status})
    assert answer.accepted, answer.message

    ground.change(f"/api/v1/namespaces/{team}/pods/p", {"spec": {"schedulingGates": None}})
    assert eventually(lambda: ground.nodes_of(team).get("p"), because=scheduler.tail) == open_

    [claim] = claims_of(ground, team)
    assert [each["pool"] for each in claim["status"]["allocation"]["devices"]["results"]] == [open_]
    assert [each["uid"] for each in claim["status"]["reservedFor"]] == [pod["uid"]]


def test_pods_share_a_claim_and_alternatives_are_taken_in_order(devices: Ground, scheduler: SchedulerProcess) -> None:
    team = devices.tenant("team")
    driver, node = f"{devices.name}.example.com", f"{devices.name}-2"
    devices.node(2)
    spec = {
        "driver": driver,
        "nodeName": node,
        "pool": {"name": node, "generation": 1, "resourceSliceCount": 1},
        "devices": [
            {"name": f"e{number}", "attributes": {"model": {"string": model}, "side": {"int": number % 2}}}
            for number, model in enumerate(("a", "a", "b", "b"))
        ],
    }
    devices.create(f"{API}/resourceslices", {"metadata": {"name": node}, "spec": spec})
    about = f'"model" in device.attributes["{driver}"] && device.attributes["{driver}"].model =='
    ways = [
        {"name": name, "deviceClassName": devices.name, "selectors": [{"cel": {"expression": f'{about} "{model}"'}}],
         "count": 2, "tolerations": [{"key": "worn", "operator": "Exists"}]}
        for name, model in (("best", "c"), ("next", "b"))
    ]  # fmt: skip
    opaque = {"opaque": {"driver": driver, "parameters": {}}}
    wanted = {"devices": {"requests": [{"name": "r", "firstAvailable": ways}], "config": [opaque]}}
    claims = f"{API}/namespaces/{team}/resourceclaims"
    devices.create(claims, {"metadata": {"name": "shared"}, "spec": wanted}, remember=False)
    entry = [{"name": "device", "resourceClaimName": "shared"}]
    for number in range(2):
        devices.pod(team, f"p{number}", resourceClaims=entry)

    bound = eventually(lambda: len(found := devices.nodes_of(team)) == 2 and found, because=scheduler.tail)

    assert set(bound.values()) == {node}
    [claim] = claims_of(devices, team)
    assert given(claim) == ["e2", "e3"]
    allocated = claim["status"]["allocation"]["devices"]
    assert {each["request"] for each in allocated["results"]} == {"r/next"}
    assert all(each["tolerations"][0]["key"] == "worn" for each in allocated["results"])
    assert [(each["source"], each["opaque"]["parameters"]) for each in allocated["config"]] == [("FromClaim", {})]
    uids = {pod["metadata"]["uid"] for pod in devices.pods(team).values()}
    assert {each["uid"] for each in claim["status"]["reservedFor"]} == uids

    every = {
        "devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": devices.name, "allocationMode": "All"}}]}
    }
    devices.create(claims, {"metadata": {"name": "all"}, "spec": every}, remember=False)
    devices.pod(team, "all", resourceClaims=[{"name": "device", "resourceClaimName": "all"}])
    bound = eventually(lambda: devices.nodes_of(team).get("all"), because=scheduler.tail)
    assert bound == f"{devices.name}-1", "the node of which no device is taken"


def test_a_pod_that_waits_gives_its_devices_back(devices: Ground, scheduler: SchedulerProcess) -> None:
    team, node = devices.tenant("team"), f"{devices.name}-1"
    claims = f"{API}/namespaces/{team}/resourceclaims"
    for name, count in (("held", 2), ("wanted", 1)):
        devices.create(claims, {"metadata": {"name": name}, "spec": claim_spec(devices, count)}, remember=False)
    entry = [{"name": "device", "resourceClaimName": "held"}]
    devices.pod(team, "waits", resourceClaims=entry, schedulingGates=[{"name": "example.com/not-yet"}])
    about = {"driver": f"{devices.name}.example.com", "pool": node}
    results = [{"request": "r", **about, "device": device} for device in ("d0", "d1")]
    consumer = {"resource": "pods", "name": "waits", "uid": devices.pods(team)["waits"]["metadata"]["uid"]}
    status = {"allocation": {"devices": {"results": results}}, "reservedFor": [consumer]}
    merge = "application/merge-patch+json"
    devices.admin.request("PATCH", f"{claims}/held/status", {"status": status}, content_type=merge)
    assert given(claims_of(devices, team)[0]) == ["d0", "d1"]

    devices.pod(team, "starts", resourceClaims=[{"name": "device", "resourceClaimName": "wanted"}])

    assert eventually(lambda: devices.nodes_of(team).get("starts"), because=scheduler.tail) == node
    [held] = [claim for claim in claims_of(devices, team) if claim["metadata"]["name"] == "held"]
    assert not given(held)
    assert not held["status"].get("reservedFor")
