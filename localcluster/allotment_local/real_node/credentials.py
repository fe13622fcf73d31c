"""Certificates and kubeconfigs of real nodes, signed by the cluster's own authority.

The cluster's authority is made here if the API server has not started yet: it needs its client certificate for kubelets
before it first runs. Each program of a node is a user of its own: the kubelet is `system:node:NAME`, which the Node
authorizer confines to its own pods' secrets; kube-proxy and kube-router read what they need and write nothing.
"""

import datetime as dt
from pathlib import Path

from allotment_kube.certificates import authority, issue
from allotment_local.keyfiles import load, save, write_private
from allotment_local.kubeconfig import client_kubeconfig
from allotment_local.real_node.configuration import NodeDescription

API_SERVER_USER = "allotment:kubelet-client"
KUBE_ROUTER_USER = "allotment:kube-router"
VOLUMES_USER = "allotment:volumes"


def prepare_authority(pki: Path, *, now: dt.datetime) -> None:
    """Make the cluster's authority, if it is not there, and the API server's client certificate for kubelets."""
    pki.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (pki / "ca.crt").exists():
        save(authority("allotment-local", now=now), pki, "ca")
    signer = load(pki, "ca")
    save(issue(signer, API_SERVER_USER, client=True, now=now), pki, "kubelet-client")


def apiserver_flags(pki: Path) -> tuple[str, ...]:
    """What the API server needs to speak with kubelets: logs, exec, port-forward."""
    return (
        f"--kubelet-certificate-authority={pki}/ca.crt",
        f"--kubelet-client-certificate={pki}/kubelet-client.crt",
        f"--kubelet-client-key={pki}/kubelet-client.key",
        "--kubelet-preferred-address-types=InternalIP",
    )


def write_node_credentials(
    node: NodeDescription, etc: Path, *, pki: Path, server: str, context: str, now: dt.datetime
) -> None:
    """Issue everything that one node's programs show or check.

    Args:
        node: the node.
        etc: its configuration folder.
        pki: the cluster's.
        server: URL of the API server.
        context: name of the kubeconfigs' entries.
        now: when the certificates begin to be valid.
    """
    signer = load(pki, "ca")
    (etc / "ca.crt").write_bytes(signer.certificate_pem)
    kubelet = f"system:node:{node.name}"
    serving = issue(signer, kubelet, organizations=["system:nodes"], hosts=[node.address, node.name], now=now)
    save(serving, etc, "kubelet")
    for program, user, groups in (
        ("kubelet", kubelet, ["system:nodes"]),
        ("kube-proxy", "system:kube-proxy", []),
        ("kube-router", KUBE_ROUTER_USER, []),
    ):
        client = issue(signer, user, organizations=groups, client=True, now=now)
        content = client_kubeconfig(context, server=server, authority=signer.certificate_pem, client=client)
        write_private(etc / f"{program}.kubeconfig", content)


def write_client(target: Path, user: str, *, pki: Path, server: str, context: str, now: dt.datetime) -> None:
    """Write the kubeconfig of one more user."""
    signer = load(pki, "ca")
    client = issue(signer, user, client=True, now=now)
    write_private(target, client_kubeconfig(context, server=server, authority=signer.certificate_pem, client=client))
