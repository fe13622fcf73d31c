"""One local cluster's life: up, status, down; each safe to repeat and to interrupt.

Everything about a cluster is in its folder: `cluster.json` before the first process starts, a pid file per process as
soon as it runs. So any later command, also after a kill -9 or a reboot, finds what there is and ends it; `down` works
on whatever is left. `up` on a running cluster changes only what was asked for anew (nodes, merged kubeconfig); on a
stopped one it starts the same cluster again, its state, ports and authority kept. A new cluster that fails to come up
is taken down again, so that nothing is left but the error.

Commands on the same cluster take turns by a lock on its folder.
"""

import contextlib
import datetime as dt
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import yaml

from allotment_local import audit, build, kubeconfig, nodes, process
from allotment_local.api import Connection, comes_to_hold
from allotment_local.binaries import choose
from allotment_local.components import command, variables
from allotment_local.credentials import KWOK_ROLE, write_credentials
from allotment_local.diagnosis import died, not_executable, tail
from allotment_local.errors import (
    ClusterTimeoutError,
    ComponentDiedError,
    InvalidInputError,
    LocalClusterError,
    NotRunningError,
)
from allotment_local.layout import DEFAULT_CLUSTER, Layout, valid_name
from allotment_local.ports import free_ports
from allotment_local.process import ProcessRecord
from allotment_local.progress import Progress, Silent
from allotment_local.real_node import takedown
from allotment_local.real_node.state import REAL_LABEL, RealNodesState
from allotment_local.specification import COMPONENTS, Specification
from allotment_local.stages import stages_yaml

if TYPE_CHECKING:  # see allotment_local.nodes
    from allotment_local.pools import PoolFile

GUARDIAN = "guardian"
"""The process that takes a cluster down when the program that started it has gone; not a component."""

_API_TIMEOUT = 300.0
"""Seconds; for what never comes. What ends meanwhile is noticed at once, so a slow machine has its time."""
_PORT_ATTEMPTS = 3
_GRACE = 10.0
_APISERVER_GRACE = 20.0
_POLL = 0.1


@dataclass(frozen=True, slots=True)
class ComponentStatus:
    """How one component is."""

    name: str
    running: bool
    pid: int | None
    log: Path
    last_lines: tuple[str, ...]
    """What a dead component said last; empty for a running one."""


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """How a cluster is."""

    name: str
    server: str
    kubeconfig: Path
    ports: Mapping[str, int]
    components: tuple[ComponentStatus, ...]
    api_ready: bool
    nodes_ready: int
    """Nodes that pods can be bound to, simulated and real."""
    nodes: int
    real_nodes: int
    """How many real nodes the cluster was started with; each is among the components."""

    @property
    def healthy(self) -> bool:
        """Whether every component runs and the API server answers."""
        return self.api_ready and all(component.running for component in self.components)

    @property
    def phase(self) -> str:
        """Running, Degraded or Stopped."""
        if self.healthy:
            return "Running"
        return "Degraded" if any(component.running for component in self.components) else "Stopped"


class Condition(Protocol):
    """Something to wait for, asked of the API server."""

    def __call__(self, connection: Connection, /) -> bool:
        """Whether it holds by now."""
        ...


