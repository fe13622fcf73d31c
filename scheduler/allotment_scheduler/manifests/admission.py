"""Admission: what a pod of a tenant's namespace gets before it is stored.

A pod that names no scheduler is ours; containers that say nothing request what the namespace's LimitRange gives them;
a priority class gives its value, in every namespace. A pod that exists already is taken as it is.
"""

from collections.abc import Container as Having
from dataclasses import dataclass, field
from typing import Final

from msgspec import structs

from allotment_api.errors import Fault
from allotment_api.tenant import DEFAULT_REQUESTS
from allotment_kube import pods, workloads
from allotment_scheduler.core.objects.pods import PodSpec
from allotment_scheduler.manifests.documents import Document
from allotment_scheduler.manifests.typed import fault_error

BUILT_IN: Final = {
    "system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000,
    "allotment-low": -1000, "allotment-high": 1000, "allotment-service": 10_000,
}  # fmt: skip
"""Priority classes that every cluster has, and those of our chart; files may hold others of these names."""


@dataclass(slots=True)
class Admission:
    """What decides about new pods, as far as the files say it."""

    tenant_namespaces: set[str] = field(default_factory=set)
    offered: set[str] = field(default_factory=set)
    """Resources that nodes name."""
    priorities: dict[str, workloads.PriorityClass] = field(default_factory=dict)
    default: workloads.PriorityClass | None = None
    """The priority class of pods that name none."""

    def note_class(self, found: workloads.PriorityClass) -> None:
        """Know a priority class."""
        self.priorities[found.metadata.name] = found
        if found.global_default:
            self.default = found

    def priority(self, name: str) -> int | None:
        """The value of a priority class; None where there is none of that name."""
        found = self.priorities.get(name)
        return found.value if found is not None else BUILT_IN.get(name)

    def requesting(self, document: Document, pod: pods.Pod) -> pods.Pod:
        """A pod with the requests that the LimitRange of a tenant's namespace gives it."""
        if document.namespace in self.tenant_namespaces and is_new(pod):
            return with_default_requests(pod, self.offered)
        return pod

    def is_ours(self, document: Document, pod: pods.Pod, spec: PodSpec) -> bool:
        """Whether the scheduler places a pod: by its name, or because the pod of a tenant names none."""
        named = document.spec.get("schedulerName")
        of_no_choice = not named or (named == "default-scheduler" and is_new(pod))
        return spec.ours or (of_no_choice and document.namespace in self.tenant_namespaces)

    def prioritised(self, document: Document, pod: pods.Pod, spec: PodSpec) -> PodSpec:
        """A pod with the priority that its class, or the default one, gives it.

        Raises:
            ManifestError: there is no such class.
        """
        if pod.spec.priority is not None:
            return spec
        name = pod.spec.priority_class_name
        found = self.priorities.get(name) if name else self.default
        value = self.priority(name) if name else found.value if found is not None else 0
        if value is None:
            text = f"there is no PriorityClass {name!r}: add it, or set spec.priority"
            raise fault_error(document, Fault("spec.priorityClassName", text))
        never = found is not None and found.preemption_policy == "Never"
        return structs.replace(spec, priority=value, never_preempts=spec.never_preempts or never)


def is_new(pod: pods.Pod) -> bool:
    """Whether a pod has still to pass admission."""
    return not (pod.metadata.uid or pod.spec.node_name)


def with_default_requests(pod: pods.Pod, offered: Having[str]) -> pods.Pod:
    """A pod whose containers request what the namespace's LimitRange gives those that say nothing.

    Args:
        pod: as it was written.
        offered: resources that nodes name; others are left out, for manifests by hand may be about CPUs alone.
    """
    defaults = {name: text for name, text in DEFAULT_REQUESTS.items() if name in offered}
    spec = pod.spec
    containers = tuple(_filled(each, defaults) for each in spec.containers)
    before = tuple(_filled(each, defaults) for each in spec.init_containers)
    return structs.replace(pod, spec=structs.replace(spec, containers=containers, init_containers=before))


def _filled(container: pods.Container, defaults: dict[str, str]) -> pods.Container:
    resources = container.resources
    missing = {name: text for name, text in defaults.items()
               if name not in resources.requests and name not in resources.limits}  # fmt: skip
    if not missing:
        return container
    return structs.replace(container, resources=structs.replace(resources, requests={**missing, **resources.requests}))
