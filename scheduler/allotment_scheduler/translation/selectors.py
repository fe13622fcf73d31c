"""Selectors, tolerations and taints: the same thoughts in hashable form."""

from collections.abc import Iterable, Mapping

from allotment_kube import models, nodes, pods
from allotment_scheduler.core.objects.selectors import LabelSelector, NodeSelectorTerm, Requirement, Taint, Toleration


def requirement(expression: models.LabelRequirement) -> Requirement:
    """One expression."""
    return Requirement(expression.key, expression.operator, tuple(expression.values))


def requirements_of(labels: Mapping[str, str]) -> tuple[Requirement, ...]:
    """`matchLabels` as expressions, in order of their keys, so that equal selectors are equal values."""
    return tuple(Requirement(key, "In", (value,)) for key, value in sorted(labels.items()))


def label_selector(selector: models.LabelSelector | None) -> LabelSelector | None:
    """A label selector; None stays None, which matches nothing."""
    if selector is None:
        return None
    return LabelSelector(requirements_of(selector.match_labels) + tuple(map(requirement, selector.match_expressions)))


def node_term(term: pods.NodeSelectorTerm) -> NodeSelectorTerm:
    """One alternative of a node selector."""
    return NodeSelectorTerm(tuple(map(requirement, term.match_expressions)), tuple(map(requirement, term.match_fields)))


def node_terms(selector: pods.NodeSelector | None) -> tuple[NodeSelectorTerm, ...] | None:
    """The alternatives of a node selector; None where there is no selector."""
    return None if selector is None else tuple(map(node_term, selector.node_selector_terms))


def toleration(each: pods.Toleration) -> Toleration:
    """One toleration."""
    return Toleration(each.key, each.operator, each.value, each.effect)


def taints(listed: Iterable[nodes.Taint]) -> tuple[Taint, ...]:
    """A node's taints."""
    return tuple(Taint(each.key, each.effect, each.value) for each in listed)
