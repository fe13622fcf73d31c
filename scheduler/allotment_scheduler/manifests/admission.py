"""What admission fills into new pods of tenants' namespaces, beside their scheduler and their priority."""

from collections.abc import Container as Having

from msgspec import structs

from allotment_api.tenant import DEFAULT_REQUESTS
from allotment_kube import pods


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
