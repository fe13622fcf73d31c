"""Pods: what of a pod decides where it may run, whose it is, and how it may be treated.

Field meanings are those of kube-scheduler; where the API server fills in defaults, offline manifests may lack them, so
the same defaults are taken here.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from sys import intern
from typing import Any, Final

import msgspec
from msgspec import structs

from allotment_api.labels import (
    CHECKPOINTED_AT_ANNOTATION,
    MAX_RUNTIME_ANNOTATION,
    POD_GROUP_LABEL,
    PREEMPTIBLE_LABEL,
    SCHEDULER_NAME,
)
from allotment_kube import pods as kube
from allotment_kube.models import OwnerReference
from allotment_scheduler.core.objects.events import PodGone
from allotment_scheduler.core.objects.pods import PodAffinityTerm, PodSpec, SchedulingSpec, SpreadConstraint
from allotment_scheduler.core.objects.selectors import Toleration
from allotment_scheduler.translation.bounds import excess
from allotment_scheduler.translation.devices import DeviceNeeds, Devices
from allotment_scheduler.translation.requests import is_resized, requests_of
from allotment_scheduler.translation.scalars import positive, seconds
from allotment_scheduler.translation.selectors import label_selector, node_term, node_terms, toleration

_NO_DEVICES = DeviceNeeds()
_NOTHING = SchedulingSpec(requests=())
_NO_AFFINITY, _NO_NODE_AFFINITY, _NO_POD_AFFINITY = kube.Affinity(), kube.NodeAffinity(), kube.PodAffinity()
FINISHED = frozenset({"Succeeded", "Failed"})
"""Phases in which a pod holds nothing any more."""


def has_finished(pod: kube.Pod) -> bool:
    """Whether the pod has ended: it still exists, but takes no room."""
    return pod.status.phase in FINISHED


def pod_gone(pod: kube.Pod) -> PodGone:
    """A pod that has finished, as the core takes it: whether it is done, and of which PodGroup it was a member."""
    metadata = pod.metadata
    key = (metadata.namespace or "default", metadata.name)
    return PodGone(key, pod.status.phase == "Succeeded", named_group(pod))


def named_group(pod: kube.Pod) -> str | None:
    """The group that a pod names itself a member of: by our label, or by `spec.schedulingGroup`."""
    label, group = pod.metadata.labels.get(POD_GROUP_LABEL), pod.spec.scheduling_group
    if label or group is None or not group.pod_group_name:
        return label
    return scheduling_group_name(group.pod_group_name)


def scheduling_group_name(name: str) -> str:
    """The group that a PodGroup of scheduling.k8s.io stands for; the slash keeps it apart from PodGroups of ours."""
    return f"scheduling.k8s.io/{name}"


def pod_spec(
    pod: kube.Pod,
    *,
    gang: str | None = None,
    fragile: bool = False,
    devices: Devices | None = None,
) -> PodSpec:
    """A pod as the core takes it.

    Args:
        pod: as the API server has it.
        gang: the group that its Job makes it a member of; a pod-group label on the pod itself comes first.
        fragile: whether its Job would die of an eviction.
        devices: what the pod's ResourceClaims are looked up in.

    Raises:
        QuantityError: a request is no quantity.
    """
    metadata, spec = pod.metadata, pod.spec
    needs = devices.needs(pod) if devices is not None and spec.resource_claims else _NO_DEVICES
    controller = metadata.controller
    checkpointed = metadata.annotations.get(CHECKPOINTED_AT_ANNOTATION)
    declared = positive(metadata.annotations.get(MAX_RUNTIME_ANNOTATION))
    deadline = spec.active_deadline_seconds
    scheduling, problem = scheduling_spec(pod, needs), needs.problem
    if not spec.node_name and (too_much := excess(scheduling)):
        scheduling, problem = _NOTHING, too_much
    return PodSpec(
        # What many pods have in common is kept once: tens of thousands of them are kept for as long as they run.
        namespace=intern(metadata.namespace or "default"),
        name=metadata.name,
        scheduling=scheduling,
        uid=metadata.uid,
        labels=shared_labels(metadata.labels),
        priority=spec.priority or 0,
        created=seconds(metadata.creation_timestamp),
        started=seconds(pod.status.start_time) if pod.status.start_time else None,
        node=intern(spec.node_name) if spec.node_name else None,
        nominated=pod.status.nominated_node_name or None,
        deleting=metadata.deletion_timestamp is not None,
        ends=seconds(metadata.deletion_timestamp) if metadata.deletion_timestamp is not None else None,
        gated=bool(spec.scheduling_gates),
        group=named_group(pod) or gang,
        owner=intern(controller.uid) if controller else "",
        owner_kind=intern(owner_kind(controller)),
        recreated=controller is not None,
        fragile=fragile,
        preemptible=metadata.labels.get(PREEMPTIBLE_LABEL) != "false",
        never_preempts=spec.preemption_policy == "Never",
        max_runtime=min((each for each in (declared, deadline) if each), default=None)
        if declared or deadline
        else None,
        checkpointed=_time(checkpointed),
        ours=spec.scheduler_name == SCHEDULER_NAME,
        invalid=problem,
    )


def owner_kind(controller: OwnerReference | None) -> str:
    """What manages a pod, by kind: `Job` is that of Kubernetes itself, another group's is `Job.GROUP`."""
    if controller is None:
        return ""
    if controller.kind != "Job":
        return controller.kind
    group, slash, _ = controller.api_version.partition("/")
    return f"Job.{group}" if slash and group != "batch" else "Job"


