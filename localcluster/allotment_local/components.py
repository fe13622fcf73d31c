"""The command line of every component: pure functions of a cluster's specification.

Everything listens on the cluster's address (loopback unless real nodes join), speaks TLS and wants client certificates;
nothing is anonymous and nothing skips verification. Flags that differ from the defaults of Kubernetes say why.
"""

import ipaddress
from collections.abc import Mapping

from allotment_local.specification import Specification

GO_SETTINGS = {"GOGC": "200"}
"""Go's collector may let garbage grow to twice of what is alive, not to as much: under load it takes an eighth of the
API server's processor time otherwise. All components alike; the caller's own settings win."""


def variables(of: Mapping[str, str]) -> dict[str, str]:
    """The components' environment, made of the caller's.

    They get no proxy settings: they talk to each other on this machine only.
    """
    kept = {key: value for key, value in of.items() if not key.lower().endswith("_proxy")}
    return {**GO_SETTINGS, **kept}


def command(spec: Specification, component: str) -> tuple[str, ...]:
    """The whole command line of one component."""
    flags = {
        "etcd": _etcd,
        "kube-apiserver": _apiserver,
        "kube-controller-manager": _controllers,
        "kube-scheduler": _scheduler,
        "kwok": _kwok,
    }[component](spec)
    return (*spec.binaries[component], *flags, *spec.extra_flags.get(component, ()))


def _etcd(spec: Specification) -> tuple[str, ...]:
    client = f"https://127.0.0.1:{spec.ports.etcd_client}"
    peer = f"https://127.0.0.1:{spec.ports.etcd_peer}"
    pki = spec.pki
    return (
        f"--data-dir={spec.etcd_data}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        f"--cert-file={pki}/etcd.crt",
        f"--key-file={pki}/etcd.key",
        f"--trusted-ca-file={pki}/etcd-ca.crt",
        "--client-cert-auth",
        f"--peer-cert-file={pki}/etcd.crt",
        f"--peer-key-file={pki}/etcd.key",
        f"--peer-trusted-ca-file={pki}/etcd-ca.crt",
        "--peer-client-cert-auth",
        # A power cut may cost this cluster its state; in return every write is several times faster.
        "--unsafe-no-fsync",
        "--quota-backend-bytes=4294967296",
        "--auto-compaction-mode=periodic",
        "--auto-compaction-retention=5m",
        "--logger=zap",
        "--log-level=warn",
    )


def _apiserver(spec: Specification) -> tuple[str, ...]:
    pki = spec.pki
    # The Service `kubernetes` gets an endpoint only where something other than this machine could use it:
    # Kubernetes refuses loopback addresses there, and without a fixed address it refuses to start offline.
    reconciler = "none" if ipaddress.ip_address(spec.address).is_loopback else "lease"
    return (
        f"--etcd-servers=https://127.0.0.1:{spec.ports.etcd_client}",
        f"--etcd-cafile={pki}/etcd-ca.crt",
        f"--etcd-certfile={pki}/etcd-client.crt",
        f"--etcd-keyfile={pki}/etcd-client.key",
        f"--bind-address={spec.address}",
        f"--advertise-address={spec.address}",
        f"--secure-port={spec.ports.api}",
        f"--endpoint-reconciler-type={reconciler}",
        f"--tls-cert-file={pki}/kube-apiserver.crt",
        f"--tls-private-key-file={pki}/kube-apiserver.key",
        f"--client-ca-file={pki}/ca.crt",
        "--anonymous-auth=false",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged",
        f"--service-cluster-ip-range={spec.service_range}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={pki}/service-accounts.pub",
        f"--service-account-signing-key-file={pki}/service-accounts.key",
        f"--requestheader-client-ca-file={pki}/front-proxy-ca.crt",
        "--requestheader-allowed-names=front-proxy",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={pki}/front-proxy-client.crt",
        f"--proxy-client-key-file={pki}/front-proxy-client.key",
        # Thousands of simulated nodes and pods report through one server.
        "--max-requests-inflight=2000",
        "--max-mutating-requests-inflight=1000",
        f"--audit-policy-file={spec.audit_policy}",
        f"--audit-log-path={spec.logs}/audit.log",
        "--audit-log-mode=batch",
        "--audit-log-maxsize=100",
        "--audit-log-maxbackup=2",
        "--profiling=false",
    )


def _controllers(spec: Specification) -> tuple[str, ...]:
    pki = spec.pki
    return (
        *_client_flags(spec, "kube-controller-manager", port=spec.ports.controllers),
        "--use-service-account-credentials",
        f"--service-account-private-key-file={pki}/service-accounts.key",
        f"--root-ca-file={pki}/ca.crt",
        f"--cluster-signing-cert-file={pki}/ca.crt",
        f"--cluster-signing-key-file={pki}/ca.key",
        f"--service-cluster-ip-range={spec.service_range}",
        # It only tells kubelets how long to cache Secrets, and would patch every node as the cluster grows.
        "--controllers=*,-ttl-controller",
        # Longer than the simulated nodes' 30 s between two heartbeats, also on a machine that is busy.
        "--node-monitor-grace-period=100s",
        # The default of 20 requests a second would take a minute to untaint 1,000 new nodes.
        "--kube-api-qps=500",
        "--kube-api-burst=1000",
        "--concurrent-job-syncs=20",
    )


def _scheduler(spec: Specification) -> tuple[str, ...]:
    return (
        *_client_flags(spec, "kube-scheduler", port=spec.ports.scheduler),
        # As for the controllers; the default of 50 would bind 50 pods a second.
        "--kube-api-qps=5000",
        "--kube-api-burst=5000",
    )


def _client_flags(spec: Specification, component: str, *, port: int) -> tuple[str, ...]:
    kubeconfig = spec.component_kubeconfig(component)
    return (
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        f"--tls-cert-file={spec.pki}/{component}.crt",
        f"--tls-private-key-file={spec.pki}/{component}.key",
        "--leader-elect=false",  # there is one of each
        "--profiling=false",
    )


def _kwok(spec: Specification) -> tuple[str, ...]:
    return (
        f"--config={spec.stages}",
        f"--kubeconfig={spec.component_kubeconfig('kwok')}",
        "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
        f"--cidr={spec.pod_range}",
        # A lease is renewed four times in its life: at 1,000 nodes 33 writes a second instead of 100.
        "--node-lease-duration-seconds=120",
        "--v=WARN",  # it would log every patch of every node and pod
    )
