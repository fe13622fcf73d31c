"""Random devices: slices of nodes, classes, and claims that hold devices or ask for some.

Every device of a driver has the attributes that selectors ask for without looking: an expression that fails on one
device makes kube-scheduler start the pod nowhere, which is a difference of its own. For the same reason no case has
both pools that are not known in full and requests for all devices.
"""

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from parity.cases import Chance

Object = dict[str, Any]
GPU: Final = "gpu.example.com"
NIC: Final = "nic.example.com"
COMMON: Final = "common.example.com"
ADMINS: Final = "grey"
"""The namespace whose claims may have administrative access."""
_SPACES: Final = ("red", "blue", "grey")
_OF_GPU: Final = f'device.attributes["{GPU}"]'
_OF_ALL: Final = f'device.attributes["{COMMON}"]'
_MEMORY: Final = f'device.capacity["{GPU}"].memory'
CLASSES: Final = {
    "gpu": (f'device.driver == "{GPU}"',),
    "big": (f'device.driver == "{GPU}"', f'{_MEMORY}.compareTo(quantity("40Gi")) >= 0'),
    "nic": (f'device.driver == "{NIC}"',),
    "any": (),
}
_ABOUT_GPUS: Final = (
    f'{_OF_GPU}.model == "a100"',
    f'{_OF_GPU}.model in ["a100", "h100"]',
    f'{_OF_GPU}.model.lowerAscii().contains("100")',
    f"{_OF_GPU}.model == 5",
    f'{_OF_GPU}.numa != "0" && {_OF_GPU}.numa == 0',
    f"{_OF_GPU}.numa >= 1",
    f"{_OF_GPU}.healthy",
    f"!{_OF_GPU}.healthy || {_OF_GPU}.numa < 1",
    f'{_MEMORY}.isGreaterThan(quantity("24Gi"))',
    f'{_MEMORY} == quantity("81920Mi")',
    f'{_OF_GPU}.version.isGreaterThan(semver("1.9.0"))',
    f'{_OF_GPU}.version.compareTo(semver("1.10.0-rc.1")) <= 0',
    f'cel.bind(gpu, {_OF_GPU}, gpu.model.startsWith("a") || gpu.numa == 1)',
)
_ABOUT_ANY: Final = (
    f'"pcie" in {_OF_ALL} && {_OF_ALL}.pcie == "p0"',
    f'has({_OF_ALL}.pcie) ? {_OF_ALL}.pcie != "p0" : true',
    f'!("{COMMON}" in device.attributes)',
    'device.driver.startsWith("nic")',
    f'device.driver == "{GPU}" && {_OF_GPU}.numa == 1',
    f'{_OF_ALL}.pcie == "p0" || true',
)


@dataclass(slots=True)
class Claims:
    """What pods may use: names of claims, by namespace."""

    names: dict[str, list[str]] = field(default_factory=dict)
    broken: bool = False
    """Some pools are not known in full."""

    def of_pod(self, rng: random.Random, namespace: str) -> list[Object]:
        """One to three claims of a pod in a namespace."""
        known = self.names.get(namespace, [])
        names = rng.sample(known, min(len(known), rng.choice((1, 1, 1, 1, 2))))
        return [{"name": f"c{number}", "resourceClaimName": name} for number, name in enumerate(names)]


def random_devices(chance: "Chance") -> list[Object]:
    """Slices, classes and claims; fills `chance.claims`."""
    if not chance.of("devices", 1.0):
        return []
    rng, claims = chance.rng, chance.claims
    claims.broken = chance.odds(0.4)
    slices = [each for name in chance.names for each in _of_node(chance, name)]
    found: list[Object] = [*slices]
    for name, expressions in CLASSES.items():
        spec = {"selectors": [{"cel": {"expression": each}} for each in expressions]}
        found.append({"kind": "DeviceClass", "metadata": {"name": name}, "spec": spec})
    free = [
        (it["spec"]["driver"], it["spec"]["pool"]["name"], device["name"], it["spec"]["nodeName"])
        for it in slices
        for device in it["spec"].get("devices", ())
    ]
    free = sorted(set(free))
    rng.shuffle(free)
    for space in _SPACES:
        for number in range(rng.randint(4, 12)):
            name = f"claim-{number}"
            claims.names.setdefault(space, []).append(name)
            held = chance.odds(0.25) and bool(free)
            metadata = {"namespace": space, "name": name}
            found.append(
                {
                    "kind": "ResourceClaim",
                    "metadata": metadata,
                    **(_held(rng, free) if held else _wanted(chance, space)),
                }
            )
    return found


