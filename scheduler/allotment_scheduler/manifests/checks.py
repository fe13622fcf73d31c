"""What the API server would refuse in a name, a pod, a node or a budget although its types are right.

The scheduler never sees such objects, because they cannot be stored; manifests that were never applied may hold them,
and would be answered with nonsense. References: `k8s.io/kubernetes/pkg/apis/{core,policy,scheduling}/validation`.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from allotment_api.errors import Fault
from allotment_api.names import is_label, is_subdomain
from allotment_api.quantities import quantity
from allotment_kube import models, nodes, pods, workloads

_SET: Final = ("In", "NotIn")
_BARE: Final = ("Exists", "DoesNotExist")
_ORDERED: Final = ("Gt", "Lt")
_EFFECTS: Final = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_TOLERATES: Final = ("", "Equal", "Exists", "Lt", "Gt")
_UNSATISFIABLE: Final = ("DoNotSchedule", "ScheduleAnyway")
_POLICIES: Final = ("Honor", "Ignore")
_PERCENT: Final = re.compile(r"[0-9]{1,4}%")
_HIGHEST: Final = 2**31
_WEIGHTS: Final = range(1, 101)

Expressions = Iterable[models.LabelRequirement]


def name_faults(name: str, namespace: str) -> Iterator[Fault]:
    """What is wrong with an object's name and namespace."""
    if not is_subdomain(name):
        yield Fault("metadata.name", f"{name!r} is no name: write lower-case letters, digits, '-' and '.'")
    if not is_label(namespace):
        yield Fault("metadata.namespace", f"{namespace!r} is no namespace: write lower-case letters, digits and '-'")


def container_faults(spec: pods.PodSpec) -> Iterator[Fault]:
    """What is wrong with a new pod's containers; those of one that exists have passed.

    Raises:
        QuantityError: a request or a limit is no quantity.
    """
    if not spec.containers:
        yield Fault("spec.containers", "is required: a pod has one container or more")
    for field, listed in (("containers", spec.containers), ("initContainers", spec.init_containers)):
        for number, container in enumerate(listed):
            yield from _resources(f"spec.{field}[{number}].resources", container.resources)


def _resources(at: str, resources: pods.Resources) -> Iterator[Fault]:
    for sort, listed in (("requests", resources.requests), ("limits", resources.limits)):
        for name, text in listed.items():
            if "/" in name and quantity(text).amount.denominator != 1:
                yield Fault(f'{at}.{sort}["{name}"]', f"{text} is no whole number, and {name} is counted in pieces")
    for name, text in resources.requests.items():
        limit = resources.limits.get(name, text)
        if quantity(text) > quantity(limit):
            yield Fault(f"{at}.requests.{name}", f"{text} is more than the limit, which is {limit}: lower the one")


def pod_faults(spec: pods.PodSpec) -> Iterator[Fault]:
    """What is wrong with a pod, in order of its fields."""
    if spec.affinity is not None:
        yield from _affinity(spec.affinity)
    for number, each in enumerate(spec.tolerations):
        at = f"spec.tolerations[{number}]"
        yield from _one_of(f"{at}.operator", each.operator, _TOLERATES)
        yield from _one_of(f"{at}.effect", each.effect, ("", *_EFFECTS))
    for number, it in enumerate(spec.topology_spread_constraints):
        at = f"spec.topologySpreadConstraints[{number}]"
        yield from _one_of(f"{at}.whenUnsatisfiable", it.when_unsatisfiable, _UNSATISFIABLE)
        yield from _one_of(f"{at}.nodeAffinityPolicy", it.node_affinity_policy, _POLICIES)
        yield from _one_of(f"{at}.nodeTaintsPolicy", it.node_taints_policy, _POLICIES)
        yield from _selector(f"{at}.labelSelector", it.label_selector)
        if it.max_skew < 1 or (it.min_domains or 1) < 1:
            yield Fault(f"{at}.{'maxSkew' if it.max_skew < 1 else 'minDomains'}", "must be 1 or more")
    if not -_HIGHEST <= (spec.priority or 0) < _HIGHEST:
        yield Fault("spec.priority", f"{spec.priority} does not fit into 32 bits: write less")


