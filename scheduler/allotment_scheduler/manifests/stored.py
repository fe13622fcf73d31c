"""What an API server would have stored: null fields left out, quantities as text.

`kubectl` accepts numbers where quantities stand, and null for whatever is absent; typed objects do not. So what does
not convert is rewritten and tried once more, which costs those that need it and nobody else.

The reader of files bounds what aliases stand for; the rewriting ends at a depth that no object of Kubernetes has.
"""

import math
from datetime import date, datetime
from typing import Any

from allotment_scheduler.manifests.faults import DEEPEST, QUANTITIES, ManifestError


class Rewriting:
    """One object on its way into the store."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def value(self, value: Any, depth: int = 0, *, quantities: bool = False) -> Any:  # noqa: ANN401 - any manifest
        """A value without nulls, with quantities as text.

        Raises:
            ManifestError: it is too deep.
        """
        if depth > DEEPEST:
            raise ManifestError(f"{self.prefix}: it is more than {DEEPEST} levels deep: no object of Kubernetes is")
        if isinstance(value, dict):
            return {
                key if isinstance(key, str) else _text(key): self.value(
                    each, depth + 1, quantities=key in QUANTITIES and isinstance(each, dict)
                ) if not (quantities and _is_number(each)) else str(each)
                for key, each in value.items() if each is not None
            }  # fmt: skip
        if isinstance(value, list | tuple):
            return [self.value(each, depth + 1) for each in value]
        return value.isoformat() if isinstance(value, datetime | date) else value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _text(key: object) -> str:
    """A key that YAML takes for something else, as `kubectl` writes it."""
    return str(key).lower() if isinstance(key, bool) else str(key)