def unreadable_spec(pod: kube.Pod, problem: str) -> PodSpec:
    """A waiting pod whose requests cannot be counted: it asks for nothing, never starts, and says why."""
    counted = structs.replace(pod.spec, containers=(), init_containers=(), overhead={}, resources=None)
    return structs.replace(pod_spec(structs.replace(pod, spec=counted)), invalid=problem)


def scheduling_spec(pod: kube.Pod, needs: DeviceNeeds) -> SchedulingSpec:
    """The part of a pod that pods of one controller share; equal ones are mostly one object.

    Raises:
        QuantityError: a request is no quantity.
    """
    # Tens of thousands of pods are made from a few templates: what only that decides is translated once for them all.
    template = _encoded(_template(pod.spec))
    found = _translated(template) if len(template) <= _LONGEST else _of_template(pod.spec)
    own: dict[str, Any] = {}
    if is_resized(pod):
        own["requests"] = _in_order(requests_of(pod))
    if needs is not _NO_DEVICES:
        own["requests"] = _in_order({**dict(own.get("requests", found.requests)), **needs.requests})
        own["devices"] = needs.claims
    if claims := claims_of(pod):
        own["claims"] = claims
        own["ephemeral"] = tuple(
            (_ephemeral_claim(pod, it), pod.metadata.uid) for it in pod.spec.volumes if it.ephemeral is not None
        )
    return _shared_spec(replace(found, **own)) if own else found


def _in_order(requests: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(requests.items()))


_LONGEST: Final = 4096
"""Bytes of a template that is remembered: nobody fills our memory with longer ones."""
_encoded: Final = msgspec.json.Encoder().encode
_DECODER: Final = msgspec.json.Decoder(kube.PodSpec)


def _template(spec: kube.PodSpec) -> kube.PodSpec:
    """What a controller's template says of where its pods may run, and nothing that tells one pod from another."""
    return kube.PodSpec(
        containers=spec.containers,
        init_containers=spec.init_containers,
        overhead=spec.overhead,
        resources=spec.resources,
        node_selector=spec.node_selector,
        affinity=spec.affinity,
        tolerations=spec.tolerations,
        topology_spread_constraints=spec.topology_spread_constraints,
        host_network=spec.host_network,
        host_users=spec.host_users,
    )


@lru_cache(maxsize=4096)
def _translated(template: bytes) -> SchedulingSpec:
    return _of_template(_DECODER.decode(template))


def _of_template(spec: kube.PodSpec) -> SchedulingSpec:
    """All of a pod's scheduling spec but for its own volumes and devices, and for what became of it since."""
    affinity = spec.affinity or _NO_AFFINITY
    nodes = affinity.node_affinity or _NO_NODE_AFFINITY
    near, apart = affinity.pod_affinity or _NO_POD_AFFINITY, affinity.pod_anti_affinity or _NO_POD_AFFINITY
    return _shared_spec(
        SchedulingSpec(
            requests=_in_order(requests_of(kube.Pod(spec=spec))),
            node_selector=tuple(sorted(spec.node_selector.items())),
            required_nodes=node_terms(nodes.required),
            preferred_nodes=tuple((term.weight, node_term(term.preference)) for term in nodes.preferred if term.weight),
            tolerations=_tolerations(spec.tolerations),
            host_ports=host_ports(spec),
            affinity=tuple(affinity_term(term) for term in near.required),
            anti_affinity=tuple(affinity_term(term) for term in apart.required),
            preferred_affinity=tuple(affinity_term(it.pod_affinity_term, it.weight) for it in near.preferred),
            preferred_anti_affinity=tuple(affinity_term(it.pod_affinity_term, it.weight) for it in apart.preferred),
            spread=tuple(map(spread_constraint, spec.topology_spread_constraints)),
            features=needed_features(spec),
        )
    )