class LocalCluster:
    """A cluster by its name, whether it exists yet or not.

    Args:
        name: lower-case letters, digits and hyphens.
        state: where clusters live, instead of ALLOTMENT_STATE.
        layout: both roots, instead of those of the environment.
        progress: told about everything slow.
    """

    def __init__(
        self,
        name: str = DEFAULT_CLUSTER,
        *,
        state: Path | None = None,
        layout: Layout | None = None,
        progress: Progress | None = None,
    ) -> None:
        layout = layout or Layout.from_environment()
        self.name = valid_name(name)
        self.layout = replace(layout, state=state) if state else layout
        self.folder = self.layout.cluster(name)
        self._progress = progress or Silent()
        self._lifeline: int | None = None

    # ------------------------------------------------------------------ what others use of a running cluster

    @property
    def specification(self) -> Specification:
        """What the cluster is made of.

        Raises:
            NotRunningError: there is no such cluster.
        """
        spec = Specification.load(self.folder)
        if spec is None:
            known = ", ".join(self.layout.cluster_names()) or "none"
            raise NotRunningError(
                f"There is no local cluster {self.name!r} (there are: {known}).",
                hint=f"`allot local up --name {self.name}` starts it.",
            )
        return spec

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.specification.kubeconfig

    def kubectl_command(self) -> tuple[str, ...]:
        """The command of kubectl as the administrator, without arguments."""
        spec = self.specification
        return (*spec.binaries["kubectl"], f"--kubeconfig={spec.kubeconfig}")

    def kubectl(
        self, *arguments: str, stdin: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl as the administrator.

        Raises:
            LocalClusterError: it failed, and `check` is set.
        """
        # kubectl takes --kubeconfig anywhere, but a plugin's name must come first: so it goes by the environment.
        environment = {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
        return _run((*self.specification.binaries["kubectl"], *arguments), environment, stdin=stdin, check=check)

    def helm(self, *arguments: str, stdin: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run helm as the administrator, built on first use; its caches are in the cluster's folder.

        Raises:
            BuildError: helm could not be built.
            LocalClusterError: it failed, and `check` is set.
        """
        helm = build.ensure(build.HELM, layout=self.layout, progress=self._progress)
        homes = {f"HELM_{kind}_HOME": str(self.folder / "helm" / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
        environment = {**os.environ, **homes, "KUBECONFIG": str(self.kubeconfig)}
        return _run((str(helm), *arguments), environment, stdin=stdin, check=check)

    # ------------------------------------------------------------------ up

    def up(
        self,
        *,
        pools: "PoolFile | None" = None,
        merge_into: Path | None = None,
        with_scheduler: bool = False,
        api_port: int | None = None,
        address: str = "127.0.0.1",
        hosts: Sequence[str] = (),
        service_range: str = "10.96.0.0/16",
        extra_flags: Mapping[str, tuple[str, ...]] | None = None,
        tied_to_us: bool = False,
        environment: Mapping[str, str] = os.environ,
    ) -> Specification:
        """Start the cluster, or what is missing of it, and wait until it is ready.

        Args:
            pools: simulated nodes to have, waited for until pods can be bound to them; None leaves nodes as they are.
            merge_into: a kubeconfig to merge the cluster's context into.
            with_scheduler: run kube-scheduler too.
            api_port: a certain port for the API server; default a free one. Of a new cluster only, as what follows.
            address: what the API server listens on.
            hosts: further names and addresses in its certificate.
            service_range: cluster IPs of Services.
            extra_flags: component → flags.
            tied_to_us: take the cluster down when this process ends, however it ends.
            environment: see `Specification` and `binaries.choose`.

        Raises:
            BuildError: no binaries.
            ComponentDiedError: a component ended; the message says which, and its last log lines.
            ClusterTimeoutError: it did not become ready.
        """
        with self._turn():
            spec = Specification.load(self.folder)
            fresh = spec is None
            if spec is None:
                binaries = choose(layout=self.layout, progress=self._progress, environment=environment)
                ports = free_ports(address, api=api_port)
                spec = Specification(
                    name=self.name,
                    folder=self.folder,
                    ports=ports,
                    binaries=binaries,
                    address=address,
                    hosts=tuple(hosts),
                    service_range=service_range,
                    with_scheduler=with_scheduler,
                    extra_flags=dict(extra_flags or {}),
                )
            else:
                spec = replace(spec, with_scheduler=with_scheduler or spec.with_scheduler)
                if not all(Path(line[0]).exists() for line in spec.binaries.values()):  # somebody emptied the cache
                    binaries = choose(layout=self.layout, progress=self._progress, environment=environment)
                    spec = replace(spec, binaries=binaries)
            try:
                spec = self._start(spec, fresh=fresh, api_port=api_port, tied_to_us=tied_to_us)
                self._finish(spec, pools)
                if merge_into is not None:
                    previous = kubeconfig.merge(spec.kubeconfig, merge_into)
                    spec = spec.merged(merge_into, previous or spec.previous_context)
                    spec.save()
            except BaseException:
                if fresh:
                    self._progress.say("Taking the unfinished cluster down again.")
                    self._remove(spec)
                raise
        return spec

    def _start(self, spec: Specification, *, fresh: bool, api_port: int | None, tied_to_us: bool) -> Specification:
        """Start every component; with other ports if another program was faster at one that we chose."""
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            self._prepare(spec)
            if tied_to_us:
                self._guard(spec)
            try:
                self._start_components(spec)
            except ComponentDiedError as error:
                if not (error.address_in_use and fresh and attempt < _PORT_ATTEMPTS):
                    raise
                self._stop(spec)
                spec = replace(spec, ports=free_ports(spec.address, api=api_port))
            else:
                return spec
        raise AssertionError("the last attempt returns or raises")

    def _prepare(self, spec: Specification) -> None:
        """Write everything that the components read; certificates only while none of them is in use."""
        for folder in (spec.logs, spec.folder / "run"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        spec.save()
        if not any(self._running(spec, component) for component in spec.wanted()):
            write_credentials(spec, now=dt.datetime.now(tz=dt.UTC))
        spec.audit_policy.write_text(yaml.safe_dump(audit.policy(), sort_keys=False), encoding="utf-8")
        spec.stages.write_text(stages_yaml(), encoding="utf-8")

    def _start_components(self, spec: Specification) -> None:
        wanted = spec.wanted()
        for component in wanted:  # a record from here on means: started, and to be missed when it dies
            if self._running(spec, component) is None:
                spec.record(component).unlink(missing_ok=True)
        for component in wanted:
            if self._running(spec, component) is None:
                self._progress.step(f"Starting {component}")
                self._spawn(spec, component, command(spec, component))
            if component == "kube-apiserver":
                self._await_api(spec)
        self._check_alive(spec)

    def _spawn(self, spec: Specification, name: str, line: Sequence[str], *, stdin: int | None = None) -> None:
        try:
            record = process.spawn(line, log=spec.log(name), environment=variables(os.environ), stdin=stdin)
        except OSError as error:
            raise not_executable(name, line[0], error) from error
        record.save(spec.record(name))

    def _guard(self, spec: Specification) -> None:
        """Start the guardian: it holds the read end of a pipe whose write end dies with us."""
        if self._running(spec, GUARDIAN):
            return
        read, write = os.pipe()
        try:
            line = (sys.executable, "-m", "allotment_local.guardian", str(self.layout.state), self.name)
            self._spawn(spec, GUARDIAN, line, stdin=read)
        except BaseException:
            os.close(write)
            raise
        finally:
            os.close(read)
        self._lifeline = write  # open, unused and not inherited, until this process ends: that is the signal

    def _await_api(self, spec: Specification) -> None:
        # Each try is short: what listens there may be another program, and never answer.
        self._wait(spec, "Waiting for the API server", _API_TIMEOUT, Connection.is_ready, timeout=10.0)

    def _finish(self, spec: Specification, pools: "PoolFile | None") -> None:
        if "kwok" in spec.binaries:
            with Connection(spec.kubeconfig) as connection:
                for item, kind in zip(KWOK_ROLE, ("clusterroles", "clusterrolebindings"), strict=True):
                    connection.apply(f"/apis/rbac.authorization.k8s.io/v1/{kind}/allotment:kwok", item)
        if "kube-controller-manager" in spec.binaries:
            # Its first visible work; until then the API server refuses every pod of that namespace.
            path = "/api/v1/namespaces/default/serviceaccounts?fieldSelector=metadata.name=default"
            self._wait(spec, "Waiting for the controllers", _API_TIMEOUT, lambda asked: bool(asked.get(path)["items"]))
        self._check_alive(spec)
        if pools is None:
            return
        if "kwok" not in spec.binaries:
            raise InvalidInputError(
                "Simulated nodes need kwok, which is not among the programs of this cluster.",
                hint="Unset ALLOTMENT_BINARIES so that our control plane is built, or leave out --nodes.",
            )
        changes = nodes.apply_pools(
            spec.kubeconfig,
            pools,
            version=build.KUBERNETES_VERSION,
            now=dt.datetime.now(tz=dt.UTC),
            on_progress=lambda done, total: self._progress.step("Creating nodes", done, total),
        )
        total = sum(pool.count for pool in pools.pools)

        def all_usable(connection: Connection) -> bool:
            ready, known = nodes.ready_count(connection, leased=changes.new)
            self._progress.step("Waiting for nodes", ready, total)
            return ready == total == known

        self._wait(spec, "Waiting for nodes", _API_TIMEOUT + total / 10, all_usable, pause=0.2 + total / 500)

    def _wait(
        self,
        spec: Specification,
        what: str,
        seconds: float,
        condition: Condition,
        *,
        pause: float = _POLL,
        timeout: float = 30.0,
    ) -> None:
        """Poll the API server until the condition holds; notice at once when a component dies meanwhile."""
        self._progress.step(what)

        def check() -> None:
            self._check_alive(spec)

        if not comes_to_hold(spec.kubeconfig, condition, seconds=seconds, check=check, pause=pause, timeout=timeout):
            lines = "".join(f"\n  {line}" for line in tail(spec.log("kube-apiserver")))
            raise ClusterTimeoutError(
                f"{what}: not done after {seconds:.0f} s. The API server's last log lines:{lines}",
                hint=f"All logs are in {spec.logs}. A machine that is very busy may need another try.",
            )

    def _check_alive(self, spec: Specification) -> None:
        for component in spec.wanted():
            record = ProcessRecord.load(spec.record(component))
            if record is not None and not record.is_running():
                raise died(component, spec.log(component), how=process.reap(record.pid))

    # ------------------------------------------------------------------ status

    def status(self) -> ClusterStatus:
        """Look at every process and ask the API server; quick, and never waits.

        Raises:
            NotRunningError: there is no such cluster.
        """
        spec = self.specification
        real = RealNodesState.load(self.folder)
        processes = [(component, spec.record(component), spec.log(component)) for component in spec.wanted()]
        processes += real.processes(self.folder, spec.logs) if real else ()
        components = tuple(self._component_status(*each) for each in processes)
        api_ready, ready, total = False, 0, 0
        if any(component.name == "kube-apiserver" and component.running for component in components):
            with (
                contextlib.suppress(OSError, LocalClusterError),
                Connection(spec.kubeconfig, timeout=30.0) as connection,
            ):
                api_ready = connection.is_ready()
                if api_ready:
                    counts = [nodes.ready_count(connection, label=label) for label in (nodes.POOL_LABEL, REAL_LABEL)]
                    ready, total = (sum(each) for each in zip(*counts, strict=True))
        return ClusterStatus(
            name=self.name,
            server=spec.server,
            kubeconfig=spec.kubeconfig,
            ports=asdict(spec.ports),
            components=components,
            api_ready=api_ready,
            nodes_ready=ready,
            nodes=total,
            real_nodes=real.count if real else 0,
        )

    @staticmethod
    def _component_status(component: str, path: Path, log: Path) -> ComponentStatus:
        found = ProcessRecord.load(path)
        running = found if found is not None and found.is_running() else None
        last_lines = () if running else tuple(tail(log))
        return ComponentStatus(component, running is not None, running.pid if running else None, log, last_lines)

    @staticmethod
    def _running(spec: Specification, component: str) -> ProcessRecord | None:
        record = ProcessRecord.load(spec.record(component))
        return record if record is not None and record.is_running() else None

    # ------------------------------------------------------------------ down

    def down(self) -> bool:
        """End every process of the cluster and remove its folder and its merged context.

        Returns:
            Whether there was anything to take down.
        """
        if not self.folder.is_dir():
            return False
        with self._turn():
            try:
                spec = Specification.load(self.folder)
            except LocalClusterError:
                spec = None  # a damaged cluster.json; the pid files are enough
            self._remove(spec)
        return True

    def _remove(self, spec: Specification | None) -> None:
        takedown.end_nodes(self.folder)  # real nodes, if there are any
        self._stop(spec)
        takedown.remove_network(self.folder)
        if spec is not None and spec.merged_into is not None:
            kubeconfig.unmerge(spec.context, spec.merged_into, previous=spec.previous_context)
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.layout.clusters.rmdir()

    def _stop(self, spec: Specification | None) -> None:
        """End every recorded process, in reverse starting order, and forget it."""
        run = (spec.folder if spec else self.folder) / "run"
        for name in (GUARDIAN, *reversed(COMPONENTS)):
            path = run / f"{name}.json"
            record = ProcessRecord.load(path)
            if record is not None and record.pid != os.getpid():
                self._progress.step(f"Stopping {name}")
                process.terminate(record, grace=self._grace(run, name))
            path.unlink(missing_ok=True)
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None

    @staticmethod
    def _grace(run: Path, name: str) -> float:
        """Seconds a component gets to end by itself; without etcd the API server would not heed SIGTERM at all."""
        if name != "kube-apiserver":
            return _GRACE
        etcd = ProcessRecord.load(run / "etcd.json")
        return _APISERVER_GRACE if etcd is not None and etcd.is_running() else 0.0

    # ------------------------------------------------------------------ turns

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait for other commands on this cluster; the lock lies beside the folder, which `down` removes."""
        self.layout.clusters.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.layout.clusters / f".{self.name}.lock"
        while True:
            with path.open("w") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    self._progress.say(f"Another command is at work on {self.name}; waiting for it …")
                    fcntl.flock(file, fcntl.LOCK_EX)
                if not _same_file(file.fileno(), path):
                    continue  # its last holder removed it; lock the one that is there now
                try:
                    yield
                finally:
                    if not self.folder.exists():
                        path.unlink(missing_ok=True)
                        with contextlib.suppress(OSError):
                            self.layout.clusters.rmdir()
                return


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _run(
    line: Sequence[str], environment: Mapping[str, str], *, stdin: str | None, check: bool
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(line, env=environment, input=stdin, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise LocalClusterError(f"{Path(line[0]).name} {' '.join(line[1:])}: {done.stderr.strip()}")
    return done
