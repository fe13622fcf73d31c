"""What a tenant's members send to the API server, and the namespaces they send it to."""

from collections.abc import Mapping
from typing import Any

from allotment_api.labels import INSTANCE_LABEL, KIND_LABEL
from builders.api_server import Actor, ApiServer, Manifest
from builders.helm_chart import tenant_policy
from builders.program_process import eventually

ROLES = ("owner", "developer", "ci", "viewer")
IMAGE = "registry.bank/retail/app:1"


def meta(name: str, namespace: str = "", **rest: Any) -> dict[str, Any]:
    return {"name": name, **({"namespace": namespace} if namespace else {}), **rest}


def pod_spec(**spec: Any) -> dict[str, Any]:
    """A PodSpec that every policy admits, with changes."""
    return {"containers": [{"name": "main", "image": IMAGE}], "automountServiceAccountToken": False, **spec}


def pod(namespace: str, name: str = "pod", *, spec: Mapping[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta(name, namespace, **metadata),
        "spec": pod_spec(**(spec or {})),
    }


def job(
    namespace: str,
    name: str = "job",
    *,
    spec: Mapping[str, Any] | None = None,
    pod: Mapping[str, Any] | None = None,
    template: Mapping[str, Any] | None = None,
    **metadata: Any,
) -> dict[str, Any]:
    """A Job: `spec` changes the Job's, `pod` the PodSpec, `template` the pods' metadata."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": meta(name, namespace, **metadata),
        "spec": {
            "template": {
                "metadata": dict(template or {}),
                "spec": pod_spec(**{"restartPolicy": "Never", **(pod or {})}),
            },
            **(spec or {}),
        },
    }


def deployment(namespace: str, name: str = "app", *, pod: Mapping[str, Any] | None = None) -> dict[str, Any]:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": meta(name, namespace),
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod_spec(**(pod or {}))},
        },
    }


def cron_job(namespace: str, name: str = "nightly", *, pod: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": meta(name, namespace),
        "spec": {"schedule": "0 3 * * *", "jobTemplate": {"spec": job(namespace, pod=pod)["spec"]}},
    }


def service(namespace: str, name: str = "service", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta(name, namespace),
        "spec": {"ports": [{"port": 80}], "selector": {"app": "x"}, **spec},
    }


def namespace_object(name: str, tenant: str | None = None, **labels: str) -> dict[str, Any]:
    tenant_label = {} if tenant is None else {"allotment.dev/tenant": tenant}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": meta(name, labels={**tenant_label, **labels})}


def tenant(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "allotment.dev/v1alpha1", "kind": "Tenant", "metadata": meta(name), "spec": spec}


def role_binding(namespace: str, name: str, role: str, *subjects: Manifest, **labels: str) -> dict[str, Any]:
    """A RoleBinding to a ClusterRole."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": meta(name, namespace, labels=labels),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [dict(subject) for subject in subjects],
    }


def group(name: str) -> dict[str, str]:
    return {"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": name}


def service_account(namespace: str, name: str) -> dict[str, str]:
    return {"kind": "ServiceAccount", "namespace": namespace, "name": name}


def make_tenant_namespace(api: ApiServer, name: str, **policy: Any) -> None:
    """A tenant's namespace as the operator leaves it: label, TenantPolicy, and the members' seats.

    Members are the groups `<namespace>-owner`, `-developer`, `-ci` and `-viewer`.
    """
    admin = api.admin()
    managed = {"app.kubernetes.io/managed-by": "allotment"}
    expect(admin, namespace_object(name, "retail", **managed))
    expect(admin, tenant_policy(name, **policy))
    for role in ROLES:
        expect(
            admin,
            role_binding(name, f"allotment-{role}", f"allotment-tenant-{role}", group(f"{name}-{role}"), **managed),
        )
    members = {role: api.user(role, [f"{name}-{role}"]) for role in ROLES}
    await_allowed(members["owner"], "create", "serviceaccounts", name)
    await_allowed(members["developer"], "create", "deployments", name, group="apps")
    await_allowed(members["ci"], "create", "jobs", name, group="batch")
    await_allowed(members["viewer"], "list", "pods", name)
    await_default_service_account(admin, name)
    # The API server learns of a policy's parameters by a watch of its own, too, and refuses everything until then.
    eventually(lambda: "no params found" not in admin.create(pod(name), dry_run=True).message)


def await_allowed(actor: Actor, verb: str, resource: str, namespace: str, *, group: str = "") -> None:
    """Wait until the authorizer knows of a right: roles are aggregated, and watched, with some delay."""
    eventually(
        lambda: actor.allowed(verb, resource, group=group, namespace=namespace),
        because=lambda: f"no right to {verb} {resource} in {namespace or 'the cluster'}",
    )


def expect(actor: Actor, manifest: Manifest) -> None:
    """Create something that must be there for a test."""
    answer = actor.create(manifest)
    assert answer.accepted, answer.message


def await_default_service_account(admin: Actor, namespace: str) -> None:
    """Pods are refused until the controller has made the namespace's default ServiceAccount."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta("default", namespace)}
    eventually(lambda: admin.get(account).accepted, because=lambda: f"no default ServiceAccount in {namespace}")


def retained_volume(namespace: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A volume and its claim as a Kafka cluster leaves them; they name each other, so nobody must provide anything."""
    name = "data-events-main-0"
    size, modes = {"storage": "1Gi"}, ["ReadWriteOnce"]
    labels = {"app.kubernetes.io/managed-by": "allotment", INSTANCE_LABEL: "events", KIND_LABEL: "KafkaCluster"}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"{namespace}-{name}"},
        "spec": {
            "accessModes": modes,
            "capacity": size,
            "storageClassName": "",
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": "/nowhere"},
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace, "name": name},
        },
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "accessModes": modes,
            "resources": {"requests": size},
            "storageClassName": "",
            "volumeName": f"{namespace}-{name}",
        },
    }
    return volume, claim
