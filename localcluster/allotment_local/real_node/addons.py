"""What runs in a cluster with real nodes before anybody's pods: access rules, storage class, CoreDNS.

CoreDNS runs as pods behind the Service kube-dns, labelled as everywhere, so that a NetworkPolicy which lets tenants
resolve names elsewhere lets them do so here.
"""

from typing import Any

from allotment_local.real_node.configuration import CLUSTER_DOMAIN
from allotment_local.real_node.credentials import API_SERVER_USER, KUBE_ROUTER_USER, VOLUMES_USER

STORAGE_CLASS = "local-disk"
PROVISIONER = "allotment.dev/local-disk"

_RBAC = "rbac.authorization.k8s.io"

Manifest = dict[str, Any]


def access() -> list[Manifest]:
    """The rights of the API server's kubelet client, of kube-router and of the volume provisioner."""
    read = ["get", "list", "watch"]
    return [
        _binding(API_SERVER_USER, "system:kubelet-api-admin"),
        _role(
            KUBE_ROUTER_USER,
            _rule(["pods", "namespaces", "nodes", "services", "endpoints"], read),
            _rule(["networkpolicies"], read, group="networking.k8s.io"),
            _rule(["endpointslices"], read, group="discovery.k8s.io"),
        ),
        _binding(KUBE_ROUTER_USER),
        _role(
            VOLUMES_USER,
            _rule(["persistentvolumeclaims"], read),
            _rule(["persistentvolumeclaims/status"], ["patch"]),
            _rule(["persistentvolumes"], [*read, "create", "patch", "delete"]),
            _rule(["events"], ["create", "patch"]),
        ),
        _binding(VOLUMES_USER),
    ]


def storage_class() -> Manifest:
    """The default storage class: a disk of the node that the pod is scheduled to."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": STORAGE_CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": PROVISIONER,
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": True,
        "reclaimPolicy": "Delete",
    }


def dns(*, image: str, cluster_ip: str, replicas: int) -> list[Manifest]:
    """CoreDNS for the cluster's names; it forwards nothing, as nothing leaves this machine.

    Args:
        image: of CoreDNS.
        cluster_ip: of the Service, which every kubelet gives to its pods.
        replicas: one per node, at most two.
    """
    labels = {"k8s-app": "kube-dns"}
    name = "coredns"
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": "kube-system"}},
        _role(
            "system:coredns",
            _rule(["services", "pods", "namespaces"], ["list", "watch"]),
            _rule(["endpointslices"], ["list", "watch"], group="discovery.k8s.io"),
        ),
        _binding("system:coredns", subject={"kind": "ServiceAccount", "name": name, "namespace": "kube-system"}),
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": "kube-system"},
            "data": {"Corefile": _corefile()},
        },
        _dns_deployment(name, labels, image=image, replicas=replicas),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": labels},
            "spec": {
                "clusterIP": cluster_ip,
                "selector": labels,
                "ports": [
                    {"name": "dns", "port": 53, "targetPort": 53, "protocol": "UDP"},
                    {"name": "dns-tcp", "port": 53, "targetPort": 53, "protocol": "TCP"},
                ],
            },
        },
    ]


def _corefile() -> str:
    return f""".:53 {{
    errors
    ready :8181
    kubernetes {CLUSTER_DOMAIN} in-addr.arpa {{
        pods insecure
        ttl 5
    }}
    cache 5
    reload
}}
"""


def _dns_deployment(name: str, labels: dict[str, str], *, image: str, replicas: int) -> Manifest:
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": labels},
    }
    container = {
        "name": name,
        "image": image,
        "imagePullPolicy": "Never",
        "args": ["-conf", "/etc/coredns/Corefile"],
        "ports": [{"containerPort": 53, "protocol": protocol} for protocol in ("UDP", "TCP")],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "170Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns", "readOnly": True}],
    }
    pod = {
        "serviceAccountName": name,
        "priorityClassName": "system-cluster-critical",
        "dnsPolicy": "Default",
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65534,
            "seccompProfile": {"type": "RuntimeDefault"},
            # Port 53 as everywhere, since policies name it, and for a user that is not root.
            "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "53"}],
        },
        "topologySpreadConstraints": [spread],
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": name}}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "kube-system", "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def _rule(resources: list[str], verbs: list[str], *, group: str = "") -> Manifest:
    return {"apiGroups": [group], "resources": resources, "verbs": verbs}


def _role(name: str, *rules: Manifest) -> Manifest:
    return {"apiVersion": f"{_RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": list(rules)}


def _binding(user: str, role: str = "", *, subject: Manifest | None = None) -> Manifest:
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": user},
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role or user},
        "subjects": [subject or {"apiGroup": _RBAC, "kind": "User", "name": user}],
    }
