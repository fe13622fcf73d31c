"""Random storage: classes, volumes, claims in every state of being bound, and what nodes can attach.

No controller runs, so what a case writes is what is: a claim is bound if its manifest says so, with the annotation that
the volume controller would have left.
"""

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from parity.cases import Chance

Object = dict[str, Any]
ZONE: Final = "topology.kubernetes.io/zone"
OLD_ZONE: Final = "failure-domain.beta.kubernetes.io/zone"
DRIVER: Final = "disk.csi.example.com"
BOUND: Final = {"pv.kubernetes.io/bind-completed": "yes"}
_SPACES: Final = ("red", "blue", "grey")


@dataclass(slots=True)
class Storage:
    """What pods may mount: names of claims, by namespace."""

    objects: list[Object] = field(default_factory=list)
    claims: dict[str, list[str]] = field(default_factory=dict)

    def volumes(self, rng: random.Random, namespace: str) -> list[Object]:
        """Up to three volumes of a pod in a namespace."""
        known = self.claims.get(namespace, [])
        names = rng.sample(known, min(len(known), rng.choice((1, 1, 2, 3))))
        if rng.random() < 0.03:
            names.append("no-such-claim")
        found: list[Object] = [
            {"name": f"v{number}", "persistentVolumeClaim": {"claimName": name}} for number, name in enumerate(names)
        ]
        if rng.random() < 0.03:
            template = {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}
            found.append({"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}})
        if rng.random() < 0.1:
            found.append({"name": "inline", "csi": {"driver": DRIVER}})
        return found


def random_storage(chance: "Chance") -> list[Object]:
    """Classes, volumes, claims and nodes' attachment limits; fills `chance.storage`."""
    if not chance.of("volumes", 1.0):
        return []
    rng, storage = chance.rng, chance.storage
    storage.objects += _classes(chance)
    storage.objects += [_free_volume(chance, number) for number in range(rng.randint(0, 6))]
    for name in chance.names:
        if chance.odds(0.8):
            storage.objects.append(_csi_node(rng, name))
    for space in _SPACES:
        for number in range(rng.randint(2, 8)):
            storage.claims.setdefault(space, []).append(f"claim-{number}")
            storage.objects += _claim(chance, space, f"claim-{number}")
    return storage.objects


def _classes(chance: "Chance") -> list[Object]:
    late: Object = {"volumeBindingMode": "WaitForFirstConsumer", "provisioner": DRIVER}
    inside: Object = {**late}
    if chance.odds(0.8):
        zones = [{"key": ZONE, "values": chance.rng.sample(("za", "zb", "zc"), chance.rng.randint(1, 2))}]
        inside["allowedTopologies"] = [{"matchLabelExpressions": zones}]
        if chance.odds(0.3):
            inside["allowedTopologies"].append({"matchLabelExpressions": [{"key": "rack", "values": ["r1"]}]})
    static = {"volumeBindingMode": "WaitForFirstConsumer", "provisioner": "kubernetes.io/no-provisioner"}
    now = {"volumeBindingMode": "Immediate", "provisioner": DRIVER}
    return [
        {"kind": "StorageClass", "metadata": {"name": name}, **content}
        for name, content in (("late", late), ("inside", inside), ("static", static), ("now", now))
    ]


def _csi_node(rng: random.Random, name: str) -> Object:
    driver: Object = {"name": DRIVER, "nodeID": name, "topologyKeys": []}
    if rng.random() < 0.8:
        driver["allocatable"] = {"count": rng.choice((0, 1, 2, 3, 5))}
    other = {"name": "other.csi.example.com", "nodeID": name, "topologyKeys": [], "allocatable": {"count": 1}}
    return {"kind": "CSINode", "metadata": {"name": name}, "spec": {"drivers": [driver, other]}}


def _volume(chance: "Chance", name: str, storage_class: str, *, size: str) -> Object:
    """A volume that some nodes can reach."""
    rng = chance.rng
    spec: Object = {
        "capacity": {"storage": size},
        "accessModes": ["ReadWriteOnce", "ReadWriteMany"] if chance.odds(0.6) else ["ReadWriteOnce"],
        "storageClassName": storage_class,
        "persistentVolumeReclaimPolicy": "Retain",
    }
    if chance.odds(0.8):
        spec["csi"] = {"driver": DRIVER if chance.odds(0.9) else "other.csi.example.com", "volumeHandle": name}
    else:
        spec["nfs"] = {"server": "10.0.0.9", "path": "/export"}
    if chance.odds(0.15):
        spec["volumeMode"] = "Block"
    if "csi" in spec and chance.odds(0.15):
        spec["volumeAttributesClassName"] = "fast"
    if chance.odds(0.5):
        key, values = rng.choice(((ZONE, ("za", "zb", "zc")), ("kubernetes.io/hostname", tuple(chance.names))))
        expression = {"key": key, "operator": rng.choice(("In", "In", "NotIn")), "values": rng.sample(values, 2)}
        spec["nodeAffinity"] = {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}
    labels = {"tier": rng.choice(("gold", "tin"))}
    if chance.odds(0.35):
        key = rng.choice((ZONE, ZONE, OLD_ZONE, "topology.kubernetes.io/region"))
        labels[key] = rng.choice(("za", "zb", "za__zb", "ra"))
    return {"kind": "PersistentVolume", "metadata": {"name": name, "labels": labels}, "spec": spec}


def _free_volume(chance: "Chance", number: int) -> Object:
    """A volume that waits for a claim, or for a certain one, or is not to be had at all."""
    rng = chance.rng
    volume = _volume(chance, f"free-{number}", rng.choice(("static", "static", "late", "")), size=_size(rng))
    phase = "Available"
    if chance.odds(0.2):
        claim = {"namespace": rng.choice(_SPACES), "name": f"claim-{rng.randrange(4)}"}
        volume["spec"]["claimRef"] = {"kind": "PersistentVolumeClaim", "apiVersion": "v1", **claim}
    elif chance.odds(0.15):
        phase = rng.choice(("Released", "Failed", "Pending"))
    volume["status"] = {"phase": phase}
    return volume


def _size(rng: random.Random) -> str:
    return rng.choice(("1Gi", "2Gi", "5Gi"))


def _claim(chance: "Chance", space: str, name: str) -> list[Object]:
    rng = chance.rng
    modes = rng.choice((["ReadWriteOnce"], ["ReadWriteOnce"], ["ReadWriteMany"], ["ReadWriteOncePod"]))
    spec: Object = {"accessModes": modes, "resources": {"requests": {"storage": _size(rng)}}}
    claim: Object = {"kind": "PersistentVolumeClaim", "metadata": {"namespace": space, "name": name}, "spec": spec}
    if chance.odds(0.08):
        claim["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        claim["metadata"]["finalizers"] = ["example.com/keep"]
    if chance.odds(0.15):
        spec["volumeMode"] = "Block"
    if chance.odds(0.15):
        spec["volumeAttributesClassName"] = "fast"
    state = rng.choice(("bound",) * 6 + ("late",) * 4 + ("inside",) * 2 + ("static",) * 3 + ("now", "none", "odd"))
    if state == "bound":
        return _bound_claim(chance, claim)
    if state == "odd":
        _make_odd(rng, claim)
        return [claim]
    spec["storageClassName"] = {"none": "", "now": "now"}.get(state, state)
    if state == "static" and chance.odds(0.4):
        spec["selector"] = {"matchLabels": {"tier": rng.choice(("gold", "tin"))}}
    if state == "late" and chance.odds(0.2):
        chosen = rng.choice([*chance.names, "gone"])
        claim["metadata"]["annotations"] = {"volume.kubernetes.io/selected-node": chosen}
    return [claim]


def _bound_claim(chance: "Chance", claim: Object) -> list[Object]:
    """A claim with its volume."""
    metadata, spec = claim["metadata"], claim["spec"]
    name = f"{metadata['namespace']}-{metadata['name']}"
    spec["storageClassName"] = "late"
    spec["volumeName"] = name
    metadata["annotations"] = dict(BOUND)
    claim["status"] = {"phase": "Bound"}
    if chance.odds(0.04):
        return [claim]  # its volume is gone
    volume = _volume(chance, name, "late", size=spec["resources"]["requests"]["storage"])
    reference = {"namespace": metadata["namespace"], "name": metadata["name"]}
    volume["spec"]["claimRef"] = {"kind": "PersistentVolumeClaim", "apiVersion": "v1", **reference}
    volume["status"] = {"phase": "Bound"}
    return [volume, claim]


def _make_odd(rng: random.Random, claim: Object) -> None:
    """A state in which nothing can start."""
    spec, metadata = claim["spec"], claim["metadata"]
    kind = rng.randrange(3)
    spec["storageClassName"] = "no-such-class" if kind == 0 else "late"
    if kind == 1:
        spec["volumeName"] = "asked-for"  # and not bound yet
    if kind == 2:
        spec["volumeName"] = "lost"
        metadata["annotations"] = dict(BOUND)
        claim["status"] = {"phase": "Lost"}
