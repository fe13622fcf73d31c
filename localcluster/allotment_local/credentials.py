"""Who may talk to whom in one cluster: lays out its pki folder and the components' kubeconfigs.

Authorities and the service accounts' key are made once and live as long as the cluster; leaves are issued anew at every
start, so that none ever expires. Each component is a user of its own with the rights that RBAC gives that user:
`system:kube-controller-manager` and `system:kube-scheduler` have theirs from Kubernetes' bootstrap roles, kwok's are in
`KWOK_ROLE`. Only the administrator is in `system:masters`.
"""

import datetime as dt
import ipaddress

from allotment_kube.certificates import KeyPair, authority, issue, new_key, private_pem, public_pem
from allotment_local.keyfiles import load, save, write_private
from allotment_local.kubeconfig import client_kubeconfig
from allotment_local.specification import Specification

KWOK_USER = "allotment:kwok"

_AUTHORITIES = {
    "ca": "allotment-local",
    "etcd-ca": "allotment-local-etcd",
    "front-proxy-ca": "allotment-local-front-proxy",
}

_USERS = {
    "kube-controller-manager": "system:kube-controller-manager",
    "kube-scheduler": "system:kube-scheduler",
    "kwok": KWOK_USER,
}

KWOK_ROLE: tuple[dict[str, object], ...] = (
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": KWOK_USER},
        "rules": [
            {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch", "patch"]},
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch", "patch", "delete"]},
            {"apiGroups": [""], "resources": ["nodes/status", "pods/status"], "verbs": ["patch", "update"]},
            {"apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch", "update"]},
            {
                "apiGroups": ["coordination.k8s.io"],
                "resources": ["leases"],
                "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"],
            },
        ],
    },
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": KWOK_USER},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": KWOK_USER},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": KWOK_USER}],
    },
)
"""What kwok needs to play kubelet for its nodes: their status and leases, their pods' status and end."""


def write_credentials(spec: Specification, *, now: dt.datetime) -> None:
    """Make what is missing in the pki folder, issue all leaves anew and write every kubeconfig."""
    for folder in (spec.pki, spec.folder / "clients"):
        folder.mkdir(mode=0o700, exist_ok=True)
    authorities = {}
    for name, common_name in _AUTHORITIES.items():
        if not (spec.pki / f"{name}.crt").exists():
            save(authority(common_name, now=now), spec.pki, name)
        authorities[name] = load(spec.pki, name)
    if not (spec.pki / "service-accounts.pub").exists():
        key = new_key()
        write_private(spec.pki / "service-accounts.key", private_pem(key))
        (spec.pki / "service-accounts.pub").write_bytes(public_pem(key))
    _issue_serving(spec, authorities, now=now)
    _issue_clients(spec, authorities, now=now)


def _issue_serving(spec: Specification, authorities: dict[str, KeyPair], *, now: dt.datetime) -> None:
    kubernetes = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"]
    api_hosts = dict.fromkeys(
        [spec.address, "127.0.0.1", "localhost", first_address(spec.service_range), *kubernetes, *spec.hosts]
    )
    local = ["127.0.0.1", "localhost"]
    save(issue(authorities["ca"], "kube-apiserver", hosts=list(api_hosts), now=now), spec.pki, "kube-apiserver")
    for component in ("kube-controller-manager", "kube-scheduler"):
        save(issue(authorities["ca"], component, hosts=local, now=now), spec.pki, component)
    # etcd's peer certificate is both: it serves peers and calls them.
    save(issue(authorities["etcd-ca"], "etcd", hosts=local, client=True, now=now), spec.pki, "etcd")


def _issue_clients(spec: Specification, authorities: dict[str, KeyPair], *, now: dt.datetime) -> None:
    save(issue(authorities["etcd-ca"], "kube-apiserver", client=True, now=now), spec.pki, "etcd-client")
    save(issue(authorities["front-proxy-ca"], "front-proxy", client=True, now=now), spec.pki, "front-proxy-client")
    root = authorities["ca"].certificate_pem
    admin = issue(authorities["ca"], "allotment-admin", organizations=["system:masters"], client=True, now=now)
    write_private(spec.kubeconfig, client_kubeconfig(spec.context, server=spec.server, authority=root, client=admin))
    for component, user in _USERS.items():
        client = issue(authorities["ca"], user, client=True, now=now)
        content = client_kubeconfig(spec.context, server=spec.server, authority=root, client=client)
        write_private(spec.component_kubeconfig(component), content)


def first_address(network: str) -> str:
    """The first usable address of a range: the one the Service `kubernetes` gets."""
    return str(ipaddress.ip_network(network)[1])
