"""What a node's programs read: pure functions from a node's description to files and command lines.

Everything listens on the node's own address or loopback, speaks TLS and wants client certificates. Settings that differ
from the defaults say why.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from allotment_local.real_node.network import MAX_NODES, Slot
from allotment_local.real_node.paths import CONTAINERD_SOCKET, INSIDE

PAUSE_IMAGE = "allotment.local/pause:1"
CLUSTER_DOMAIN = "cluster.local"

ETC = INSIDE / "etc"


@dataclass(frozen=True, slots=True)
class NodeDescription:
    """One node as it was asked for.

    Attributes:
        name: of the Node object, and its host name.
        index: counts from 1; decides the addresses.
        slot: the cluster's addresses.
        cgroup: name of its top-level control group.
        cni: folder with the network plugins.
        reserved_memory: bytes of the machine's memory that this node does not offer to pods.
    """

    name: str
    index: int
    slot: Slot
    cgroup: str
    cni: str
    reserved_memory: int = 0

    @property
    def address(self) -> str:
        """The node's address on the bridge."""
        return self.slot.node(self.index)


def files(node: NodeDescription) -> Mapping[str, str]:
    """The files below etc/ that hold no secrets, by relative path."""
    return {
        "containerd.toml": containerd(cni=node.cni),
        "cni/10-pods.conflist": json.dumps(cni_network(node), indent=2),
        "kubelet.yaml": yaml.safe_dump(kubelet(node), sort_keys=False),
        "kube-proxy.yaml": yaml.safe_dump(kube_proxy(node), sort_keys=False),
    }


def containerd(*, cni: str) -> str:
    """The configuration of containerd, in the format that its versions 1.6 to 2 read."""
    return f"""version = 2
root = "{INSIDE}/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]
[grpc]
  address = "{CONTAINERD_SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  # Without CAP_SYS_RESOURCE no process may get a lower score than ours, and runc would fail instead of asking.
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni}"
    conf_dir = "{ETC}/cni"
"""


def cni_network(node: NodeDescription) -> dict[str, Any]:
    """The pods' network: a bridge inside the node, addresses from the node's own range."""
    return {
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": True,
                "isDefaultGateway": True,
                "hairpinMode": True,  # so that a pod reaches itself through its own Service
                "ipam": {"type": "host-local", "ranges": [[{"subnet": str(node.slot.pods_of(node.index))}]]},
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def kubelet(node: NodeDescription) -> dict[str, Any]:
    """KubeletConfiguration (kubelet.config.k8s.io/v1beta1)."""
    reserved = {"systemReserved": {"memory": str(node.reserved_memory)}} if node.reserved_memory else {}
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.address,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{ETC}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "readOnlyPort": 0,
        "healthzBindAddress": "127.0.0.1",
        "tlsCertFile": f"{ETC}/kubelet.crt",
        "tlsPrivateKeyFile": f"{ETC}/kubelet.key",
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "volumePluginDir": f"{INSIDE}/kubelet/volume-plugins",
        "clusterDomain": CLUSTER_DOMAIN,
        "clusterDNS": [node.slot.dns],
        "resolvConf": "",  # pods resolve the cluster's names and no others
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{node.cgroup}",
        "failCgroupV1": False,  # machines of the older layout are welcome
        "enforceNodeAllocatable": [],  # the machine is not ours alone; pods' own limits hold all the same
        **reserved,
        "evictionHard": {},  # a full disk of this machine is not the pods' fault
        "failSwapOn": False,
        "localStorageCapacityIsolation": True,
        # Images come from our own store, once: collecting them would leave pods that can never start again.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "serializeImagePulls": True,
        "registryPullQPS": 0,
        "nodeStatusReportFrequency": "1m",
        "containerLogMaxSize": "10Mi",
        "allowedUnsafeSysctls": [],
    }


def kube_proxy(node: NodeDescription) -> dict[str, Any]:
    """KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1)."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clientConnection": {"kubeconfig": f"{ETC}/kube-proxy.kubeconfig"},
        "clusterCIDR": str(node.slot.pod_range),
        "hostnameOverride": node.name,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "nodePortAddresses": ["primary"],
        # Zero leaves the machine's connection-tracking limits as they are: they are no node's own.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


def commands(
    node: NodeDescription, *, containerd: str, kubernetes: str, kube_router: str
) -> dict[str, tuple[str, ...]]:
    """The command lines of a node's programs, in starting order.

    Args:
        node: the node.
        containerd: path of the program.
        kubernetes: path of our binary that holds the kubelet and kube-proxy.
        kube_router: path of the program.
    """
    return {
        "containerd": (containerd, "--config", f"{ETC}/containerd.toml", "--log-level", "warn"),
        "kubelet": (
            kubernetes,
            "kubelet",
            f"--config={ETC}/kubelet.yaml",
            f"--kubeconfig={ETC}/kubelet.kubeconfig",
            f"--node-ip={node.address}",
            f"--hostname-override={node.name}",
            "--v=1",
        ),
        "kube-proxy": (kubernetes, "kube-proxy", f"--config={ETC}/kube-proxy.yaml"),
        # It enforces NetworkPolicy only: a plain bridge enforces none.
        "kube-router": (
            kube_router,
            f"--kubeconfig={ETC}/kube-router.kubeconfig",
            f"--hostname-override={node.name}",
            "--run-firewall=true",
            "--run-router=false",
            "--run-service-proxy=false",
            f"--service-cluster-ip-range={node.slot.service_range}",
            "--health-port=0",
            "--metrics-port=0",
        ),
    }


def setup(node: NodeDescription) -> tuple[tuple[str, ...], ...]:
    """The commands that give a node its network, run inside it once its eth0 is there."""
    others = [index for index in range(1, MAX_NODES + 1) if index != node.index]
    return (
        ("ip", "link", "set", "lo", "up"),
        ("ip", "address", "add", f"{node.address}/24", "dev", "eth0"),
        ("ip", "link", "set", "eth0", "up"),
        ("ip", "route", "add", "default", "via", node.slot.host),
        *(("ip", "route", "add", str(node.slot.pods_of(index)), "via", node.slot.node(index)) for index in others),
    )


def node_object(node: NodeDescription, *, zone: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """The Node object, made before the kubelet registers so that its pod range is known from the start."""
    pods = str(node.slot.pods_of(node.index))
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": node.name,
            "labels": {"kubernetes.io/hostname": node.name, "topology.kubernetes.io/zone": zone, **labels},
        },
        "spec": {"podCIDR": pods, "podCIDRs": [pods]},
    }