# --- slices ----------------------------------------------------------------------------------------------------------


def _of_node(chance: "Chance", node: str) -> list[Object]:
    rng, out = chance.rng, []
    if chance.odds(0.85):
        kind = rng.choice(("plain", "plain", "plain", "parts"))
        out += _parts(rng, node) if kind == "parts" else _plain(chance, node)
    if chance.odds(0.5):
        devices = [{"name": f"nic{number}", **_common(rng)} for number in range(rng.randint(1, 3))]
        out.append(_slice(f"{node}-nic", NIC, node, f"{node}-nic", devices))
    return out


def _slice(
    name: str, driver: str, node: str, pool: str, devices: list[Object], *, count: int = 1, generation: int = 1
) -> Object:
    spec: Object = {"driver": driver, "nodeName": node, "devices": devices}
    spec["pool"] = {"name": pool, "generation": generation, "resourceSliceCount": count}
    return {"kind": "ResourceSlice", "metadata": {"name": name}, "spec": spec}


def _plain(chance: "Chance", node: str) -> list[Object]:
    """A pool of whole devices, in one or two slices, perhaps with a slice that is out of date or missing."""
    rng = chance.rng
    devices = [_gpu(rng, f"d{number}") for number in range(rng.randint(1, 6))]
    if chance.odds(0.3):
        found = [
            _slice(f"{node}-b", GPU, node, node, devices[:1], count=2, generation=2),
            _slice(f"{node}-a", GPU, node, node, devices[1:], count=2, generation=2),
        ]
    else:
        found = [_slice(f"{node}-a", GPU, node, node, devices, generation=2)]
    if chance.odds(0.15):
        found.append(_slice(f"{node}-old", GPU, node, node, [_gpu(rng, "d9")]))
    if chance.claims.broken and chance.odds(0.4):
        if chance.odds(0.5):
            for each in found:
                each["spec"]["pool"]["resourceSliceCount"] = 3
        else:
            twice = [_gpu(rng, "d0")]
            count = sum(each["spec"]["pool"]["generation"] == 2 for each in found) + 1
            found.append(_slice(f"{node}-c", GPU, node, node, twice, count=count, generation=2))
            for each in found:
                each["spec"]["pool"]["resourceSliceCount"] = count
    return found


def _parts(rng: random.Random, node: str) -> list[Object]:
    """A pool of devices that can be had whole or in parts, which share counters."""
    sets, devices = [], []
    for card in range(rng.randint(1, 2)):
        counters = {"memory": {"value": "80Gi"}, "slices": {"value": "7"}}
        sets.append({"name": f"card{card}", "counters": counters})
        for part, (memory, slices) in enumerate((("80Gi", "7"), ("40Gi", "3"), ("40Gi", "4"), ("10Gi", "1"))):
            uses = {"memory": {"value": memory}, "slices": {"value": slices}}
            device = _gpu(rng, f"d{card}-{part}", memory)
            devices.append({**device, "consumesCounters": [{"counterSet": f"card{card}", "counters": uses}]})
    described = _slice(f"{node}-sets", GPU, node, node, [], count=2)
    del described["spec"]["devices"]
    described["spec"]["sharedCounters"] = sets
    return [described, _slice(f"{node}-a", GPU, node, node, devices, count=2)]


def _gpu(rng: random.Random, name: str, memory: str = "") -> Object:
    common = _common(rng)
    attributes: Object = {
        "model": {"string": rng.choice(("a100", "A100", "h100", "t4"))},
        "numa": {"int": rng.choice((0, 1))},
        f"{GPU}/healthy": {"bool": rng.random() < 0.7},
        "version": {"version": rng.choice(("1.9.0", "1.10.0", "1.10.0-rc.1", "2.0.0"))},
    }
    capacity = {"memory": {"value": memory or rng.choice(("16Gi", "40Gi", "80Gi"))}}
    found: Object = {"name": name, "attributes": {**attributes, **common["attributes"]}, "capacity": capacity}
    if rng.random() < 0.25:
        effect = rng.choice(("NoSchedule", "NoSchedule", "NoExecute", "None"))
        found["taints"] = [{"key": "flaky", "value": rng.choice(("x", "y")), "effect": effect}]
    return found


