"""Brings up a cluster with real nodes, and its nodes one by one.

The order is forced by who needs whom: the bridge carries the API server's address; the API server needs a client
certificate for kubelets; a node needs its Node object (it says which pod addresses are its own) and its images; DNS
needs nodes. Everything is safe to repeat: what is there already stays.
"""

import datetime as dt
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from allotment_local import process
from allotment_local.api import Connection, comes_to_hold
from allotment_local.cluster import LocalCluster
from allotment_local.errors import ClusterTimeoutError, InvalidInputError, LocalClusterError
from allotment_local.nodes import is_usable
from allotment_local.pools import PoolFile, Taint
from allotment_local.process import ProcessRecord
from allotment_local.progress import Progress, Silent
from allotment_local.real_node import addons, configuration, credentials, network, programs, requirements, supplies
from allotment_local.real_node.images import recipes
from allotment_local.real_node.images.cache import ImageCache, copy_store
from allotment_local.real_node.images.recipes import Recipe
from allotment_local.real_node.network import MAX_NODES, Slot
from allotment_local.real_node.node import RealNode
from allotment_local.real_node.programs import NodePrograms
from allotment_local.real_node.state import REAL_LABEL, RealNodesState, record
from allotment_local.specification import Specification

ZONES = ("zone-a", "zone-b", "zone-c")
"""Real nodes are spread over these, so that services which spread over zones have some."""

API_PORT = 6443
"""Where policies expect API servers; the address is the cluster's own, so the port is free."""

SIMULATED_TAINT = Taint(key="allotment.dev/simulated", value="true", effect="NoSchedule")
"""On simulated nodes beside real ones: nothing lands there that does not ask for it."""

_READY_TIMEOUT = 300.0
_POLL = 0.1


