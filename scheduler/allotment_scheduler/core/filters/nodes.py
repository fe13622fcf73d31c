"""Filters that depend on the node alone: schedulable, name, taints, selector, affinity, features.

Computed once per class over all nodes, vectorised: labels are compared as codes, taints once per distinct set. The
order of the filters is kube-scheduler's, and each node is charged to the first filter that refuses it.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np

from allotment_scheduler.core.objects.nodes import BoolVector, Node, Nodes
from allotment_scheduler.core.objects.pods import SchedulingSpec
from allotment_scheduler.core.objects.selectors import NAME_FIELD, NodeSelectorTerm, Requirement, Taint, untolerated

UNSCHEDULABLE_TAINT: Final = Taint("node.kubernetes.io/unschedulable", "NoSchedule")
REFUSING_EFFECTS: Final = ("NoSchedule", "NoExecute")


def node_filters(spec: SchedulingSpec, nodes: Nodes) -> Iterator[tuple[str, BoolVector]]:
    """Each filter's name, in words that follow "n nodes", with the nodes that pass it."""
    yield "are not ready", nodes.ready
    if not _tolerates_cordon(spec):
        yield "are unschedulable", nodes.schedulable
    if not nodes.resumed.all():
        yield "are in a paused pool", nodes.resumed
    if spec.node_name is not None:
        yield "are not the node it names", np.array([n.spec.name == spec.node_name for n in nodes.ordered], np.bool_)
    yield "have a taint it does not tolerate", _tolerable(spec, nodes)
    if spec.node_selector or spec.required_nodes is not None:
        yield "do not match its node selector or affinity", selected(spec, nodes)
    if spec.features:
        needed = frozenset(spec.features)
        able = [needed.issubset(node.spec.features) for node in nodes.ordered]
        yield f"do not declare {' and '.join(spec.features)}", np.array(able, dtype=np.bool_)
    for claim in spec.devices:
        if claim.nodes is not None:
            yield "cannot use the devices that its claims have", _any_of(claim.nodes, nodes)


def takes_new(node: Node, spec: SchedulingSpec) -> bool:
    """Whether one node takes new pods of a kind at all: the first filters, for one node at any moment."""
    return node.spec.ready and not node.paused and (not node.spec.unschedulable or _tolerates_cordon(spec))


def _tolerates_cordon(spec: SchedulingSpec) -> bool:
    return any(toleration.tolerates(UNSCHEDULABLE_TAINT) for toleration in spec.tolerations)


def selected(spec: SchedulingSpec, nodes: Nodes) -> BoolVector:
    """Nodes that match the node selector and the required node affinity."""
    mask = np.ones(len(nodes.ordered), dtype=np.bool_)
    for key, value in spec.node_selector:
        mask &= nodes.matching(Requirement(key, "In", (value,)))
    if spec.required_nodes is not None:
        mask &= _any_of(spec.required_nodes, nodes)
    return mask


def _any_of(terms: tuple[NodeSelectorTerm, ...], nodes: Nodes) -> BoolVector:
    """Nodes that match one of some node selector terms."""
    mask = np.zeros(len(nodes.ordered), dtype=np.bool_)
    for term in terms:
        mask |= term_mask(term, nodes)
    return mask


def term_mask(term: NodeSelectorTerm, nodes: Nodes) -> BoolVector:
    """Nodes that match one node selector term."""
    if not term.labels and not term.fields:
        return np.zeros(len(nodes.ordered), dtype=np.bool_)
    mask = np.ones(len(nodes.ordered), dtype=np.bool_)
    for requirement in term.labels:
        mask &= nodes.matching(requirement)
    for requirement in term.fields:
        mask &= np.array([requirement.holds({NAME_FIELD: node.spec.name}) for node in nodes.ordered], dtype=np.bool_)
    return mask


def tolerated_taints(spec: SchedulingSpec, nodes: Nodes, effects: tuple[str, ...]) -> BoolVector:
    """Nodes all of whose taints of the given effects are tolerated."""
    verdicts: dict[tuple[Taint, ...], bool] = {}
    mask = np.ones(len(nodes.ordered), dtype=np.bool_)
    for index, taints in nodes.tainted:
        verdict = verdicts.get(taints)
        if verdict is None:
            verdict = verdicts[taints] = untolerated(taints, spec.tolerations, effects) is None
        mask[index] = verdict
    return mask


def _tolerable(spec: SchedulingSpec, nodes: Nodes) -> BoolVector:
    return tolerated_taints(spec, nodes, REFUSING_EFFECTS)
