"""Names and small shared types: DNS labels, resource lists, taints, selectors, references.

How it thinks: a name that ends up in an object's name or in a label must be one, and the message says so in words; a
bare regular expression explains nothing to the one who reads the refusal.

Bounds on lengths and counts are generous and always there: they keep the API server's cost estimate of every rule
finite (Kubernetes refuses a CRD whose rules could cost too much).
"""

import re
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from allotment_api.model import KeyedBy, Model, Rule, Seconds
from allotment_api.quantities import Quantity, exceeding

_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN: Final = re.compile(rf"{_LABEL.pattern}(\.{_LABEL.pattern})*")
_QUALIFIED_NAME: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")


def is_label(text: str) -> bool:
    """Whether `text` is a DNS label (RFC 1123)."""
    return len(text) <= 63 and _LABEL.fullmatch(text) is not None


def is_subdomain(text: str) -> bool:
    """Whether `text` is a DNS name (RFC 1123)."""
    return len(text) <= 253 and _SUBDOMAIN.fullmatch(text) is not None


def is_label_key(text: str) -> bool:
    """Whether `text` is a label key: an optional DNS prefix, a slash, a name of at most 63 characters."""
    prefix, slash, name = text.rpartition("/")
    return (not slash or is_subdomain(prefix)) and _QUALIFIED_NAME.fullmatch(name) is not None


def is_resource(text: str) -> bool:
    """Whether `text` names a resource: one of Kubernetes' own, or one with a domain such as nvidia.com/gpu."""
    if "/" in text:
        return is_label_key(text)
    return text in ("cpu", "memory", "ephemeral-storage", "pods") or text.startswith("hugepages-")


DnsLabel = Annotated[
    str,
    Field(min_length=1, max_length=63),
    Rule(
        "!format.dns1123Label().validate(self).hasValue()",
        "must be a DNS label: lower-case letters, digits and '-', beginning and ending with a letter or digit",
        is_label,
    ),
]
"""A name that becomes an object's name or a label's value."""

DnsName = Annotated[
    str,
    Field(min_length=1, max_length=253),
    Rule(
        "!format.dns1123Subdomain().validate(self).hasValue()",
        "must be the name of an object: lower-case letters, digits, '-' and '.', beginning and ending with a letter "
        "or digit",
        is_subdomain,
    ),
]
"""The name of another object."""

LabelKey = Annotated[
    str,
    Field(min_length=1, max_length=317),
    Rule(
        "!format.qualifiedName().validate(self).hasValue()",
        "must be a label key: a name of at most 63 characters, with an optional domain and '/' before it",
        is_label_key,
    ),
]
"""The key of a label or taint."""

Text = Annotated[str, Field(max_length=1024)]
"""Short free text."""

Message = Annotated[str, Field(max_length=4096)]
"""A sentence for people, in a status."""

Image = Annotated[
    str,
    Field(min_length=1, max_length=512),
    Rule(
        "!self.contains(' ')",
        "must be an image reference such as registry.example.com/team/image:1.2.3, without spaces",
        lambda image: " " not in image,
    ),
]
"""A container image."""

ResourceList = Annotated[
    dict[str, Quantity],
    Field(max_length=32),
    Rule(
        "self.all(k, k.contains('/') ? !format.qualifiedName().validate(k).hasValue() : "
        "k in ['cpu', 'memory', 'ephemeral-storage', 'pods'] || k.startsWith('hugepages-'))",
        "unknown resource: write cpu, memory, ephemeral-storage, pods, hugepages-<size>, or a name with its domain "
        "such as nvidia.com/gpu",
        lambda resources: all(map(is_resource, resources)),
    ),
]
"""Resource → quantity, with the resources named as in pods."""

StringMap = Annotated[dict[str, Annotated[str, Field(max_length=1024)]], Field(max_length=64)]
"""Plain text by key."""

NodeLabels = Annotated[dict[str, Annotated[str, Field(max_length=63)]], Field(max_length=32)]
"""Labels that a node must carry, as in a pod's nodeSelector."""

SecretNames = Annotated[tuple[DnsName, ...], Field(max_length=16)]
"""Names of Secrets in the same namespace."""

PriorityClassName = DnsName
"""Name of a PriorityClass."""


class SelectorRequirement(Model):
    """One condition on a label."""

    key: LabelKey
    """Label key."""

    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    """How the label's value relates to `values`."""

    values: Annotated[tuple[Annotated[str, Field(max_length=63)], ...], Field(max_length=64)] = ()
    """Values for In and NotIn; empty for the others."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
            "In and NotIn need values; Exists and DoesNotExist must have none",
            lambda it: (it.operator in ("In", "NotIn")) == bool(it.values),
        ),
    )


class LabelSelector(Model):
    """Which objects, by their labels: all conditions must hold."""

    match_labels: NodeLabels = Field(default_factory=dict)
    """Labels with exactly these values."""

    match_expressions: Annotated[tuple[SelectorRequirement, ...], Field(max_length=32)] = ()
    """Further conditions."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(has(self.matchLabels) && size(self.matchLabels) > 0) || "
            "(has(self.matchExpressions) && size(self.matchExpressions) > 0)",
            "an empty selector would take every node: set matchLabels or matchExpressions",
            lambda it: bool(it.match_labels or it.match_expressions),
        ),
    )


class Toleration(Model):
    """A taint that pods may ignore, as in a pod's own tolerations."""

    key: LabelKey | None = None
    """Taint key; empty with operator Exists tolerates everything."""

    operator: Literal["Equal", "Exists"] = "Equal"
    """Equal compares the value, Exists only the key."""

    value: Annotated[str, Field(max_length=63)] | None = None
    """Taint value, for Equal."""

    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect that is tolerated; every effect if empty."""

    toleration_seconds: Seconds | None = None
    """How long a NoExecute taint is tolerated; for ever if empty."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.key) || self.operator == 'Exists'",
            "a toleration without a key needs operator: Exists",
            lambda it: it.key is not None or it.operator == "Exists",
        ),
        Rule(
            "self.operator == 'Equal' || !has(self.value)",
            "operator Exists takes no value: remove value, or write operator: Equal",
            lambda it: it.operator == "Equal" or it.value is None,
        ),
        Rule(
            "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            "tolerationSeconds needs effect: NoExecute",
            lambda it: it.toleration_seconds is None or it.effect == "NoExecute",
        ),
    )


class Taint(Model):
    """A taint that a node carries."""

    key: LabelKey
    """Taint key."""

    value: Annotated[str, Field(max_length=63)] = ""
    """Taint value."""

    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]
    """What happens to pods that do not tolerate the taint."""


Tolerations = Annotated[tuple[Toleration, ...], Field(max_length=16)]
"""Tolerations of a pod."""

Taints = Annotated[tuple[Taint, ...], Field(max_length=16), KeyedBy("key", "effect")]
"""Taints of a node."""


def within(small: str, large: str, message: str) -> Rule:
    """A rule for two resource lists of one object: what both name is no more in `small` than in `large`."""
    return Rule(
        f"!has(self.{small}) || !has(self.{large}) || self.{small}.all(r, !(r in self.{large}) || "
        f"!isQuantity(string(self.{small}[r])) || !isQuantity(string(self.{large}[r])) || "
        f"quantity(string(self.{small}[r])).compareTo(quantity(string(self.{large}[r]))) <= 0)",
        message,
        lambda it: not list(exceeding(getattr(it, small), getattr(it, large))),
        field_path=f".{small}",
    )