def _affinity(affinity: pods.Affinity) -> Iterator[Fault]:
    required, preferred = "requiredDuringSchedulingIgnoredDuringExecution", (
        "preferredDuringSchedulingIgnoredDuringExecution")  # fmt: skip
    here = affinity.node_affinity
    if here is not None:
        terms = here.required.node_selector_terms if here.required is not None else ()
        for number, term in enumerate(terms):
            at = f"spec.affinity.nodeAffinity.{required}.nodeSelectorTerms[{number}]"
            yield from _expressions(f"{at}.matchExpressions", term.match_expressions, (*_SET, *_BARE, *_ORDERED))
        for number, wish in enumerate(here.preferred):
            at = f"spec.affinity.nodeAffinity.{preferred}[{number}]"
            yield from _weight(at, wish.weight)
            inside = f"{at}.preference.matchExpressions"
            yield from _expressions(inside, wish.preference.match_expressions, (*_SET, *_BARE, *_ORDERED))
    for name, both in (("podAffinity", affinity.pod_affinity), ("podAntiAffinity", affinity.pod_anti_affinity)):
        for number, near in enumerate(both.required if both is not None else ()):
            yield from _pod_term(f"spec.affinity.{name}.{required}[{number}]", near)
        for number, wished in enumerate(both.preferred if both is not None else ()):
            at = f"spec.affinity.{name}.{preferred}[{number}]"
            yield from _weight(at, wished.weight)
            yield from _pod_term(f"{at}.podAffinityTerm", wished.pod_affinity_term)


def _pod_term(at: str, term: pods.PodAffinityTerm) -> Iterator[Fault]:
    yield from _selector(f"{at}.labelSelector", term.label_selector)
    yield from _selector(f"{at}.namespaceSelector", term.namespace_selector)


def _weight(at: str, weight: int) -> Iterator[Fault]:
    if weight not in _WEIGHTS:
        yield Fault(f"{at}.weight", f"{weight} is none: write 1 to 100")


def _selector(at: str, selector: models.LabelSelector | None) -> Iterator[Fault]:
    if selector is not None:
        yield from _expressions(f"{at}.matchExpressions", selector.match_expressions, (*_SET, *_BARE))


def _expressions(at: str, expressions: Expressions, known: tuple[str, ...]) -> Iterator[Fault]:
    for number, each in enumerate(expressions):
        here, values = f"{at}[{number}]", each.values
        yield from _one_of(f"{here}.operator", each.operator, known)
        if each.operator in _SET and not values:
            yield Fault(f"{here}.values", f"{each.operator} needs values: list them")
        elif each.operator in _BARE and values:
            yield Fault(f"{here}.values", f"{each.operator} takes no values: remove them")
        elif each.operator in _ORDERED and len(values) != 1:
            # Whether it is a number, the API server does not ask; what is none matches no node.
            yield Fault(f"{here}.values", f"{each.operator} compares with one whole number: write it in quotes")


def _one_of(field: str, value: str, known: tuple[str, ...]) -> Iterator[Fault]:
    if value not in known:
        yield Fault(field, f"{value!r} is not one of {', '.join(filter(None, known))}: write one of these")


def node_faults(node: nodes.Node) -> Iterator[Fault]:
    """What is wrong with a node."""
    for number, taint in enumerate(node.spec.taints):
        yield from _one_of(f"spec.taints[{number}].effect", taint.effect, _EFFECTS)


def budget_faults(budget: workloads.PodDisruptionBudget) -> Iterator[Fault]:
    """What is wrong with a disruption budget."""
    spec = budget.spec
    for field, value in (("minAvailable", spec.min_available), ("maxUnavailable", spec.max_unavailable)):
        if isinstance(value, int):
            if not 0 <= value < _HIGHEST:
                yield Fault(f"spec.{field}", f"{value} is no number of pods: write 0 or more")
        elif value is not None and not _PERCENT.fullmatch(value):
            yield Fault(f"spec.{field}", f"{value!r} is neither a number nor a percentage: write 1 or 50%")
    if spec.min_available is not None and spec.max_unavailable is not None:
        yield Fault("spec", "minAvailable and maxUnavailable exclude each other: remove one")
    yield from _selector("spec.selector", spec.selector)


def priority_faults(found: workloads.PriorityClass) -> Iterator[Fault]:
    """What is wrong with a priority class."""
    if not -_HIGHEST <= found.value < _HIGHEST:
        yield Fault("value", f"{found.value} does not fit into 32 bits: write less")
