"""What a pod requests in all, by Kubernetes' arithmetic, from its spec and from what its kubelet says of a resize.

The API server rounds every quantity up to thousandths, kube-scheduler sums and then rounds to the unit: so two
containers of 100.5 milli-CPU make 202, and two of 1.5 bytes make 3. A pod that is being resized in place counts the
most of what it asks for, what it was promised and what it has (KEP-1287,
`k8s.io/component-helpers/resource/helpers.go`); an infeasible wish does not count.

The API server admits any quantity up to 9E, which is 9e21 milli-CPU. What is more than any node has counts as `MOST`:
the core's sums are of 64 bits, and one pod's nonsense must not end them for all.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from allotment_api.quantities import CPU, quantity
from allotment_kube import pods as kube
from allotment_scheduler.core.objects.requests import ContainerNeeds, pod_requests

MOST: Final = 2**53
"""Units: 9 petabytes, or 9 million million processors; sums of a thousand such pods still fit."""
_THOUSAND: Final = 1000


def requests_of(pod: kube.Pod) -> dict[str, int]:
    """The pod's requests in units, none above `MOST`, zeros left out.

    Raises:
        QuantityError: a request is no quantity.
    """
    spec, status = pod.spec, pod.status
    resized = _resized(pod) if status.container_statuses or status.init_container_statuses else {}
    infeasible = bool(resized or status.resources is not None) and _is_infeasible(pod)
    containers = [_needs(each, resized.get(each.name), infeasible=infeasible) for each in spec.containers]
    before = [
        _needs(each, resized.get(each.name) if each.restart_policy == "Always" else None, infeasible=infeasible)
        for each in spec.init_containers
    ]
    overhead = _amounts(spec.overhead)
    pod_level = _pod_level(pod, containers, before, infeasible=infeasible) if spec.resources is not None else {}
    found = pod_requests(containers, before, overhead=overhead, pod_level=pod_level)
    units = {name: amount if name == CPU else -(-amount // _THOUSAND) for name, amount in found.items()}
    return {name: min(amount, MOST) for name, amount in units.items()}


def is_resized(pod: kube.Pod) -> bool:
    """Whether a kubelet has a say in what the pod counts: it has, or was promised, something else than it asks for."""
    status = pod.status
    if pod.spec.resources is not None and status.resources is not None:
        return True
    return bool(status.container_statuses or status.init_container_statuses) and bool(_resized(pod))


def _resized(pod: kube.Pod) -> dict[str, kube.ContainerStatus]:
    """What is said of containers that have, or were promised, something else than they ask for: of most, nothing."""
    spec, status = pod.spec, pod.status
    asked = {each.name: each.resources.requests for each in (*spec.containers, *spec.init_containers)}
    return {
        each.name: each
        for each in (*status.container_statuses, *status.init_container_statuses)
        if each.resources is not None
        and not (each.allocated_resources == each.resources.requests == asked.get(each.name))
    }


@lru_cache(maxsize=65_536)
def _thousandths(text: str) -> int:
    return quantity(text).milli


def _amounts(listed: Mapping[str, str]) -> dict[str, int]:
    return {name: _thousandths(text) for name, text in listed.items()} if listed else {}


def _needs(container: kube.Container, reported: kube.ContainerStatus | None, *, infeasible: bool) -> ContainerNeeds:
    resources = container.resources
    # The API server fills in a request that only has a limit; manifests by hand may lack it.
    merged = {**resources.limits, **resources.requests} if resources.limits else resources.requests
    asked = _amounts(merged)
    if reported is not None and reported.resources is not None:
        asked = _effective(asked, reported.resources.requests, reported.allocated_resources, infeasible=infeasible)
    return ContainerNeeds(asked, sidecar=container.restart_policy == "Always")


def _effective(
    asked: dict[str, int], has: Mapping[str, str], promised: Mapping[str, str], *, infeasible: bool
) -> dict[str, int]:
    """What counts of something that is being resized."""
    most = {} if infeasible else dict(asked)
    for listed in (_amounts(has), _amounts(promised)):
        for name, amount in listed.items():
            most[name] = max(most.get(name, 0), amount)
    return most


def _pod_level(
    pod: kube.Pod, containers: list[ContainerNeeds], before: list[ContainerNeeds], *, infeasible: bool
) -> dict[str, int]:
    """Requests of the pod as a whole (KEP-2837); the API server fills them in from limits, manifests may lack them."""
    level = pod.spec.resources
    if level is None:
        return {}
    asked = _amounts(level.requests)
    if level.limits:
        together = pod_requests(containers, before)
        asked = {name: together.get(name, amount) for name, amount in _amounts(level.limits).items()} | asked
    seen = pod.status.resources
    if seen is None:
        return asked
    effective = _effective(asked, seen.requests, pod.status.allocated_resources, infeasible=infeasible)
    return {name: effective.get(name, 0) for name in asked}


def _is_infeasible(pod: kube.Pod) -> bool:
    resizing = next((each for each in pod.status.conditions if each.type == "PodResizePending"), None)
    return resizing is not None and resizing.reason == "Infeasible"
