"""Documents into events, with what admission and controllers would have added.

The order: what others refer to first (priority classes, tenants' namespaces, storage, devices), then everything in the
order in which it stands, pods last, because a pod's Job must be known. Pods that workloads have still to make follow
those that are there.

What admission sets in tenants' namespaces is set here: a pod that names no scheduler is ours, a Job with pods that are
never restarted outlives evictions, a priority class gives its value. What exists already is taken as it is.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from allotment_api.errors import Fault, InvalidManifestError
from allotment_api.labels import (
    API_VERSION,
    IGNORE_DISRUPTION_ANNOTATION,
    INSTANCE_LABEL,
    MAX_RUNTIME_ANNOTATION,
    PREEMPTIBLE_LABEL,
    TENANT_LABEL,
)
from allotment_api.node_pool import NodePool
from allotment_api.pod_group import PodGroup
from allotment_api.resource import Resource
from allotment_api.tenant import Tenant
from allotment_kube import devices as kube_devices
from allotment_kube import nodes, pods, storage, workloads
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.pods import PodKey, PodSpec
from allotment_scheduler.manifests import admission, checks
from allotment_scheduler.manifests.claims import CLASSLESS, VolumeControllers, binding_with_pods, ephemeral_claims
from allotment_scheduler.manifests.documents import Document, read_documents
from allotment_scheduler.manifests.faults import ManifestError, of_model, typed_fault, value_fault
from allotment_scheduler.manifests.stored import Rewriting
from allotment_scheduler.manifests.workloads import (
    MAKERS,
    MOST_PODS,
    TEMPLATED,
    Present,
    Selecting,
    Workload,
    WorkloadError,
    controller,
    outstanding,
    pods_to_come,
)
from allotment_scheduler.translation import cluster
from allotment_scheduler.translation import storage as volumes
from allotment_scheduler.translation.devices import Devices
from allotment_scheduler.translation.pods import has_finished, pod_gone, pod_spec
from allotment_scheduler.translation.scalars import positive

T = TypeVar("T")
R = TypeVar("R", bound=Resource)
_OURS: Final = API_VERSION.partition("/")[0]
GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "Node": ("",), "Namespace": ("",), "Pod": ("",), "PersistentVolumeClaim": ("",), "PersistentVolume": ("",),
    "NodePool": (_OURS,), "Tenant": (_OURS,), "PodGroup": (_OURS, "scheduling.k8s.io"), "Job": ("batch",),
    "PodDisruptionBudget": ("policy",), "PriorityClass": ("scheduling.k8s.io",),
    "StorageClass": ("storage.k8s.io",), "CSINode": ("storage.k8s.io",), "ResourceSlice": ("resource.k8s.io",),
    "DeviceClass": ("resource.k8s.io",), "ResourceClaim": ("resource.k8s.io",),
    "ResourceClaimTemplate": ("resource.k8s.io",), "Deployment": ("apps",), "ReplicaSet": ("apps",),
    "StatefulSet": ("apps",), "ReplicationController": ("",),
}  # fmt: skip
"""The kinds that are read, with their API groups."""
BUILT_IN: Final = {
    "system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000,
    "allotment-low": -1000, "allotment-high": 1000, "allotment-service": 10_000,
}  # fmt: skip
"""Priority classes that every cluster has, and those of our chart; files may hold others of these names."""
_FIXED: Final[Mapping[str, tuple[str, ...]]] = {
    "Pod": ("nodeName",), "PersistentVolumeClaim": ("volumeName",), "PersistentVolume": ("claimRef",),
}  # fmt: skip
"""Fields of the spec that others than the author write."""
_INERT_ELSEWHERE: Final = frozenset({("serving.knative.dev", "Service")})
"""Kinds of other groups that share a name with those below, and make pods."""
_INERT: Final = frozenset(
    {
        "ConfigMap", "Secret", "Service", "ServiceAccount", "Endpoints", "EndpointSlice", "Event", "Ingress",
        "NetworkPolicy", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "ResourceQuota", "LimitRange",
        "HorizontalPodAutoscaler", "CustomResourceDefinition", "Lease", "TenantPolicy", "KafkaTopic", "KafkaUser",
        "CSIDriver", "RuntimeClass", "ControllerRevision", "VolumeAttachment",
    }
)  # fmt: skip
"""Kinds that are not read because they start nothing and give no room."""


@dataclass(slots=True)
class Manifests:
    """Objects read from files, and the events they stand for."""

    documents: list[Document] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    """Kinds that are not read, with how many there are; known once the events are."""
    warnings: list[str] = field(default_factory=list)
    """What probably is a mistake, known once the events are."""
    workloads: dict[PodKey, set[str]] = field(default_factory=dict)
    """Names of the workloads that each pod belongs to, known once the events are."""
    finished: dict[PodKey, tuple[str, str]] = field(default_factory=dict)
    """Phase and node of each pod that has ended, known once the events are."""
    before: frozenset[PodKey] | None = None
    """The pods that there were before a change: every other one arrives with it. None where nothing is changed."""

    @classmethod
    def read(cls, paths: Iterable[Path]) -> "Manifests":
        """Read files, and folders of files.

        Raises:
            ManifestError: a file cannot be read, or is no YAML or JSON of Kubernetes objects.
        """
        return cls([document for path in paths for document in read_documents(path)])

    def changed(self, added: "Manifests", edited: "Manifests") -> "Manifests":
        """The same, once its own events are known, with objects added, and others in the place of those of their names.

        Raises:
            ManifestError: what is added is there already, or would start nothing because it is not read.
        """
        there = {_identity(document) for document in self.documents}
        for document in (*added.documents, *edited.documents):
            _start_something(document)
        for document in added.documents:
            if _identity(document) in there:
                raise ManifestError(f"{document.prefix}: is in the files already: give it as a change (--change)")
        new = {_identity(document): document for document in edited.documents}
        kept = [_edited(document, new.pop(_identity(document), document)) for document in self.documents]
        more = [replace(document, added=True) for document in (*new.values(), *added.documents)]
        found = Manifests([*kept, *more], before=frozenset(self.workloads))
        found.warnings = [f"{document.prefix}: is not in the files: it is added" for document in new.values()]
        return found

    def events(self) -> list[ev.Event]:
        """Everything as events, in file order within each kind; what pods refer to comes before them.

        Raises:
            ManifestError: an object is invalid.
        """
        return _Conversion(self).events()


def _identity(document: Document) -> tuple[str, str, str, str]:
    group = document.group
    if group is None:
        group = GROUPS.get(document.kind, ("",))[0]
    return (group, document.kind, str(document.metadata.get("namespace") or "default"), document.name)


def _edited(old: Document, new: Document) -> Document:
    """An object after an edit: what others wrote on it stays, as `kubectl apply` leaves it; null takes a label away."""
    if new is old:
        return old
    kept = {name: old.metadata[name] for name in ("uid", "creationTimestamp") if old.metadata.get(name)}
    said = {name: value for name, value in new.metadata.items() if value is not None}
    for name in ("labels", "annotations"):
        before, now = old.metadata.get(name), new.metadata.get(name) or {}
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            said[name] = {key: value for key, value in {**before, **now}.items() if value is not None}
    content = {**new.content, "metadata": {**kept, **said}}
    if (status := old.content.get("status")) and not content.get("status"):
        content["status"] = status
    fixed = {name: old.spec[name] for name in _FIXED.get(old.kind, ()) if old.spec.get(name)}
    if fixed and isinstance(new.content.get("spec"), Mapping):
        content["spec"] = {**fixed, **new.spec}
    return replace(new, content=content, edited=True)


def _is_read(document: Document) -> bool:
    """Whether the kind is one of ours to read; a group that is not named is the usual one."""
    groups = GROUPS.get(document.kind, ())
    return bool(groups) and (document.group is None or document.group in groups)


def _start_something(document: Document) -> None:
    """Refuse what would be left out, so that nobody is told that it starts.

    Raises:
        ManifestError: it makes pods in a way that is not imitated, or nobody knows what it is.
    """
    inert = document.kind in _INERT and (document.group, document.kind) not in _INERT_ELSEWHERE
    if _is_read(document) or inert:
        return
    how = MAKERS.get((_identity(document)[0] or _OURS, document.kind))
    if how is not None:
        raise ManifestError(f"{document.prefix}: {how}, which cannot be foreseen here: add the pods themselves")
    version = document.content.get("apiVersion")
    of = f"{document.kind} of {version}" if version else document.kind
    raise ManifestError(f"{document.prefix}: the kind {of} is not known: check its spelling, or leave it out")


def _same(first: Document, second: Document) -> bool:
    try:
        return first.content == second.content
    except RecursionError as error:
        raise ManifestError(f"{second.prefix}: it is nested too deeply: no object of Kubernetes is") from error


class _Conversion:
    """From documents to events."""

    def __init__(self, manifests: Manifests) -> None:
        self.manifests = manifests
        self.priorities: dict[str, workloads.PriorityClass] = {}
        self.default: workloads.PriorityClass | None = None
        self.gangs: dict[tuple[str, str], str] = {}
        self.fragile: set[tuple[str, str]] = set()
        self.tenant_namespaces: set[str] = set()
        self.csi: dict[str, storage.CSINode] = {}
        self.devices = Devices()
        self.storage = VolumeControllers()
        self.offered: set[str] = set()
        """Resources that nodes name."""
        self.made = 0
        self.latest = 0.0
        """The latest time of a pod that exists: what is added arrives then."""
        self.makers: dict[str, Callable[[Document], Iterable[ev.Event]]] = {
            "Node": self._node, "NodePool": self._pool, "Tenant": self._tenant, "Namespace": self._namespace,
            "PodGroup": self._group, "Job": self._job, "Pod": self._pod, "PodDisruptionBudget": self._budget,
            "PersistentVolumeClaim": self._claim, "PersistentVolume": self._volume, "StorageClass": self._storage_class,
        }  # fmt: skip
        self.preparers: dict[str, Callable[[Document], None]] = {
            "PriorityClass": self._priority_class, "CSINode": self._csi_node, "ResourceSlice": self._slice,
            "DeviceClass": self._device_class, "ResourceClaim": self._resource_claim,
            "ResourceClaimTemplate": self._claim_template, "PersistentVolume": self._known_volume,
            "StorageClass": self._known_storage_class,
        }  # fmt: skip

    def events(self) -> list[ev.Event]:
        documents = self._known(self.manifests.documents)
        for document in documents:
            preparer = self.preparers.get(document.kind)
            if preparer is not None:
                self._within(document, preparer)
        out: list[ev.Event] = [ev.StorageSeen(offered) for offered in self.devices.offered().values()]
        out += [ev.StorageSeen(holding) for holding in self.devices.holdings()]
        for document in documents:
            if document.kind != "Pod" and (maker := self.makers.get(document.kind)) is not None:
                out += self._checked(document, maker)
        out += self._pods(documents)
        self._look_over(documents)
        return out

    def _pods(self, documents: list[Document]) -> list[ev.Event]:
        """The pods that are there, then those to come, each with the claims of its own."""
        out: list[ev.Event] = []
        for document in documents:
            if document.kind == "Pod":
                out += self._checked(document, self._pod)
        self.latest = max((max(it.spec.created, it.spec.started or 0) for it in out if isinstance(it, ev.PodSeen)),
                          default=0.0)  # fmt: skip
        out = [self._arriving(document, event)
               for document, event in zip((it for it in documents if it.kind == "Pod"), out, strict=True)]  # fmt: skip
        present = Present.of(documents)
        there = {_identity(document) for document in documents if document.kind == "PersistentVolumeClaim"}
        for document in documents:
            if document.kind == "Pod":
                out += self._ephemeral(document, there)
        for document in documents:
            if document.kind not in TEMPLATED:
                continue
            parent = present.parents.get((document.namespace, document.name))
            if document.kind == "ReplicaSet" and (document.namespace, parent) in present.deployments:
                continue
            for each in self._to_come(document, present):
                if each.kind == "PersistentVolumeClaim":
                    out += [] if _identity(each) in there else self._checked(each, self._claim)
                else:
                    out += [self._arriving(each, event) for event in self._checked(each, self._pod)]
                    out += self._ephemeral(each, there)
        return out

    def _ephemeral(self, pod: Document, there: set[tuple[str, str, str, str]]) -> Iterator[ev.Event]:
        """A pod's own claims that are not there."""
        for claim in ephemeral_claims(pod):
            if _identity(claim) not in there:
                yield from self._checked(claim, self._claim)

    def _to_come(self, document: Document, present: Present) -> Iterator[Document]:
        workload = self._typed(document, Workload)
        made = present.made_by(document)
        if document.kind == "Deployment":
            selector = self._typed(document, Selecting).spec.selector
            made = [*made, *present.selected_by(document.namespace, selector)]
            for pod in made:
                self.manifests.workloads.setdefault((pod.namespace, pod.name), set()).add(document.name)
        try:
            missing = outstanding(document, workload, made)
            if missing < 0 and document.edited:
                self._warn(document, f"{-missing} pods more than it asks for are there: they stay here")
            for each in pods_to_come(document, workload, present, made):
                self.made += 1
                if self.made > MOST_PODS:
                    raise ManifestError(f"{document.prefix}: the templates make more than {MOST_PODS} pods in all")
                yield each
        except WorkloadError as error:
            raise ManifestError(f"{document.prefix}: {error.fault}") from error

    def _arriving(self, document: Document, event: ev.Event) -> ev.Event:
        """A pod that does not exist yet arrives behind everybody, unless it is added and says when it came."""
        if not isinstance(event, ev.PodSeen):
            return event
        before, key = self.manifests.before, event.spec.key
        new = not event.spec.created if document.added else before is not None and key not in before
        return ev.PodSeen(msgspec.structs.replace(event.spec, created=self.latest)) if new else event

    def _known(self, documents: Iterable[Document]) -> list[Document]:
        """Documents of the kinds that are read, each object once; the others are counted."""
        seen: dict[tuple[str, str, str, str], Document] = {}
        out = []
        for document in documents:
            if not _is_read(document):
                of = f" of {document.group}" if document.kind in GROUPS else ""
                self.manifests.ignored[document.kind + of] += 1
                continue
            first = seen.setdefault(_identity(document), document)
            if first is document:
                out.append(document)
            elif not _same(first, document):
                raise ManifestError(f"{document.prefix}: stands in {first.origin} already: remove one of them")
        return out

    # --- faults and warnings ------------------------------------------------------------------------------------

    def _warn(self, document: Document, text: str) -> None:
        warning = f"{document.prefix}: {text}"
        if not self.manifests.warnings or self.manifests.warnings[-1] != warning:
            self.manifests.warnings.append(warning)

    def _checked(self, document: Document, maker: Callable[[Document], Iterable[ev.Event]]) -> list[ev.Event]:
        return self._within(document, lambda it: list(maker(it)))

    def _within(self, document: Document, work: Callable[[Document], T]) -> T:
        try:
            return work(document)
        except ManifestError:
            raise
        except InvalidManifestError as error:
            raise ManifestError(of_model(document.prefix, error)) from error
        except (ValueError, OverflowError) as error:
            fault = value_fault(self._rewritten(document), ValueError(str(error)))
            raise self._error(document, fault) from error

    def _error(self, document: Document, fault: Fault) -> ManifestError:
        return ManifestError(f"{document.prefix}: {Fault(document.at(fault.path), fault.message)}")

    def _refuse(self, document: Document, faults: Iterable[Fault]) -> None:
        for fault in faults:
            raise self._error(document, fault)

    def _rewritten(self, document: Document) -> Any:  # noqa: ANN401 - any manifest
        return Rewriting(document.prefix).value(document.content)

    def _typed(self, document: Document, into: type[T]) -> T:
        try:
            return msgspec.convert(document.content, into)
        except (msgspec.ValidationError, RecursionError):
            content = self._rewritten(document)
        try:
            return msgspec.convert(content, into)
        except msgspec.ValidationError as error:
            raise self._error(document, typed_fault(content, error)) from error

    def _model(self, document: Document, model: type[R]) -> R:
        """One of our kinds: unknown fields of its spec are faults, as for `kubectl apply`; newer ones of status not."""
        content = self._rewritten(document)
        return model.parse({key: value for key, value in content.items() if key != "status"})

    def _look_over(self, documents: list[Document]) -> None:
        """Warn of references that lead nowhere, and of workloads none of whose pods are there."""
        nodes_there = {document.name for document in documents if document.kind == "Node"}
        pools = {document.name for document in documents if document.kind == "NodePool"} | {"default"}
        for document in documents:
            if document.kind == "Tenant":
                listed = document.spec.get("pools")
                for pool in listed if isinstance(listed, Mapping) else ():
                    if pool not in pools:
                        self._warn(document, f"spec.pools.{pool}: there is no NodePool of that name")
                for pool in document.spec.get("nodePools") or ():
                    if pool not in pools:
                        self._warn(document, f"spec.nodePools: there is no NodePool {pool}")
            elif document.kind == "Pod" and (node := document.spec.get("nodeName")) and node not in nodes_there:
                self._warn(document, f"spec.nodeName: there is no Node {node}: the pod takes no room")
        instances = {
            (document.namespace, labels.get(INSTANCE_LABEL))
            for document in documents
            if document.kind == "Pod" and isinstance(labels := document.metadata.get("labels"), Mapping)
        }
        for document in self.manifests.documents:
            how = None if _is_read(document) else MAKERS.get((_identity(document)[0] or _OURS, document.kind))
            if how is not None and (document.namespace, document.name) not in instances:
                self._warn(document, f"{how}: only those that are in the files count")

    # --- what others refer to -----------------------------------------------------------------------------------

    def _priority_class(self, document: Document) -> None:
        found = self._typed(document, workloads.PriorityClass)
        self._refuse(document, checks.priority_faults(found))
        self.priorities[document.name] = found
        if found.global_default:
            self.default = found

    def _csi_node(self, document: Document) -> None:
        self.csi[document.name] = self._typed(document, storage.CSINode)

    def _slice(self, document: Document) -> None:
        self.devices.slices[document.name] = self._typed(document, kube_devices.ResourceSlice)

    def _device_class(self, document: Document) -> None:
        self.devices.classes[document.name] = self._typed(document, kube_devices.DeviceClass)

    def _resource_claim(self, document: Document) -> None:
        claim = self._typed(document, kube_devices.ResourceClaim)
        self.devices.claims[document.namespace, document.name] = claim

    def _claim_template(self, document: Document) -> None:
        template = self._typed(document, kube_devices.ResourceClaimTemplate)
        self.devices.templates[document.namespace, document.name] = template.spec.spec

    def _known_volume(self, document: Document) -> None:
        self.storage.volumes[document.name] = volumes.volume(self._typed(document, storage.PersistentVolume))

    def _known_storage_class(self, document: Document) -> None:
        self.storage.note_class(self._typed(document, storage.StorageClass))

    # --- everything else ----------------------------------------------------------------------------------------

    def _node(self, document: Document) -> Iterable[ev.Event]:
        node = self._typed(document, nodes.Node)
        self._refuse(document, checks.node_faults(node))
        self.offered.update(node.status.allocatable or node.status.capacity)
        yield ev.NodeSeen(cluster.node_spec(node, self.csi.get(node.metadata.name)))

    def _pool(self, document: Document) -> Iterable[ev.Event]:
        yield ev.PoolSeen(cluster.pool_spec(self._model(document, NodePool)))

    def _tenant(self, document: Document) -> Iterable[ev.Event]:
        tenant = self._model(document, Tenant)
        self.tenant_namespaces.update(tenant.spec.namespaces)
        yield ev.TenantSeen(cluster.tenant_spec(tenant))

    def _namespace(self, document: Document) -> Iterable[ev.Event]:
        namespace = self._typed(document, nodes.Namespace)
        if TENANT_LABEL in namespace.metadata.labels:
            self.tenant_namespaces.add(namespace.metadata.name)
        yield cluster.namespace_seen(namespace)

    def _group(self, document: Document) -> Iterable[ev.Event]:
        if document.group == "scheduling.k8s.io":
            yield ev.GroupSeen(cluster.scheduling_group_spec(self._typed(document, workloads.SchedulingPodGroup)))
            return
        group = self._model(document, PodGroup)
        name, priority = group.spec.priority_class_name, None
        if name:
            priority = self._priority(name)
            if priority is None:
                self._warn(document, f"spec.priorityClassName: there is no PriorityClass {name!r}: the pods' own count")
        yield ev.GroupSeen(cluster.group_spec(group, priority=priority))

    def _job(self, document: Document) -> Iterable[ev.Event]:
        job = self._typed(document, workloads.Job)
        spec = cluster.gang_of_job(job)
        if cluster.dies_of_eviction(job) and not self._is_mended(document):
            self.fragile.add((document.namespace, document.name))
        if spec is not None:
            self.gangs[spec.namespace, job.metadata.name] = spec.name
            yield ev.GroupSeen(spec)

    def _is_mended(self, document: Document) -> bool:
        """Whether admission will let the Job outlive evictions: it is new, and says nothing of failures itself."""
        spec = self._typed(document, Workload).spec
        never = (spec.template.spec or {}).get("restartPolicy") == "Never"
        said = document.metadata.get("annotations")
        opted_out = isinstance(said, Mapping) and said.get(IGNORE_DISRUPTION_ANNOTATION) == "false"
        return never and spec.pod_failure_policy is None and not document.metadata.get("uid") and not opted_out

    def _pod(self, document: Document) -> Iterable[ev.Event]:
        pod = self._typed(document, pods.Pod)
        self._refuse(document, checks.pod_faults(pod.spec))
        owner = controller(document)
        key = (document.namespace, document.name)
        self._note_workloads(key, owner, pod)
        if has_finished(pod):
            self.manifests.finished[key] = (pod.status.phase, pod.spec.node_name)
            yield pod_gone(pod)
            return
        gang, fragile = None, False
        if owner is not None and owner[0] == "Job":
            of = (document.namespace, owner[1])
            gang, fragile = self.gangs.get(of), of in self.fragile
        if document.namespace in self.tenant_namespaces and not (pod.metadata.uid or pod.spec.node_name):
            pod = admission.with_default_requests(pod, self.offered)
        spec = pod_spec(pod, gang=gang, fragile=fragile, devices=self.devices)
        self._warn_of_words(document, pod)
        yield ev.PodSeen(self._admitted(document, pod, spec))

    def _note_workloads(self, key: PodKey, owner: tuple[str, str] | None, pod: pods.Pod) -> None:
        names = self.manifests.workloads.setdefault(key, set())
        if owner is not None:
            names.add(owner[1])
        if instance := pod.metadata.labels.get(INSTANCE_LABEL):
            names.add(instance)

    def _warn_of_words(self, document: Document, pod: pods.Pod) -> None:
        """Labels and annotations that are written otherwise than they are read."""
        label = pod.metadata.labels.get(PREEMPTIBLE_LABEL)
        if label not in (None, "true", "false"):
            field_name = document.at(f'metadata.labels["{PREEMPTIBLE_LABEL}"]')
            self._warn(document, f'{field_name}: {label!r} is taken for "true": write "true" or "false"')
        declared = pod.metadata.annotations.get(MAX_RUNTIME_ANNOTATION)
        if declared is not None and positive(declared) is None:
            field_name = document.at(f'metadata.annotations["{MAX_RUNTIME_ANNOTATION}"]')
            self._warn(document, f"{field_name}: {declared!r} is no number of seconds: it counts as none")

    def _admitted(self, document: Document, pod: pods.Pod, spec: PodSpec) -> PodSpec:
        """A pod as admission leaves it: with a priority, and in a tenant's namespace with our scheduler's name."""
        given = document.spec.get("schedulerName")
        new = given == "default-scheduler" and not (pod.metadata.uid or pod.spec.node_name)
        if document.namespace in self.tenant_namespaces:
            if not given or new:
                spec = msgspec.structs.replace(spec, ours=True)
            elif not spec.ours and not pod.spec.node_name:
                self._warn(document, f"{document.at('spec.schedulerName')}: {given!r} is left to place it")
        if pod.spec.priority is not None:
            return spec
        name = pod.spec.priority_class_name
        found = self.priorities.get(name) if name else self.default
        value = self._priority(name) if name else found.value if found is not None else 0
        if value is None:
            raise self._error(
                document,
                Fault("spec.priorityClassName", f"there is no PriorityClass {name!r}: add it, or set spec.priority"),
            )
        never = found is not None and found.preemption_policy == "Never"
        return msgspec.structs.replace(spec, priority=value, never_preempts=spec.never_preempts or never)

    def _priority(self, name: str) -> int | None:
        found = self.priorities.get(name)
        return found.value if found is not None else BUILT_IN.get(name)

    def _budget(self, document: Document) -> Iterable[ev.Event]:
        budget = self._typed(document, workloads.PodDisruptionBudget)
        self._refuse(document, checks.budget_faults(budget))
        yield ev.BudgetSeen(cluster.budget_spec(budget))

    def _claim(self, document: Document) -> Iterable[ev.Event]:
        claim = self.storage.claim(self._typed(document, storage.PersistentVolumeClaim))
        yield ev.StorageSeen(claim)
        if not claim.uid and claim.volume in self.storage.volumes:
            yield ev.StorageSeen(self.storage.volumes[claim.volume])  # it has just been taken

    def _volume(self, document: Document) -> Iterable[ev.Event]:
        volume = self.storage.volumes[document.name]
        if volume.storage_class is None:
            yield ev.StorageSeen(CLASSLESS)
        yield ev.StorageSeen(volume)

    def _storage_class(self, document: Document) -> Iterable[ev.Event]:
        yield ev.StorageSeen(binding_with_pods(self._typed(document, storage.StorageClass)))
