"""Versions as devices and selectors have them: Semantic Versioning 2.0.0, compared by its precedence (§11)."""

import re
from dataclasses import dataclass
from functools import total_ordering
from typing import Any, Final

_PART: Final = r"(?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)"
_VERSION: Final = re.compile(
    rf"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-({_PART}(?:\.{_PART})*))?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)
_MOST_DIGITS: Final = 19
"""Of numbers that fit into 64 bits."""
_LONGEST_SHOWN: Final = 40


class VersionError(ValueError):
    """A text is no version; the message says what one looks like."""


@total_ordering
@dataclass(frozen=True, slots=True)
class Version:
    """A version: the spelling decides whether two are the same, the rank which is later."""

    text: str
    rank: tuple[Any, ...]

    @classmethod
    def parse(cls, text: str) -> "Version":
        """Read a version.

        Raises:
            VersionError: it is none.
        """
        match = _VERSION.fullmatch(text)
        if match is None:
            raise VersionError(f"{text[:_LONGEST_SHOWN]!r} is no version: write major.minor.patch, as 1.2.3")
        major, minor, patch, early = match.groups()
        numbers = [major, minor, patch, *(it for it in (early or "").split(".") if it.isdigit())]
        if any(len(number) > _MOST_DIGITS for number in numbers):
            raise VersionError(f"{text[:_LONGEST_SHOWN]!r} is no version: its numbers are too large")
        # A pre-release comes before its release; its parts are numbers, which come first, or texts.
        parts = tuple((0, int(it), "") if it.isdigit() else (1, 0, it) for it in (early or "").split(".") if it)
        return cls(text, (int(major), int(minor), int(patch), early is None, parts))

    def __lt__(self, other: "Version") -> bool:
        return bool(self.rank < other.rank)
