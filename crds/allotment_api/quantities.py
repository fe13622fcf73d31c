"""Kubernetes resource quantities, read exactly.

A quantity is a decimal number with a suffix: ``500m``, ``16Gi``, ``1.5e3``. The API server keeps them as text; the
programs reckon in integers. This module is the only place that turns one into the other.

How it thinks: text becomes a `Fraction`, nothing is ever a float. `units` then gives the integer a resource is counted
in: milli-CPU for ``cpu``, whole bytes or pieces for everything else, rounded up (away from zero) as Kubernetes' own
``MilliValue`` and ``Value`` do. What is finer than a nano is rounded up to a nano on reading, as Kubernetes does.

Invariants: ``parse(format_units(r, n)) == n`` units of ``r``; order is the order of the exact values.

It must never accept what the API server refuses (`k8s.io/apimachinery/pkg/api/resource/quantity.go`), and a refusal
says what to write instead.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

CPU: Final = "cpu"
MEMORY: Final = "memory"
EPHEMERAL_STORAGE: Final = "ephemeral-storage"
PODS: Final = "pods"
GPU: Final = "nvidia.com/gpu"

MAX_LENGTH: Final = 32
"""Longest text accepted, in characters: room for every sensible quantity, a bound for the API server's rule costs."""

UNCOUNTABLE: Final = Fraction(2**63 - 1)
"""Amounts from here on (8Ei) are refused: Kubernetes caps binary quantities at this and counts them as one."""

_NANO = Fraction(1, 10**9)
_DECIMAL: Final[Mapping[str, Fraction]] = {
    "n": _NANO,
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 10**3),
    "": Fraction(1),
    "k": Fraction(10**3),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
    "P": Fraction(10**15),
    "E": Fraction(10**18),
}
_BINARY: Final[Mapping[str, Fraction]] = {
    suffix: Fraction(1024**power) for power, suffix in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), start=1)
}
_NUMBER = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
_QUANTITY = re.compile(
    rf"(?P<number>{_NUMBER})(?:[eE](?P<exponent>[+-]?[0-9]{{1,2}})|(?P<suffix>[numkMGTPE]|[KMGTPE]i|))"
)
_NUMBER_THEN_REST = re.compile(rf"(?P<number>{_NUMBER})(?P<rest>.*)", re.DOTALL)

# What people write for a suffix, and what Kubernetes calls it.
_MEANT: Final[Mapping[str, str]] = {
    "b": "",
    "byte": "",
    "bytes": "",
    "kb": "k",
    "mb": "M",
    "gb": "G",
    "tb": "T",
    "pb": "P",
    "kib": "Ki",
    "mib": "Mi",
    "gib": "Gi",
    "tib": "Ti",
    "pib": "Pi",
    "ki": "Ki",
    "mi": "Mi",
    "gi": "Gi",
    "ti": "Ti",
    "pi": "Pi",
    "ei": "Ei",
    "g": "G",
    "t": "T",
    "p": "P",
    "core": "",
    "cores": "",
    "cpu": "",
    "cpus": "",
    "gpu": "",
    "gpus": "",
    "millicores": "m",
}


class QuantityError(ValueError):
    """The text is no quantity; the message says what to write instead."""


@dataclass(frozen=True, slots=True, order=True)
class Quantity:
    """An exact amount, with the text it was written as. Equality, order and hash are those of the amount."""

    amount: Fraction
    text: str = field(compare=False)

    def __str__(self) -> str:
        return self.text

    @property
    def milli(self) -> int:
        """Thousandths, rounded up away from zero."""
        return _round_up(self.amount * 1000)

    @property
    def value(self) -> int:
        """Whole pieces or bytes, rounded up away from zero."""
        return _round_up(self.amount)

    def units(self, resource: str) -> int:
        """The integer that `resource` is counted in: milli for cpu, bytes or pieces otherwise."""
        return self.milli if resource == CPU else self.value

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            quantity,
            serialization=core_schema.plain_serializer_function_ser_schema(lambda q: q.text),
        )


def quantity(written: object) -> Quantity:
    """Read what stands in a manifest: text such as ``"500m"`` or an integer.

    Raises:
        QuantityError: it is neither, it is negative, or it is 8Ei or more.
    """
    if isinstance(written, Quantity):
        return written
    if isinstance(written, float):
        raise QuantityError(f"{written} must be in quotes: write {_plain(Fraction(str(written)))!r}")
    if isinstance(written, bool) or not isinstance(written, int | str):
        raise QuantityError("must be a quantity: a whole number, or text such as '500m' or '16Gi'")
    text = str(written)
    amount = parse(text)
    if amount < 0:
        raise QuantityError(f"{text} must not be negative: write 0 or more")
    if amount >= UNCOUNTABLE:
        raise QuantityError(f"{text} is more than Kubernetes can count: write less than 8Ei")
    return Quantity(amount, text)


