"""Pods that really run: restricted, from the base image, quick to end."""

from typing import Any

from allotment_local.real_node.images import recipes

BASE_IMAGE = recipes.base().reference

RESTRICTED_POD = {
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "fsGroup": 1000,
    "seccompProfile": {"type": "RuntimeDefault"},
}
RESTRICTED_CONTAINER = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}

SERVE = ("python3", "-m", "http.server", "8080", "--directory", "/proc/self/net")
"""A web server on port 8080."""

IDLE = ("sleep", "3600")


def container(*command: str, image: str = BASE_IMAGE, **fields: Any) -> dict[str, Any]:
    """A restricted container."""
    return {
        "name": "main",
        "image": image,
        "imagePullPolicy": "Never",
        "command": list(command),
        "securityContext": RESTRICTED_CONTAINER,
        **fields,
    }


def pod_spec(*containers: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A restricted pod's spec."""
    return {
        "securityContext": RESTRICTED_POD,
        "terminationGracePeriodSeconds": 1,
        "containers": list(containers),
        **fields,
    }


def pod(
    namespace: str, name: str, *command: str, labels: dict[str, str] | None = None, **fields: Any
) -> dict[str, Any]:
    """A pod of one restricted container, ready when its port 8080 answers if it serves one."""
    probe = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
    main = container(*command)
    if command == SERVE:
        main["readinessProbe"] = probe
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name, **(labels or {})}},
        "spec": pod_spec(main, **fields),
    }


def service(namespace: str, name: str, *, app: str = "", **fields: Any) -> dict[str, Any]:
    """A Service for port 8080 of the pods of an app, by default of the same name."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": app or name}, "ports": [{"name": "http", "port": 8080}], **fields},
    }


def stateful_set(namespace: str, name: str, *command: str, replicas: int, storage: str) -> dict[str, Any]:
    """A StatefulSet of restricted pods, each with a volume at /data, spread over the nodes, with a headless Service."""
    labels = {"app": name}
    main = container(*command, volumeMounts=[{"name": "data", "mountPath": "/data"}])
    apart = {"labelSelector": {"matchLabels": labels}, "topologyKey": "kubernetes.io/hostname"}
    affinity = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}}
    claim = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": storage}}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "serviceName": name,
            "replicas": replicas,
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod_spec(main, affinity=affinity)},
            "volumeClaimTemplates": [claim],
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete"},
        },
    }