class Fleet:
    """The real nodes of one local cluster.

    Args:
        cluster: the cluster, which may not exist yet.
        progress: told about everything slow.
    """

    def __init__(self, cluster: LocalCluster, *, progress: Progress | None = None) -> None:
        self.cluster = cluster
        self._progress = progress or Silent()
        self._images = ImageCache(cluster.layout, self._progress)

    @property
    def state(self) -> RealNodesState:
        """What the real nodes are.

        Raises:
            InvalidInputError: the cluster has none.
        """
        state = RealNodesState.load(self.cluster.folder)
        if state is None:
            raise InvalidInputError(
                f"The cluster {self.cluster.name!r} has no real nodes.",
                hint=f"Take it down and start it with `allot local up --node --name {self.cluster.name}`.",
            )
        return state

    @property
    def nodes(self) -> list[RealNode]:
        """The nodes, running or not."""
        return list(self.state.nodes(self.cluster.folder))

    def node(self, name: str) -> RealNode:
        """One node by its name."""
        return next(node for node in self.nodes if node.name == name)

    # ------------------------------------------------------------------ up

    def up(
        self,
        *,
        count: int = 1,
        images: Sequence[Recipe] = (),
        pools: PoolFile | None = None,
        merge_into: Path | None = None,
        tied_to_us: bool = False,
        environment: Mapping[str, str] = os.environ,
    ) -> Specification:
        """Start the cluster and its real nodes, or what is missing of them, and wait until pods can run.

        Args:
            count: how many real nodes; of a new cluster only.
            images: what the nodes shall hold besides what they need themselves.
            pools: simulated nodes beside them; they are tainted.
            merge_into: see `LocalCluster.up`.
            tied_to_us: see `LocalCluster.up`.
            environment: see `LocalCluster.up` and `programs.ensure`.

        Raises:
            LocalClusterError: the machine cannot carry real nodes, or one does not become ready.
        """
        needed = requirements.RUN_PACKAGES
        if not all(map(self._images.holds, images)):
            needed = {**needed, **requirements.IMAGE_PACKAGES}
        requirements.check(needed)
        if not 1 <= count <= MAX_NODES:
            raise InvalidInputError(f"{count} real nodes cannot be had.", hint=f"Ask for 1 to {MAX_NODES}.")
        built = supplies.gather(images, layout=self.cluster.layout, progress=self._progress, environment=environment)
        store = self._images.store([*node_images(built), *images])
        fresh = not self.cluster.folder.exists()
        try:
            state = self._prepare_network(count)
            spec = self._start_control_plane(
                Slot(state.slot), pools=pools, merge_into=merge_into, tied_to_us=tied_to_us, environment=environment
            )
            self._start_nodes(spec, state, built, store)
            self._start_volumes(spec)
            self._start_dns(spec, built)
        except BaseException:
            if fresh:
                self._progress.say("Taking the unfinished cluster down again.")
                self.cluster.down()
            raise
        return spec

    def _prepare_network(self, count: int) -> RealNodesState:
        folder = self.cluster.folder
        state = RealNodesState.load(folder)
        if state is None:
            if (folder / "cluster.json").exists():
                raise InvalidInputError(
                    f"The cluster {self.cluster.name!r} runs without real nodes.",
                    hint=f"Take it down first (`allot local down --name {self.cluster.name}`) or use another --name.",
                )
            cni = requirements.cni_folder()
            reserved = _memory_bytes() * (count - 1) // count
            slot = network.free_slot(network.machine_networks())
            state = RealNodesState(slot=slot.number, count=count, cni=str(cni), reserved_memory=reserved)
            (folder / "nodes" / "run").mkdir(mode=0o700, parents=True, exist_ok=True)
            state.save(folder)
        network.make_bridge(Slot(state.slot))
        return state

    def _start_control_plane(
        self,
        slot: Slot,
        *,
        pools: PoolFile | None,
        merge_into: Path | None,
        tied_to_us: bool,
        environment: Mapping[str, str],
    ) -> Specification:
        pki = self.cluster.folder / "pki"
        credentials.prepare_authority(pki, now=_now())
        spec = self.cluster.up(
            address=slot.host,
            api_port=API_PORT,
            service_range=str(slot.service_range),
            pools=tainted(pools) if pools else None,
            merge_into=merge_into,
            with_scheduler=True,
            extra_flags={
                "kube-apiserver": credentials.apiserver_flags(pki),
                # Simulated nodes renew their leases every 30 s, real ones every 10.
                "kube-controller-manager": ("--node-monitor-grace-period=45s",),
            },
            tied_to_us=tied_to_us,
            environment=environment,
        )
        with Connection(spec.kubeconfig) as connection:
            for manifest in [*addons.access(), addons.storage_class()]:
                connection.apply(_path(manifest), manifest)
        return spec

    def _start_nodes(self, spec: Specification, state: RealNodesState, built: NodePrograms, store: Path) -> None:
        started = []
        for node in state.nodes(self.cluster.folder):
            if node.running() is None:
                self._start_node(spec, node, built, store)
                started.append(node.name)
        network.route_services(Slot(state.slot), 1)
        self._await(
            spec,
            f"Waiting for {state.count} real nodes",
            lambda connection: all(
                is_usable(connection.get(f"/api/v1/nodes/{node.name}")) for node in state.nodes(self.cluster.folder)
            ),
        )

    def _start_node(self, spec: Specification, node: RealNode, built: NodePrograms, store: Path | None) -> None:
        self._progress.step(f"Starting {node.name}")
        node.folder.make()
        if store is not None and not any(node.folder.containerd.iterdir()):
            copy_store(store, node.folder.containerd)
        credentials.write_node_credentials(
            node.description, node.folder.etc, pki=spec.pki, server=spec.server, context=spec.context, now=_now()
        )
        zone = ZONES[(node.description.index - 1) % len(ZONES)]
        manifest = configuration.node_object(node.description, zone=zone, labels={REAL_LABEL: "true"})
        with Connection(spec.kubeconfig) as connection:
            connection.apply(_path(manifest), manifest)
        node.start(kubernetes=built.kubernetes, kube_router=built.kube_router)

    def start(self, name: str, *, environment: Mapping[str, str] = os.environ) -> None:
        """Start one node again that was killed, with its disks as they were; returns before it is ready."""
        node = self.node(name)
        if node.running() is None:
            built = programs.ensure(layout=self.cluster.layout, progress=self._progress, environment=environment)
            self._start_node(self.cluster.specification, node, built, None)

    def _start_volumes(self, spec: Specification) -> None:
        """Start the volume provisioner, a process of the machine: it reaches into every node."""
        path = record(spec.folder, "volumes")
        present = ProcessRecord.load(path)
        if present is not None and present.is_running():
            return
        client = spec.component_kubeconfig("volumes")
        credentials.write_client(
            client,
            credentials.VOLUMES_USER,
            pki=spec.pki,
            server=spec.server,
            context=spec.context,
            now=_now(),
        )
        line = (sys.executable, "-m", "allotment_local.real_node.volumes", str(spec.folder), str(client))
        environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
        process.spawn(line, log=spec.log("volumes"), environment=environment).save(path)

    def _start_dns(self, spec: Specification, built: NodePrograms) -> None:
        slot = Slot(self.state.slot)
        image = coredns(built).reference
        with Connection(spec.kubeconfig) as connection:
            for manifest in addons.dns(image=image, cluster_ip=slot.dns, replicas=min(2, self.state.count)):
                connection.apply(_path(manifest), manifest)

        def answers(connection: Connection) -> bool:
            deployment = connection.get("/apis/apps/v1/namespaces/kube-system/deployments/coredns")
            return int(deployment["status"].get("readyReplicas", 0)) >= 1

        self._await(spec, "Waiting for CoreDNS", answers)

    def _await(self, spec: Specification, what: str, condition: Callable[[Connection], bool]) -> None:
        """Poll the API server until a condition holds; notice at once when a node dies meanwhile."""
        self._progress.step(what)
        if not comes_to_hold(spec.kubeconfig, condition, seconds=_READY_TIMEOUT, check=self._check_alive):
            raise ClusterTimeoutError(
                f"{what}: not done after {_READY_TIMEOUT:.0f} s.",
                hint=f"The nodes' logs are in {self.cluster.folder / 'nodes'}/*/logs.",
            )

    def _check_alive(self) -> None:
        for node in self.nodes:
            if node.running() is None:
                raise LocalClusterError(f"The node {node.name} ended:\n{node.last_words()}")


