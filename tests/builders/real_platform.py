"""Allotment on a cluster with real nodes, installed as an administrator does it: the chart, then the bank's tenants."""

from pathlib import Path
from typing import Any

import yaml

from allotment_local.real_node.images import recipes
from builders.helm_chart import NAMESPACE, Release
from builders.real_cluster import RealCluster

BANK = Path(__file__).resolve().parents[2] / "examples" / "bank"
PROGRAMS = ("allotment-operator", "allotment-scheduler")

_PATIENCE = 300
"""Seconds for what takes some 20 on a machine with nothing else to do."""


def bank(file: str) -> list[dict[str, Any]]:
    """The objects of one of the bank's files."""
    return [each for each in yaml.safe_load_all((BANK / file).read_text()) if each]


def install(cluster: RealCluster) -> None:
    """Install the chart with our own image into a namespace that admits restricted pods only, and wait for its pods."""
    restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": restricted}})
    image = recipes.allotment()
    repository = image.reference.rpartition(":")[0]
    Release(cluster.fleet.cluster.kubeconfig).install(
        {"image.repository": repository, "image.tag": image.tag, "image.pullPolicy": "Never"}
    )
    for program in PROGRAMS:
        cluster.rolled_out(NAMESPACE, f"deployment/{program}", timeout=_PATIENCE)


def settle_bank(cluster: RealCluster) -> None:
    """Give the bank its ground and its business units; every real node is a general machine."""
    cluster.kubectl("label", "nodes", "--selector=allotment.dev/real=true", "pool=general", "--overwrite")
    cluster.apply(*bank("01-node-pools.yaml"))
    tenants = bank("02-tenants.yaml")
    cluster.apply(*tenants)
    names = [f"tenant/{each['metadata']['name']}" for each in tenants]
    cluster.wait(*names, "--for=condition=Ready", timeout=_PATIENCE)