def parse(text: str) -> Fraction:
    """The exact amount of a quantity in Kubernetes' notation, signed.

    Raises:
        QuantityError: with the nearest right spelling where one can be guessed.
    """
    match = _QUANTITY.fullmatch(text) if len(text) <= MAX_LENGTH else None
    if match is None:
        raise QuantityError(_explain(text))
    amount = Fraction(match["number"])
    if match["exponent"]:
        amount *= Fraction(10) ** int(match["exponent"])
    else:
        suffix = match["suffix"]
        amount *= _BINARY.get(suffix) or _DECIMAL[suffix]
    return _round_up(amount / _NANO) * _NANO


def units(resource: str, written: object) -> int:
    """Read a quantity straight into the integer that `resource` is counted in."""
    return quantity(written).units(resource)


def total(resources: Mapping[str, Quantity]) -> dict[str, int]:
    """A resource list in units: milli-CPU, bytes, pieces."""
    return {name: amount.units(name) for name, amount in resources.items()}


def format_units(resource: str, amount: int) -> str:
    """Write units of `resource` back as the shortest quantity people use: ``500m``, ``16Gi``, ``4``."""
    if resource == CPU:
        whole, rest = divmod(amount, 1000)
        return f"{amount}m" if rest else str(whole)
    if resource in (MEMORY, EPHEMERAL_STORAGE) or resource.startswith("hugepages-"):
        return _binary(amount)
    return str(amount)


def format_resources(resources: Mapping[str, int]) -> dict[str, str]:
    """Write a mapping of resource → units as a resource list."""
    return {name: format_units(name, amount) for name, amount in resources.items()}


def exceeding(small: Mapping[str, Quantity], large: Mapping[str, Quantity]) -> Iterable[str]:
    """Names of the resources set on both sides whose amount in `small` is above that in `large`."""
    return (name for name, amount in small.items() if name in large and amount > large[name])


_SPARK_MEMORY = re.compile(r"([0-9]+)([kmgt]?)b?", re.IGNORECASE)
_SPARK_UNITS: Final[Mapping[str, int]] = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def spark_memory_bytes(text: str) -> int:
    """Bytes of a size in Spark's notation, where ``512m`` is 512 MiB (and not 0.512 bytes, as in Kubernetes).

    Raises:
        QuantityError: for Kubernetes' spelling (``4Gi``) and anything else Spark would refuse.
    """
    match = _SPARK_MEMORY.fullmatch(text)
    if match is None:
        raise QuantityError(f"{text!r} is no size in Spark's notation: write 512m or 4g")
    return int(match[1]) * _SPARK_UNITS[match[2].lower()]


def _round_up(amount: Fraction) -> int:
    """The integer next to `amount`, away from zero."""
    whole = -((-abs(amount)) // 1)
    return int(whole if amount >= 0 else -whole)


def _binary(amount: int) -> str:
    for suffix, factor in reversed(tuple(_BINARY.items())):
        if amount and amount % factor.numerator == 0:
            return f"{amount // factor.numerator}{suffix}"
    return str(amount)


def _plain(amount: Fraction) -> str:
    milli = amount * 1000
    return str(amount.numerator) if amount.denominator == 1 else f"{_round_up(milli)}m"


def _explain(text: str) -> str:
    if not text:
        return "must not be empty: write a quantity such as 500m, 4 or 16Gi"
    if len(text) > MAX_LENGTH:
        return f"{text[:MAX_LENGTH]}… is longer than {MAX_LENGTH} characters: write a quantity such as 500m, 4 or 16Gi"
    match = _NUMBER_THEN_REST.fullmatch(text.strip().replace(",", "."))
    if match is None:
        return f"{text!r} is no quantity: write a number and a suffix, such as 500m, 4 or 16Gi"
    rest = match["rest"].strip()
    suffix = _MEANT.get(rest.lower())
    if suffix is None and (rest in _DECIMAL or rest in _BINARY):
        suffix = rest
    if suffix is None:
        return f"{text!r} has no known suffix: write one of m, k, M, G, T, Ki, Mi, Gi, Ti, as in 500m or 16Gi"
    binary = f" (or {match['number']}{suffix}i for powers of 1024)" if suffix in ("M", "G", "T", "P") else ""
    return f"{text!r} is no quantity: write {match['number']}{suffix}{binary}"
