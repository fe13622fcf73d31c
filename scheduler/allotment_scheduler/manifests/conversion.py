"""Documents into events, with what admission and controllers would have added.

The order: what others refer to first (priority classes, tenants' namespaces, storage, devices), then everything in the
order in which it stands, pods last, because a pod's Job must be known. Pods that workloads have still to make follow
those that are there.

What admission sets in tenants' namespaces is set here: a pod that names no scheduler is ours, a Job with pods that are
never restarted outlives evictions, a priority class gives its value. What exists already is taken as it is.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from allotment_api.labels import IGNORE_DISRUPTION_ANNOTATION, INSTANCE_LABEL, TENANT_LABEL
from allotment_api.node_pool import NodePool
from allotment_api.pod_group import PodGroup
from allotment_api.tenant import Tenant
from allotment_kube import devices as kube_devices
from allotment_kube import nodes, pods, storage, workloads
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.pods import PodKey
from allotment_scheduler.manifests import checks, doubts
from allotment_scheduler.manifests.admission import Admission, is_new
from allotment_scheduler.manifests.claims import CLASSLESS, VolumeControllers, binding_with_pods, ephemeral_claims
from allotment_scheduler.manifests.documents import Document, read_documents
from allotment_scheduler.manifests.edits import edited
from allotment_scheduler.manifests.faults import ManifestError
from allotment_scheduler.manifests.kinds import GROUPS, Identity, identity, is_read, refuse_unforeseen
from allotment_scheduler.manifests.typed import modelled, naming_faults, refuse, typed
from allotment_scheduler.manifests.workloads import (
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

    def changed(self, additions: "Manifests", edits: "Manifests") -> "Manifests":
        """The same, once its own events are known, with objects added, and others in the place of those of their names.

        Raises:
            ManifestError: what is added is there already, or would start nothing because it is not read.
        """
        there = {identity(document) for document in self.documents}
        for document in (*additions.documents, *edits.documents):
            refuse_unforeseen(document)
        for document in additions.documents:
            if identity(document) in there:
                raise ManifestError(f"{document.prefix}: is in the files already: give it as a change (--change)")
        new = {identity(document): document for document in edits.documents}
        kept = [
            edited(document, new.pop(key)) if (key := identity(document)) in new else document
            for document in self.documents
        ]
        more = [replace(document, arrives=True) for document in (*new.values(), *additions.documents)]
        found = Manifests([*kept, *more], before=frozenset(self.workloads))
        found.warnings = [f"{document.prefix}: is not in the files: it is added" for document in new.values()]
        return found

    def events(self) -> list[ev.Event]:
        """Everything as events, in file order within each kind; what pods refer to comes before them.

        Raises:
            ManifestError: an object is invalid.
        """
        return _Conversion(self).events()


def _same(first: Document, second: Document) -> bool:
    try:
        return first.content == second.content
    except RecursionError as error:
        raise ManifestError(f"{second.prefix}: it is nested too deeply: no object of Kubernetes is") from error


class _Conversion:
    """From documents to events."""

    def __init__(self, manifests: Manifests) -> None:
        self.manifests = manifests
        self.admission = Admission()
        self.gangs: dict[tuple[str, str], str] = {}
        self.fragile: set[tuple[str, str]] = set()
        self.csi: dict[str, storage.CSINode] = {}
        self.devices = Devices()
        self.storage = VolumeControllers()
        self.made = 0
        self.looked_over: set[tuple[str, str]] = set()
        """Documents, and templates, that have been searched for misspelt fields."""
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
                naming_faults(document, preparer)
        out: list[ev.Event] = [ev.StorageSeen(offered) for offered in self.devices.offered().values()]
        out += [ev.StorageSeen(holding) for holding in self.devices.holdings()]
        for document in documents:
            if document.kind != "Pod" and (maker := self.makers.get(document.kind)) is not None:
                out += self._checked(document, maker)
        out += self._pods(documents)
        for document, doubt in (
            *doubts.lost_references(documents),
            *doubts.missing_pods(self.manifests.documents, documents),
        ):
            self._warn(document, doubt)
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
        there = {identity(document) for document in documents if document.kind == "PersistentVolumeClaim"}
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
                    out += [] if identity(each) in there else self._checked(each, self._claim)
                else:
                    out += [self._arriving(each, event) for event in self._checked(each, self._pod)]
                    out += self._ephemeral(each, there)
        return out

    def _ephemeral(self, pod: Document, there: set[Identity]) -> Iterator[ev.Event]:
        """A pod's own claims that are not there."""
        for claim in ephemeral_claims(pod):
            if identity(claim) not in there:
                yield from self._checked(claim, self._claim)

    def _to_come(self, document: Document, present: Present) -> Iterator[Document]:
        workload = typed(document, Workload)
        self._look_over(document, Workload)
        made = present.made_by(document)
        if document.kind == "Deployment":
            selector = typed(document, Selecting).spec.selector
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
        new = not event.spec.created if document.arrives else before is not None and key not in before
        return ev.PodSeen(msgspec.structs.replace(event.spec, created=self.latest)) if new else event

    def _known(self, documents: Iterable[Document]) -> list[Document]:
        """Documents of the kinds that are read, each object once; the others are counted."""
        seen: dict[Identity, Document] = {}
        out = []
        for document in documents:
            if not is_read(document):
                of = f" of {document.group}" if document.kind in GROUPS else ""
                self.manifests.ignored[document.kind + of] += 1
                continue
            refuse(document, checks.name_faults(document.name, document.namespace))
            first = seen.setdefault(identity(document), document)
            if first is document:
                out.append(document)
            elif not _same(first, document):
                raise ManifestError(f"{document.prefix}: stands in {first.origin} already: remove one of them")
        return out

    def _look_over(self, document: Document, read_as: type[msgspec.Struct]) -> None:
        """Doubt the fields of what is new, of a template once."""
        key = (document.origin, document.maker)
        if document.metadata.get("uid") or key in self.looked_over:
            return
        self.looked_over.add(key)
        for _, doubt in doubts.misspelt_fields(document, read_as):
            self._warn(document, doubt)

    def _warn(self, document: Document, text: str) -> None:
        warning = f"{document.prefix}: {text}"
        if not self.manifests.warnings or self.manifests.warnings[-1] != warning:
            self.manifests.warnings.append(warning)

    def _checked(self, document: Document, maker: Callable[[Document], Iterable[ev.Event]]) -> list[ev.Event]:
        return naming_faults(document, lambda it: list(maker(it)))

    # --- what others refer to -----------------------------------------------------------------------------------

    def _priority_class(self, document: Document) -> None:
        found = typed(document, workloads.PriorityClass)
        refuse(document, checks.priority_faults(found))
        self.admission.note_class(found)

    def _csi_node(self, document: Document) -> None:
        self.csi[document.name] = typed(document, storage.CSINode)

    def _slice(self, document: Document) -> None:
        self.devices.slices[document.name] = typed(document, kube_devices.ResourceSlice)

    def _device_class(self, document: Document) -> None:
        self.devices.classes[document.name] = typed(document, kube_devices.DeviceClass)

    def _resource_claim(self, document: Document) -> None:
        claim = typed(document, kube_devices.ResourceClaim)
        self.devices.claims[document.namespace, document.name] = claim

    def _claim_template(self, document: Document) -> None:
        template = typed(document, kube_devices.ResourceClaimTemplate)
        self.devices.templates[document.namespace, document.name] = template.spec.spec

    def _known_volume(self, document: Document) -> None:
        self.storage.volumes[document.name] = volumes.volume(typed(document, storage.PersistentVolume))

    def _known_storage_class(self, document: Document) -> None:
        self.storage.note_class(typed(document, storage.StorageClass))

    # --- everything else ----------------------------------------------------------------------------------------

    def _node(self, document: Document) -> Iterable[ev.Event]:
        node = typed(document, nodes.Node)
        self._look_over(document, nodes.Node)
        refuse(document, checks.node_faults(node))
        self.admission.offered.update(node.status.allocatable or node.status.capacity)
        yield ev.NodeSeen(cluster.node_spec(node, self.csi.get(node.metadata.name)))

    def _pool(self, document: Document) -> Iterable[ev.Event]:
        yield ev.PoolSeen(cluster.pool_spec(modelled(document, NodePool)))

    def _tenant(self, document: Document) -> Iterable[ev.Event]:
        tenant = modelled(document, Tenant)
        self.admission.tenant_namespaces.update(tenant.spec.namespaces)
        yield ev.TenantSeen(cluster.tenant_spec(tenant))

    def _namespace(self, document: Document) -> Iterable[ev.Event]:
        namespace = typed(document, nodes.Namespace)
        if TENANT_LABEL in namespace.metadata.labels:
            self.admission.tenant_namespaces.add(namespace.metadata.name)
        yield cluster.namespace_seen(namespace)

    def _group(self, document: Document) -> Iterable[ev.Event]:
        if document.group == "scheduling.k8s.io":
            yield ev.GroupSeen(cluster.scheduling_group_spec(typed(document, workloads.SchedulingPodGroup)))
            return
        group = modelled(document, PodGroup)
        name, priority = group.spec.priority_class_name, None
        if name:
            priority = self.admission.priority(name)
            if priority is None:
                self._warn(document, f"spec.priorityClassName: there is no PriorityClass {name!r}: the pods' own count")
        yield ev.GroupSeen(cluster.group_spec(group, priority=priority))

    def _job(self, document: Document) -> Iterable[ev.Event]:
        job = typed(document, workloads.Job)
        spec = cluster.gang_of_job(job)
        if cluster.dies_of_eviction(job) and not self._is_mended(document):
            self.fragile.add((document.namespace, document.name))
        if spec is not None:
            self.gangs[spec.namespace, job.metadata.name] = spec.name
            yield ev.GroupSeen(spec)

    def _is_mended(self, document: Document) -> bool:
        """Whether admission will let the Job outlive evictions: it is new, and says nothing of failures itself."""
        job = typed(document, Workload)
        never = (job.spec.template.spec or {}).get("restartPolicy") == "Never"
        opted_out = job.metadata.annotations.get(IGNORE_DISRUPTION_ANNOTATION) == "false"
        return never and job.spec.pod_failure_policy is None and not job.metadata.uid and not opted_out

    def _pod(self, document: Document) -> Iterable[ev.Event]:
        pod = typed(document, pods.Pod)
        self._look_over(document, pods.Pod)
        refuse(document, checks.pod_faults(pod.spec))
        if is_new(pod):
            refuse(document, checks.container_faults(pod.spec))
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
        pod = self.admission.requesting(document, pod)
        spec = pod_spec(pod, gang=gang, fragile=fragile, devices=self.devices)
        spec = msgspec.structs.replace(spec, ours=self.admission.is_ours(document, pod, spec))
        for _, doubt in doubts.misread_words(document, pod):
            self._warn(document, doubt)
        if document.namespace in self.admission.tenant_namespaces and not (spec.ours or pod.spec.node_name):
            named = document.spec.get("schedulerName")
            self._warn(document, f"{document.at('spec.schedulerName')}: {named!r} is left to place it")
        yield ev.PodSeen(self.admission.prioritised(document, pod, spec))

    def _note_workloads(self, key: PodKey, owner: tuple[str, str] | None, pod: pods.Pod) -> None:
        names = self.manifests.workloads.setdefault(key, set())
        if owner is not None:
            names.add(owner[1])
        if instance := pod.metadata.labels.get(INSTANCE_LABEL):
            names.add(instance)

    def _budget(self, document: Document) -> Iterable[ev.Event]:
        budget = typed(document, workloads.PodDisruptionBudget)
        self._look_over(document, workloads.PodDisruptionBudget)
        refuse(document, checks.budget_faults(budget))
        yield ev.BudgetSeen(cluster.budget_spec(budget))

    def _claim(self, document: Document) -> Iterable[ev.Event]:
        self._look_over(document, storage.PersistentVolumeClaim)
        claim = self.storage.claim(typed(document, storage.PersistentVolumeClaim))
        yield ev.StorageSeen(claim)
        if not claim.uid and claim.volume in self.storage.volumes:
            yield ev.StorageSeen(self.storage.volumes[claim.volume])  # it has just been taken

    def _volume(self, document: Document) -> Iterable[ev.Event]:
        volume = self.storage.volumes[document.name]
        if volume.storage_class is None:
            yield ev.StorageSeen(CLASSLESS)
        yield ev.StorageSeen(volume)

    def _storage_class(self, document: Document) -> Iterable[ev.Event]:
        yield ev.StorageSeen(binding_with_pods(typed(document, storage.StorageClass)))