def tainted(pools: PoolFile) -> PoolFile:
    """The same pools, their nodes tainted as simulated."""
    changed = [
        pool if SIMULATED_TAINT in pool.taints else pool.model_copy(update={"taints": [*pool.taints, SIMULATED_TAINT]})
        for pool in pools.pools
    ]
    return pools.model_copy(update={"pools": changed})


def node_images(built: NodePrograms) -> list[Recipe]:
    """The images that nodes need themselves."""
    name, tag = configuration.PAUSE_IMAGE.removeprefix(f"{recipes.REGISTRY}/").split(":")
    return [recipes.program(name, tag, built.pause, path="/pause"), coredns(built)]


def coredns(built: NodePrograms) -> Recipe:
    """The image of CoreDNS."""
    return recipes.program("coredns", programs.COREDNS_VERSION, built.coredns, path="/coredns")


def _path(manifest: Mapping[str, object]) -> str:
    """Where a manifest of one of the kinds in `addons` is applied."""
    plural = {
        "ClusterRole": "clusterroles",
        "ClusterRoleBinding": "clusterrolebindings",
        "ConfigMap": "configmaps",
        "Deployment": "deployments",
        "Node": "nodes",
        "Service": "services",
        "ServiceAccount": "serviceaccounts",
        "StorageClass": "storageclasses",
    }[str(manifest["kind"])]
    version = str(manifest["apiVersion"])
    metadata = manifest["metadata"]
    assert isinstance(metadata, dict)  # noqa: S101 - ours
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    scope = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
    return f"{root}{scope}/{plural}/{metadata['name']}"


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _now() -> dt.datetime:
    return dt.datetime.now(tz=dt.UTC)
