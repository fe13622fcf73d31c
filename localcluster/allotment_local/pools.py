"""The node pool file: which simulated nodes a local cluster has.

    pools:
      - name: cpu            # nodes are named cpu-0, cpu-1, …
        count: 8
        cpu: 16
        memory: 64Gi
        gpu: 0               # nvidia.com/gpu
        labels: {disk: ssd}
        taints: ["dedicated=gpu:NoSchedule"]

An error names the file, the pool and the field, and says what would be right. Quantities are checked for their form
only; the API server reads their value.
"""

import re
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from allotment_local.errors import InvalidInputError

MAX_NODES = 20_000
"""More than Kubernetes itself supports four times over; a typing error, not a wish."""

_QUANTITY = r"^([0-9]+([.][0-9]+)?|[.][0-9]+)(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"
_LABEL_VALUE = r"^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$"
_LABEL_KEY = r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$"
_TAINT = re.compile(r"(?P<key>[^=:]+)(=(?P<value>[^=:]*))?:(?P<effect>[A-Za-z]+)")


def _text(value: object) -> object:
    """YAML reads `cpu: 16` as a number and `ssd: true` as a boolean; both are meant as they are written."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


def _taint(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = _TAINT.fullmatch(value)
    if match is None:
        raise ValueError("a taint is written key=value:Effect or key:Effect")
    return {"key": match["key"], "value": match["value"] or "", "effect": match["effect"]}


Quantity = Annotated[str, BeforeValidator(_text), StringConstraints(pattern=_QUANTITY)]
LabelKey = Annotated[str, StringConstraints(pattern=_LABEL_KEY)]
LabelValue = Annotated[str, BeforeValidator(_text), StringConstraints(pattern=_LABEL_VALUE)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Taint(_Strict):
    """A taint, as an object or in kubectl's short form."""

    key: LabelKey
    value: LabelValue = ""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]


class Pool(_Strict):
    """Nodes that are all alike."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?$")]
    count: Annotated[int, Field(ge=0, le=MAX_NODES)]
    cpu: Quantity
    memory: Quantity
    gpu: Annotated[int, Field(ge=0, le=64)] = 0
    pods: Annotated[int, Field(ge=1, le=10_000)] = 110
    storage: Quantity = "1Ti"
    zones: tuple[LabelValue, ...] = ()
    """Nodes take these zones in turn, as `topology.kubernetes.io/zone`."""
    resources: dict[LabelKey, Quantity] = Field(default_factory=dict)
    """Further extended resources."""
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict)
    taints: tuple[Annotated[Taint, BeforeValidator(_taint)], ...] = ()


class PoolFile(_Strict):
    """All pools of a cluster."""

    pools: Annotated[tuple[Pool, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        twice = [name for name, number in Counter(pool.name for pool in self.pools).items() if number > 1]
        if twice:
            raise ValueError(f"pool names must differ: {', '.join(twice)}")
        total = sum(pool.count for pool in self.pools)
        if total > MAX_NODES:
            raise ValueError(f"{total} nodes are more than the {MAX_NODES} that a local cluster takes")
        return self


def read_pools(path: Path) -> PoolFile:
    """Read and check a node pool file.

    Raises:
        InvalidInputError: it cannot be read, is no YAML, or a field is wrong; the message has one line per error.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInputError(
            f"{path}: {error.strerror}", hint="Give the path of a node pool file; examples/local/ holds some."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path} is no YAML: {error}") from error
    if not isinstance(content, dict):
        content = {"pools": content} if isinstance(content, list) else {}
    try:
        return PoolFile.model_validate(content)
    except ValidationError as error:
        lines = [f"{path}: {_place(detail['loc'], content)}: {_complaint(detail['msg'])}" for detail in error.errors()]
        raise InvalidInputError("\n".join(lines), hint="docs/local-cluster.md describes the file's fields.") from error


def _place(location: tuple[int | str, ...], content: dict[str, object]) -> str:
    """pools[1] (gpu).count: where an error is, with the pool's name where it has one."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part != "[key]":
            text += f".{part}" if text else str(part)
    pools = content.get("pools")
    if len(location) > 1 and isinstance(location[1], int) and isinstance(pools, list):
        pool = pools[location[1]]
        if isinstance(pool, dict) and pool.get("name"):
            text = text.replace(f"[{location[1]}]", f"[{location[1]}] ({pool['name']})", 1)
    return text or "file"


def _complaint(message: str) -> str:
    if _QUANTITY in message:
        return "is no quantity such as 16, 500m or 64Gi"
    if _LABEL_VALUE in message or _LABEL_KEY in message:
        return "is no valid label (letters, digits, '-', '_', '.'; at most 63)"
    return message.removeprefix("Value error, ")