@lru_cache(maxsize=16_384)
def _shared_spec(spec: SchedulingSpec) -> SchedulingSpec:
    """The first of all equal specs: pods of one controller share one object, and are compared by it."""
    return spec


def shared_labels(labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Labels as a `PodSpec` has them."""
    return _shared_labels(tuple(sorted(labels.items())))


@lru_cache(maxsize=16_384)
def _shared_labels(labels: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """The first of all equal labels, as above."""
    return labels


@lru_cache(maxsize=4096)
def _tolerations(listed: tuple[kube.Toleration, ...]) -> tuple[Toleration, ...]:
    return tuple(map(toleration, listed))


def host_ports(spec: kube.PodSpec) -> tuple[tuple[str, str, int], ...]:
    """The ports of the node that the pod takes, as (address, protocol, port); "" and 0.0.0.0 are every address."""
    if not any(container.ports for container in (*spec.containers, *spec.init_containers)):
        return ()
    everyone = [*spec.containers, *(each for each in spec.init_containers if each.restart_policy == "Always")]
    taken = {
        (port.host_ip or "0.0.0.0", port.protocol or "TCP", port.host_port or port.container_port)  # noqa: S104 - means all
        for container in everyone
        for port in container.ports
        if port.host_port or (spec.host_network and port.container_port)
    }
    return tuple(sorted(taken))


def needed_features(spec: kube.PodSpec) -> tuple[str, ...]:
    """What a node must declare to be able to do (KEP-5328), by the rules of kube-scheduler 1.36."""
    rules = [rule for each in (*spec.containers, *spec.init_containers) for rule in each.restart_policy_rules]
    restarts = any(rule.action == "RestartAllContainers" for rule in rules)
    own_users = spec.host_network and spec.host_users is False
    return (("RestartAllContainersOnContainerExits",) if restarts else ()) + (
        ("UserNamespacesHostNetworkSupport",) if own_users else ()
    )


def claims_of(pod: kube.Pod) -> tuple[str, ...]:
    """Names of the volume claims that the pod mounts, generic ephemeral ones included."""
    names: dict[str, None] = {}
    for volume in pod.spec.volumes:
        if volume.persistent_volume_claim is not None:
            names[volume.persistent_volume_claim.claim_name] = None
        elif volume.ephemeral is not None:
            names[_ephemeral_claim(pod, volume)] = None
    return tuple(names)


def _ephemeral_claim(pod: kube.Pod, volume: kube.Volume) -> str:
    return f"{pod.metadata.name}-{volume.name}"


def affinity_term(term: kube.PodAffinityTerm, weight: int = 0) -> PodAffinityTerm:
    """One affinity or anti-affinity term."""
    return PodAffinityTerm(
        topology_key=term.topology_key,
        selector=label_selector(term.label_selector),
        namespaces=frozenset(term.namespaces),
        namespace_selector=label_selector(term.namespace_selector),
        match_label_keys=tuple(term.match_label_keys),
        mismatch_label_keys=tuple(term.mismatch_label_keys),
        weight=weight,
    )


def spread_constraint(each: kube.TopologySpreadConstraint) -> SpreadConstraint:
    """One topology spread constraint."""
    return SpreadConstraint(
        topology_key=each.topology_key,
        max_skew=each.max_skew,
        hard=each.when_unsatisfiable == "DoNotSchedule",
        selector=label_selector(each.label_selector),
        min_domains=each.min_domains or 1,
        honor_affinity=each.node_affinity_policy != "Ignore",
        honor_taints=each.node_taints_policy == "Honor",
        match_label_keys=tuple(each.match_label_keys),
    )


def _time(text: str | None) -> float | None:
    try:
        return seconds(text) or None
    except ValueError:
        return None
