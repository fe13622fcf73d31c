"""Random clusters with waiting pods, over every filter; the same seed gives the same case.

Each case has one or two themes: what they are about is likely in its pods, everything else is rare. So each filter is
met alone, where it decides, and beside others, where they may hide each other. Nodes are few and small, the words that
labels, taints and selectors are made of are fewer still: whatever is asked for exists somewhere, and not everywhere.
"""

import random
from dataclasses import dataclass, field
from typing import Any, Final

from parity.random_devices import Claims, random_devices
from parity.random_pods import bound_pod, waiting_pod
from parity.random_volumes import Storage, random_storage

Object = dict[str, Any]
ZONE: Final = "topology.kubernetes.io/zone"
REGION: Final = "topology.kubernetes.io/region"
HOST: Final = "kubernetes.io/hostname"
THEMES: Final = (
    "nodes", "resources", "ports", "affinity", "affinity", "spread", "spread", "volumes", "volumes", "devices",
    "devices",
)  # fmt: skip
"""What a case is about; the themes with the most to go wrong come twice as often."""

_SIZES: Final = ("1", "5", "9", "10", "007", "1_0", "99999999999999999999", "big")
"""Values of a label that is compared by Gt and Lt, also such as are no number to Kubernetes."""


@dataclass(slots=True)
class Chance:
    """How likely each kind of feature is in one case."""

    rng: random.Random
    themes: tuple[str, ...]
    names: list[str] = field(default_factory=list)
    """The nodes' names."""
    storage: Storage = field(default_factory=Storage)
    claims: Claims = field(default_factory=Claims)

    def of(self, theme: str, likely: float = 0.6) -> bool:
        """Whether a feature of a theme is taken."""
        return self.rng.random() < (likely if theme in self.themes else 0.06)

    def odds(self, share: float) -> bool:
        """True so often."""
        return self.rng.random() < share


def random_case(seed: str, *, waiting: int = 40, theme: str = "") -> list[Object]:
    """The manifests of one case; a theme that is given is one of its own."""
    rng = random.Random(seed)
    themes = rng.sample(THEMES, rng.choice((1, 1, 2)))
    chance = Chance(rng, (theme, *themes[1:]) if theme else tuple(themes))
    crowd = 4 if {"affinity", "spread"} & set(chance.themes) else 2
    nodes = [_node(chance, number) for number in range(rng.randint(5, 12))]
    chance.names = [node["metadata"]["name"] for node in nodes]
    attached = [*random_storage(chance), *random_devices(chance)]
    bound = [bound_pod(chance, number) for number in range(rng.randint(4, crowd * len(nodes)))]
    return [*nodes, *attached, *bound, *(waiting_pod(chance, number) for number in range(waiting))]


def _node(chance: Chance, number: int) -> Object:
    rng, name = chance.rng, f"n{number:02}"
    labels = {HOST: name}
    for key, values, share in (
        (ZONE, ("za", "zb", "zc"), 0.85), (REGION, ("ra", "rb"), 0.4), ("rack", ("r1", "r2", "r3"), 0.5),
        ("disk", ("ssd", "hdd"), 0.6), ("size", _SIZES, 0.7),
    ):  # fmt: skip
        if chance.odds(share):
            labels[key] = rng.choice(values)
    room = {
        "cpu": rng.choice(("1", "2", "4", "3500m")),
        "memory": rng.choice(("2Gi", "4Gi", "8G")),
        "pods": rng.choice(("3", "20", "20", "20")),
        "ephemeral-storage": rng.choice(("4Gi", "20Gi")),
    }
    if "devices" in chance.themes:
        room |= {"cpu": "32", "memory": "128Gi", "pods": "50"}  # what decides is to be the devices
    if chance.odds(0.4):
        room["example.com/gpu"] = rng.choice(("0", "1", "4"))
    if chance.odds(0.3):
        room["hugepages-2Mi"] = rng.choice(("0", "64Mi", "256Mi"))
    spec: Object = {}
    if chance.odds(0.2 if "nodes" in chance.themes else 0.03):
        spec["unschedulable"] = True
    if chance.of("nodes", 0.5):
        spec["taints"] = _taints(rng)
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "ready"}
    return {
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": spec,
        "status": {"capacity": room, "allocatable": room, "conditions": [ready]},
    }


def _taints(rng: random.Random) -> list[Object]:
    found = {}
    for _ in range(rng.randint(1, 2)):
        key = rng.choice(("dedicated", "flaky", "node.kubernetes.io/unschedulable"))
        effect = rng.choice(("NoSchedule", "NoSchedule", "NoExecute", "PreferNoSchedule"))
        taint = {"key": key, "effect": effect}
        if chance_value := rng.choice(("", "x", "y")):
            taint["value"] = chance_value
        found[key, effect] = taint
    return list(found.values())