def _common(rng: random.Random) -> Object:
    return {"attributes": {f"{COMMON}/pcie": {"string": rng.choice(("p0", "p1"))}} if rng.random() < 0.7 else {}}


# --- claims ----------------------------------------------------------------------------------------------------------


def _held(rng: random.Random, free: list[tuple[str, str, str, str]]) -> Object:
    """A claim that has devices of one node, for a pod that is not there, or monitors one that others may have."""
    driver, pool, name, node = free.pop()
    devices = [(driver, pool, name)]
    for other in [*free]:
        if other[3] == node and rng.random() < 0.3:
            free.remove(other)
            devices.append(other[:3])
    exactly: Object = {"deviceClassName": "any", "allocationMode": "ExactCount", "count": len(devices)}
    results = [{"request": "r", "driver": it[0], "pool": it[1], "device": it[2]} for it in devices]
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    allocation = {"devices": {"results": results}, "nodeSelector": {"nodeSelectorTerms": [term]}}
    consumer = {"resource": "pods", "name": "somebody", "uid": f"uid-{driver}-{pool}-{name}"}
    return {
        "spec": {"devices": {"requests": [{"name": "r", "exactly": exactly}]}},
        "status": {"allocation": allocation, "reservedFor": [consumer]},
    }


def _wanted(chance: "Chance", space: str) -> Object:
    rng = chance.rng
    requests: list[Object] = []
    names: list[str] = []
    has_all = False
    for number in range(rng.choice((1, 1, 1, 1, 2, 3))):
        name = f"r{number}"
        names.append(name)
        if chance.odds(0.3):
            alternatives = [{"name": f"s{each}", **_exact(chance, monitors=False)} for each in range(rng.randint(1, 3))]
            has_all |= any(each["allocationMode"] == "All" for each in alternatives)
            names += [f"{name}/{each['name']}" for each in alternatives]
            requests.append({"name": name, "firstAvailable": alternatives})
        else:
            exactly = _exact(chance, monitors=space == ADMINS and chance.odds(0.3))
            has_all |= exactly["allocationMode"] == "All"
            requests.append({"name": name, "exactly": exactly})
    devices: Object = {"requests": requests}
    if not has_all and chance.odds(0.4):
        attribute = rng.choice((f"{COMMON}/pcie", f"{COMMON}/pcie", f"{GPU}/numa", f"{GPU}/model", f"{GPU}/version"))
        about = rng.sample(names, rng.randint(1, len(names))) if chance.odds(0.5) else []
        rule: Object = {"matchAttribute": attribute}
        devices["constraints"] = [{**rule, "requests": about} if about else rule]
    return {"spec": {"devices": devices}}


def _exact(chance: "Chance", *, monitors: bool) -> Object:
    rng = chance.rng
    of_class = rng.choice(("gpu", "gpu", "big", "nic", "any")) if chance.odds(0.99) else "no-such-class"
    found: Object = {"deviceClassName": of_class, "allocationMode": "ExactCount"}
    if not chance.claims.broken and chance.odds(0.2):
        found["allocationMode"] = "All"
    else:
        found["count"] = rng.choice((1, 1, 1, 1, 2, 3))
    if chance.odds(0.35):
        about = (*_ABOUT_ANY, *_ABOUT_GPUS) if of_class in ("gpu", "big") else _ABOUT_ANY
        found["selectors"] = [{"cel": {"expression": each}} for each in rng.sample(about, rng.choice((1, 1, 2)))]
    if chance.odds(0.3):
        found["tolerations"] = [
            rng.choice((
                {"key": "flaky", "operator": "Exists"},
                {"operator": "Exists"},
                {"key": "flaky", "operator": "Equal", "value": "x"},
                {"key": "flaky", "operator": "Exists", "effect": "NoSchedule"},
            ))
        ]  # fmt: skip
    if monitors:
        found["adminAccess"] = True
    return found
