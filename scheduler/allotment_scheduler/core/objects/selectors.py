"""Label selectors, node selectors and tolerations, with the semantics of kube-scheduler.

Plain values that can be hashed, so that equal constraints of a thousand pods are evaluated once. References:
`k8s.io/apimachinery/pkg/labels` and `k8s.io/component-helpers/scheduling/corev1` (node selector terms are ORed, the
requirements within a term are ANDed, an empty term matches nothing; ``NotIn`` and ``DoesNotExist`` match objects
without the key; ``Gt`` and ``Lt`` compare integers and match nothing else).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

NAME_FIELD: Final = "metadata.name"
_INTEGER: Final = re.compile(r"[+-]?[0-9]+")


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on a label. `operator` is In, NotIn, Exists, DoesNotExist, Gt or Lt."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels meets the condition."""
        value = labels.get(self.key)
        match self.operator:
            case "In":
                return value is not None and value in self.values
            case "NotIn":
                return value is None or value not in self.values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None
            case _:
                return _compares(value, self.operator, self.values)


def _compares(value: str | None, operator: str, bounds: tuple[str, ...]) -> bool:
    if value is None or len(bounds) != 1:
        return False
    left, right = _integer(value), _integer(bounds[0])
    if left is None or right is None:
        return False
    return left > right if operator == "Gt" else operator == "Lt" and left < right


def _integer(text: str) -> int | None:
    """The integer that Go's `strconv.ParseInt(text, 10, 64)` reads: no underscores, nothing beyond 64 bits."""
    if not _INTEGER.fullmatch(text):
        return None
    value = int(text)
    return value if -(2**63) <= value < 2**63 else None


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """All requirements must hold. The empty selector matches everything; None, where allowed, matches nothing."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels is selected."""
        return all(requirement.holds(labels) for requirement in self.requirements)


@dataclass(frozen=True, slots=True)
class NodeSelectorTerm:
    """Requirements on a node's labels and on its fields (only its name), all of which must hold."""

    labels: tuple[Requirement, ...] = ()
    fields: tuple[Requirement, ...] = ()

    def matches(self, name: str, labels: Mapping[str, str]) -> bool:
        """Whether the node is selected; a term without any requirement selects nothing."""
        if not self.labels and not self.fields:
            return False
        return all(requirement.holds(labels) for requirement in self.labels) and all(
            requirement.holds({NAME_FIELD: name}) for requirement in self.fields
        )


@dataclass(frozen=True, slots=True)
class Taint:
    """A node's taint."""

    key: str
    effect: str
    value: str = ""


@dataclass(frozen=True, slots=True)
class Toleration:
    """A pod's toleration; an empty key with Exists tolerates everything, an empty effect every effect."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""

    def tolerates(self, taint: Taint) -> bool:
        """Whether the taint is tolerated."""
        if self.effect and self.effect != taint.effect:
            return False
        if self.key and self.key != taint.key:
            return False
        match self.operator:
            case "Exists":
                return True
            case "Equal" | "":
                return bool(self.key) and self.value == taint.value
            case _:
                return Requirement(taint.key, self.operator, (self.value,)).holds({taint.key: taint.value})


def untolerated(
    taints: tuple[Taint, ...], tolerations: tuple[Toleration, ...], effects: tuple[str, ...]
) -> Taint | None:
    """The first taint of one of the effects that nothing tolerates."""
    for taint in taints:
        if taint.effect in effects and not any(toleration.tolerates(taint) for toleration in tolerations):
            return taint
    return None
