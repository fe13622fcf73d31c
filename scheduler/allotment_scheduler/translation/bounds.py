"""Bounds on what one pod may make everybody's scheduler look at.

The API server checks the form of a pod's conditions, not how many there are: what it takes is a megabyte and a half of
them, each of which is compared with every node anew whenever nodes or volumes change. A pod that waits and names more
than anybody means is not counted, and says why; one that runs has cost what it costs.

The bounds are far above what is written by hand or by controllers. Values are cheaper than conditions: lists of nodes
to be left out are long.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from allotment_scheduler.core.objects.pods import SchedulingSpec
from allotment_scheduler.core.objects.selectors import NodeSelectorTerm, Requirement

MOST_RESOURCES: Final = 64
MOST_CONDITIONS: Final = 256
MOST_VALUES: Final = 4096


def excess(spec: SchedulingSpec) -> str:
    """What a pod names too much of, in words; empty where it does not."""
    if len(spec.requests) > MOST_RESOURCES:
        return f"it asks for {len(spec.requests)} different resources: ask for at most {MOST_RESOURCES}"
    terms = spec.terms
    conditions = len(spec.node_selector) + len(spec.tolerations) + len(spec.spread) + len(terms)
    values = sum(len(term.namespaces) for term in terms)
    for requirement in _requirements(spec):
        conditions += 1
        values += len(requirement.values)
    if conditions > MOST_CONDITIONS:
        return f"it names {conditions} conditions on where it may run: name at most {MOST_CONDITIONS}"
    if values > MOST_VALUES:
        return f"its conditions on where it may run name {values} values: name at most {MOST_VALUES}"
    return ""


def _requirements(spec: SchedulingSpec) -> Iterator[Requirement]:
    """Every expression of its selectors of nodes, pods and namespaces."""
    if spec.required_nodes or spec.preferred_nodes:
        yield from _of_nodes(spec.required_nodes or ())
        yield from _of_nodes(term for _, term in spec.preferred_nodes)
    for term in spec.terms:
        for selector in (term.selector, term.namespace_selector):
            yield from selector.requirements if selector is not None else ()
    for constraint in spec.spread:
        yield from constraint.selector.requirements if constraint.selector is not None else ()


def _of_nodes(terms: Iterable[NodeSelectorTerm]) -> Iterator[Requirement]:
    for term in terms:
        yield from term.labels
        yield from term.fields
