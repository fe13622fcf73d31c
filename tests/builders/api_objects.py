"""Minimal objects of every kind, and a way to change one field of one."""

from copy import deepcopy
from typing import Any

_SPECS: dict[str, dict[str, Any]] = {
    "Tenant": {},
    "NodePool": {"selector": {"matchLabels": {"pool": "x"}}},
    "TenantPolicy": {"tenant": "t"},
    "PodGroup": {},
    "KafkaCluster": {},
    "KafkaTopic": {"cluster": "k"},
    "KafkaUser": {"cluster": "k"},
    "CassandraCluster": {},
    "SparkApplication": {"type": "Python", "mainApplicationFile": "local:///job.py"},
    "SparkCluster": {},
    "JenkinsAgentPool": {"jenkins": {"url": "https://jenkins.example.com/", "credentialsSecret": "jenkins"}},
}

GONE = object()
"""As a value: the field is removed."""


def manifest(kind: str, name: str = "x", /, **fields: Any) -> dict[str, Any]:
    """A bare object of the kind, with `fields` put into its spec as they stand."""
    name = "allotment" if kind == "TenantPolicy" and name == "x" else name
    return {
        "apiVersion": "allotment.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {**deepcopy(_SPECS[kind]), **deepcopy(fields)},
    }


def changed(original: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with the field at a dotted path (list entries by number) set, or removed when the value is GONE."""
    out = deepcopy(original)
    at: Any = out
    *parents, last = path.split(".")
    for part in parents:
        at = at[int(part)] if part.isdigit() else at.setdefault(part, {})
    if value is GONE:
        del at[last]
    elif isinstance(at, list):
        at[int(last)] = value
    else:
        at[last] = value
    return out
