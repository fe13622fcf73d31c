"""Kinds as the API addresses them: group, version and plural to paths, and the type their objects decode into.

A `Resource[T]` is all that a request needs to know about a kind. `T` is a typed view (`Pod`) or `Object`, a plain
dict; `resource.untyped` and `resource.decoded_as(T)` change the view, never the address. The constants below are the
kinds both programs meet all the time; any other kind is built by hand (`Resource.custom`) or asked of the server
(`Client.discover`).

Invariant: a name or namespace can never leave its path segment; what is not plainly safe is percent-encoded.
"""

import re
from dataclasses import dataclass, field, replace
from typing import Final, Generic, TypeVar
from urllib.parse import quote

from .devices import DeviceClass, ResourceClaim, ResourceSlice
from .models import Object
from .nodes import Namespace, Node
from .pods import Pod
from .storage import CSINode, PersistentVolume, PersistentVolumeClaim, StorageClass
from .workloads import Job, LeaseObject, PodDisruptionBudget, PriorityClass

T = TypeVar("T")
U = TypeVar("U")

_SAFE_SEGMENT: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._:-]*)")


def path_segment(name: str) -> str:
    """Encode a name for use in a path.

    Raises:
        ValueError: the name is empty or would climb the path.
    """
    if _SAFE_SEGMENT.fullmatch(name):
        return name
    if name in {"", ".", ".."}:
        raise ValueError(f"{name!r} cannot be the name of an object")
    return quote(name, safe="")


@dataclass(frozen=True, slots=True)
class Resource(Generic[T]):
    """A kind of object: where it lives in the API and what it decodes into."""

    group: str
    version: str
    plural: str
    kind: str
    model: type[T]
    namespaced: bool = True
    # Derived once: this prefix starts every path of the kind.
    prefix: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        object.__setattr__(self, "prefix", root)

    @staticmethod
    def custom(api_version: str, kind: str, plural: str, *, namespaced: bool = True) -> "Resource[Object]":
        """Name a kind that has no constant here; its objects are dicts."""
        group, _, version = api_version.rpartition("/")
        return Resource(group, version, plural, kind, Object, namespaced)

    @property
    def api_version(self) -> str:
        """As written in manifests: `v1` or `batch/v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def untyped(self) -> "Resource[Object]":
        """The same kind with objects as plain dicts."""
        return self.decoded_as(Object)

    def decoded_as(self, model: type[U]) -> "Resource[U]":
        """The same kind with objects decoded into another type."""
        return replace(self, model=model)  # type: ignore[arg-type, return-value] # replace() cannot change T for mypy

    def collection(self, namespace: str = "") -> str:
        """Path of the list of objects, of one namespace or of all."""
        if namespace:
            if not self.namespaced:
                raise ValueError(f"{self.kind} is cluster-scoped: leave the namespace out")
            return f"{self.prefix}/namespaces/{path_segment(namespace)}/{self.plural}"
        return f"{self.prefix}/{self.plural}"

    def item(self, name: str, namespace: str = "", subresource: str = "") -> str:
        """Path of one object or of its subresource."""
        if self.namespaced and not namespace:
            raise ValueError(f"{self.kind} {name!r} needs a namespace")
        path = f"{self.collection(namespace)}/{path_segment(name)}"
        return f"{path}/{subresource}" if subresource else path

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


PODS: Final = Resource("", "v1", "pods", "Pod", Pod)
NODES: Final = Resource("", "v1", "nodes", "Node", Node, namespaced=False)
NAMESPACES: Final = Resource("", "v1", "namespaces", "Namespace", Namespace, namespaced=False)
PERSISTENT_VOLUME_CLAIMS: Final = Resource(
    "", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", PersistentVolumeClaim
)
PERSISTENT_VOLUMES: Final = Resource(
    "", "v1", "persistentvolumes", "PersistentVolume", PersistentVolume, namespaced=False
)
STORAGE_CLASSES: Final = Resource(
    "storage.k8s.io", "v1", "storageclasses", "StorageClass", StorageClass, namespaced=False
)
CSI_NODES: Final = Resource("storage.k8s.io", "v1", "csinodes", "CSINode", CSINode, namespaced=False)
POD_DISRUPTION_BUDGETS: Final = Resource(
    "policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", PodDisruptionBudget
)
PRIORITY_CLASSES: Final = Resource(
    "scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", PriorityClass, namespaced=False
)
JOBS: Final = Resource("batch", "v1", "jobs", "Job", Job)
LEASES: Final = Resource("coordination.k8s.io", "v1", "leases", "Lease", LeaseObject)
RESOURCE_CLAIMS: Final = Resource("resource.k8s.io", "v1", "resourceclaims", "ResourceClaim", ResourceClaim)
RESOURCE_SLICES: Final = Resource(
    "resource.k8s.io", "v1", "resourceslices", "ResourceSlice", ResourceSlice, namespaced=False
)
DEVICE_CLASSES: Final = Resource("resource.k8s.io", "v1", "deviceclasses", "DeviceClass", DeviceClass, namespaced=False)

# Kinds that are written and read as plain dicts.
CONFIG_MAPS: Final = Resource.custom("v1", "ConfigMap", "configmaps")
SECRETS: Final = Resource.custom("v1", "Secret", "secrets")
SERVICES: Final = Resource.custom("v1", "Service", "services")
SERVICE_ACCOUNTS: Final = Resource.custom("v1", "ServiceAccount", "serviceaccounts")
EVENTS: Final = Resource.custom("events.k8s.io/v1", "Event", "events")
DEPLOYMENTS: Final = Resource.custom("apps/v1", "Deployment", "deployments")
STATEFUL_SETS: Final = Resource.custom("apps/v1", "StatefulSet", "statefulsets")
CUSTOM_RESOURCE_DEFINITIONS: Final = Resource.custom(
    "apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False
)
