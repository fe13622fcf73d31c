"""Kubernetes' arithmetic of a pod's requests.

A pod needs, per resource, the largest of what its containers need together while they run and of what each init
container needs while it runs, plus the pod's overhead (`k8s.io/component-helpers/resource/helpers.go`, KEP-753 for
sidecars, KEP-2837 for pod-level resources):

- sidecars (init containers with ``restartPolicy: Always``) run on beside everything that starts after them, so they add
  to the sum of containers and to every later init container;
- a pod-level request of a resource replaces the containers' figure for it;
- a container without a request for a resource that it limits requests the limit (the API server's default).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ContainerNeeds:
    """What one container requests, in units; `sidecar` marks a restartable init container."""

    requests: Mapping[str, int]
    sidecar: bool = False


def pod_requests(
    containers: Sequence[ContainerNeeds],
    init_containers: Sequence[ContainerNeeds] = (),
    *,
    overhead: Mapping[str, int] | None = None,
    pod_level: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """The pod's requests in units, zeros left out."""
    total: dict[str, int] = {}
    for container in containers:
        _add(total, container.requests)
    sidecars: dict[str, int] = {}
    peak: dict[str, int] = {}
    for init in init_containers:
        if init.sidecar:
            _add(total, init.requests)
            _add(sidecars, init.requests)
            _raise(peak, sidecars)
        else:
            during = dict(sidecars)
            _add(during, init.requests)
            _raise(peak, during)
    _raise(total, peak)
    if pod_level:
        total.update(pod_level)
    _add(total, overhead or {})
    return {name: amount for name, amount in total.items() if amount > 0}


def _add(total: dict[str, int], more: Mapping[str, int]) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, 0) + amount


def _raise(total: dict[str, int], floor: Mapping[str, int]) -> None:
    for name, amount in floor.items():
        total[name] = max(total.get(name, 0), amount)
