"""Manifests: what `kubectl get … -o yaml` prints, read into events for the core.

Files hold any mix of kinds, in YAML or JSON, several documents per file, Lists included. Objects become events in the
order in which they stand; that order breaks ties of creation time. Kinds that the scheduler does not know are counted
and left out. Whatever is wrong names the file, the document and the field.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from allotment_api.errors import InvalidManifestError
from allotment_api.node_pool import NodePool
from allotment_api.pod_group import PodGroup
from allotment_api.quantities import QuantityError
from allotment_api.tenant import Tenant
from allotment_kube import devices as kube_devices
from allotment_kube import nodes, pods, storage, workloads
from allotment_scheduler.core import events as ev
from allotment_scheduler.translation import cluster
from allotment_scheduler.translation import storage as volumes
from allotment_scheduler.translation.devices import Devices
from allotment_scheduler.translation.pods import has_finished, pod_gone, pod_spec

Manifest = Mapping[str, Any]
T = TypeVar("T")
_DEVICE_KINDS = ("ResourceSlice", "DeviceClass", "ResourceClaim", "ResourceClaimTemplate")


class ManifestError(ValueError):
    """A manifest cannot be read; the message says where and what to change."""


@dataclass(frozen=True, slots=True)
class Document:
    """One object with the place it stands in."""

    origin: str
    content: Manifest

    @property
    def kind(self) -> str:
        """Its kind."""
        return str(self.content.get("kind", ""))

    @property
    def title(self) -> str:
        """Kind and name for messages."""
        metadata = self.content.get("metadata") or {}
        return f"{self.kind} {metadata.get('name', '(without a name)')}"


@dataclass(slots=True)
class Manifests:
    """Objects read from files, by kind, and the events they stand for."""

    documents: list[Document] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)

    @classmethod
    def read(cls, paths: Iterable[Path]) -> "Manifests":
        """Read files.

        Raises:
            ManifestError: a file cannot be read, or is no YAML or JSON of Kubernetes objects.
        """
        return cls([document for path in paths for document in read_documents(path)])

    def events(self) -> list[ev.Event]:
        """Everything as events, in file order within each kind; what pods refer to comes before them.

        Raises:
            ManifestError: an object is invalid.
        """
        return _Conversion(self).events()


def read_documents(path: Path) -> Iterator[Document]:
    """The objects of one file, Lists taken apart; "-" is standard input."""
    name = "standard input" if str(path) == "-" else str(path)
    try:
        text = Path("/dev/stdin").read_text() if str(path) == "-" else path.read_text()
    except OSError as error:
        raise ManifestError(f"{name}: cannot be read: {error.strerror}") from error
    for number, content in enumerate(_parse(name, text), start=1):
        if content is not None:
            yield from _unfold(f"{name}, document {number}", content)


def _parse(name: str, text: str) -> Iterable[Any]:
    try:
        if text.lstrip().startswith("{"):
            return [msgspec.json.decode(text)]
    except msgspec.DecodeError:
        pass  # several JSON documents, or flow-style YAML: the YAML reader takes both
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return list(yaml.load_all(text, Loader=loader))
    except yaml.YAMLError as error:
        raise ManifestError(f"{name}: is no YAML: {error}") from error


def _unfold(origin: str, content: object) -> Iterator[Document]:
    if not isinstance(content, dict) or "kind" not in content:
        raise ManifestError(f"{origin}: is no Kubernetes object: it needs apiVersion, kind and metadata")
    items = content.get("items")
    if content["kind"].endswith("List") and isinstance(items, list):
        inner = content["kind"].removesuffix("List")
        for number, item in enumerate(items, start=1):
            yield from _unfold(f"{origin}, item {number}", {"kind": inner, **item} if isinstance(item, dict) else item)
    else:
        yield Document(origin, content)


class _Conversion:
    """From documents to events."""

    def __init__(self, manifests: Manifests) -> None:
        self.manifests = manifests
        self.priorities: dict[str, int] = {}
        self.default_priority = 0
        self.gangs: dict[tuple[str, str], str] = {}
        self.fragile: set[tuple[str, str]] = set()
        self.csi: dict[str, storage.CSINode] = {}
        self.devices = Devices()
        self.makers: dict[str, Callable[[Document], Iterable[ev.Event]]] = {
            "Node": self._node, "NodePool": self._pool, "Tenant": self._tenant, "Namespace": self._namespace,
            "PodGroup": self._group, "Job": self._job, "Pod": self._pod, "PodDisruptionBudget": self._budget,
            "PersistentVolumeClaim": self._claim, "PersistentVolume": self._volume, "StorageClass": self._storage_class,
        }  # fmt: skip

    def events(self) -> list[ev.Event]:
        documents = self.manifests.documents
        for document in documents:
            if document.kind == "PriorityClass":
                found = self._typed(document, workloads.PriorityClass)
                self.priorities[found.metadata.name] = found.value
                if found.global_default:
                    self.default_priority = found.value
            elif document.kind == "CSINode":
                csi = self._typed(document, storage.CSINode)
                self.csi[csi.metadata.name] = csi
            elif document.kind in _DEVICE_KINDS:
                self._device_object(document)
        out: list[ev.Event] = [ev.StorageSeen(offered) for offered in self.devices.offered().values()]
        out += [ev.StorageSeen(holding) for holding in self.devices.holdings()]
        pods_last = sorted(documents, key=lambda document: document.kind == "Pod")  # a pod's Job must be known
        for document in pods_last:
            maker = self.makers.get(document.kind)
            if maker is not None:
                out += self._checked(document, maker)
            elif document.kind not in ("PriorityClass", "CSINode", *_DEVICE_KINDS):
                self.manifests.ignored[document.kind] += 1
        return out

    def _device_object(self, document: Document) -> None:
        if document.kind == "ResourceSlice":
            offered = self._typed(document, kube_devices.ResourceSlice)
            self.devices.slices[offered.metadata.name] = offered
        elif document.kind == "DeviceClass":
            of_class = self._typed(document, kube_devices.DeviceClass)
            self.devices.classes[of_class.metadata.name] = of_class
        elif document.kind == "ResourceClaim":
            claim = self._typed(document, kube_devices.ResourceClaim)
            self.devices.claims[claim.metadata.namespace or "default", claim.metadata.name] = claim
        else:
            template = self._typed(document, kube_devices.ResourceClaimTemplate)
            key = (template.metadata.namespace or "default", template.metadata.name)
            self.devices.templates[key] = template.spec.spec

    def _checked(self, document: Document, maker: Callable[[Document], Iterable[ev.Event]]) -> Iterable[ev.Event]:
        try:
            return list(maker(document))
        except InvalidManifestError as error:
            raise ManifestError(f"{document.origin}: {error}") from error
        except (QuantityError, ValueError) as error:
            raise ManifestError(f"{document.origin}: {document.title}: {error}") from error

    def _typed(self, document: Document, into: type[T]) -> T:
        try:
            return msgspec.convert(document.content, into, strict=False)
        except msgspec.ValidationError as error:
            raise ManifestError(f"{document.origin}: {document.title}: {error}") from error

    def _node(self, document: Document) -> Iterable[ev.Event]:
        node = self._typed(document, nodes.Node)
        yield ev.NodeSeen(cluster.node_spec(node, self.csi.get(node.metadata.name)))

    def _pool(self, document: Document) -> Iterable[ev.Event]:
        yield ev.PoolSeen(cluster.pool_spec(NodePool.parse(document.content, strict=False)))

    def _tenant(self, document: Document) -> Iterable[ev.Event]:
        yield ev.TenantSeen(cluster.tenant_spec(Tenant.parse(document.content, strict=False)))

    def _namespace(self, document: Document) -> Iterable[ev.Event]:
        yield cluster.namespace_seen(self._typed(document, nodes.Namespace))

    def _group(self, document: Document) -> Iterable[ev.Event]:
        if str(document.content.get("apiVersion", "")).startswith("scheduling.k8s.io/"):
            yield ev.GroupSeen(cluster.scheduling_group_spec(self._typed(document, workloads.SchedulingPodGroup)))
            return
        group = PodGroup.parse(document.content, strict=False)
        name = group.spec.priority_class_name
        yield ev.GroupSeen(cluster.group_spec(group, priority=self.priorities.get(name) if name else None))

    def _job(self, document: Document) -> Iterable[ev.Event]:
        job = self._typed(document, workloads.Job)
        spec = cluster.gang_of_job(job)
        if cluster.dies_of_eviction(job):
            self.fragile.add((job.metadata.namespace or "default", job.metadata.name))
        if spec is not None:
            self.gangs[spec.namespace, job.metadata.name] = spec.name
            yield ev.GroupSeen(spec)

    def _pod(self, document: Document) -> Iterable[ev.Event]:
        pod = self._typed(document, pods.Pod)
        if has_finished(pod):
            yield pod_gone(pod)
            return
        controller = pod.metadata.controller
        gang, fragile = None, False
        if controller is not None and controller.kind == "Job":
            key = (pod.metadata.namespace or "default", controller.name)
            gang, fragile = self.gangs.get(key), key in self.fragile
        spec = pod_spec(pod, gang=gang, fragile=fragile, devices=self.devices)
        if pod.spec.priority is None:
            name = (document.content.get("spec") or {}).get("priorityClassName")
            if name and name not in self.priorities:
                raise ManifestError(
                    f"{document.origin}: {document.title}: spec.priorityClassName: there is no PriorityClass {name!r} "
                    "in the files: add it, or set spec.priority"
                )
            spec = msgspec.structs.replace(spec, priority=self.priorities[name] if name else self.default_priority)
        yield ev.PodSeen(spec)

    def _budget(self, document: Document) -> Iterable[ev.Event]:
        yield ev.BudgetSeen(cluster.budget_spec(self._typed(document, workloads.PodDisruptionBudget)))

    def _claim(self, document: Document) -> Iterable[ev.Event]:
        yield ev.StorageSeen(volumes.claim(self._typed(document, storage.PersistentVolumeClaim)))

    def _volume(self, document: Document) -> Iterable[ev.Event]:
        yield ev.StorageSeen(volumes.volume(self._typed(document, storage.PersistentVolume)))

    def _storage_class(self, document: Document) -> Iterable[ev.Event]:
        yield ev.StorageSeen(volumes.storage_class(self._typed(document, storage.StorageClass)))
