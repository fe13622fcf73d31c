"""Text to numbers: quantities and times, parsed once per spelling."""

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache

from allotment_api.quantities import units


@lru_cache(maxsize=65_536)
def amount(resource: str, text: str) -> int:
    """A quantity in the units that the resource is counted in.

    Raises:
        QuantityError: the text is no quantity.
    """
    return units(resource, text)


def amounts(listed: Mapping[str, str]) -> dict[str, int]:
    """A resource list in units."""
    return {name: amount(name, text) for name, text in listed.items()}


@lru_cache(maxsize=65_536)
def seconds(text: str | None) -> float:
    """An RFC 3339 time as seconds since the epoch; 0 where there is none.

    Raises:
        ValueError: the text is no time, or names no offset from UTC.
    """
    if not text:
        return 0.0
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"{text!r} names no offset from UTC: end it in Z")
    return time.timestamp()


def positive(text: str | None) -> float | None:
    """A number of seconds out of an annotation; None where there is none, or no sensible one."""
    try:
        value = float(text) if text else 0.0
    except ValueError:
        return None
    return value if 0 < value < float("inf") else None
