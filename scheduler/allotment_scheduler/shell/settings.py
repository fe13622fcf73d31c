"""What an administrator may set: one flat tree, from a file and from the environment.

Precedence: command line, then environment (``ALLOTMENT_`` and the field's name in capitals), then the file named by
``--config`` or ``ALLOTMENT_CONFIG`` (YAML, the fields' names in camelCase), then the defaults below. A wrong value ends
the program at its start with one line per fault, each naming the field and where it was set.

The file is read again when it changes. A version that is wrong is refused as a whole and the last good one stays in
force; fields in `FIXED` take effect at the next start only.
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from allotment_scheduler.core.settings import Settings as CoreSettings

PREFIX: Final = "ALLOTMENT_"
FIXED: Final = frozenset(
    {
        "namespace", "http_host", "http_port", "lease_seconds", "connections", "pod_name", "pod_uid", "kubeconfig",
        "share_policy", "log_format",
    }
)  # fmt: skip
"""Fields whose change needs a restart."""


class SettingsError(Exception):
    """Settings that cannot be used; the message says which and why."""


class Settings(BaseModel):
    """The scheduler's settings."""

    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, extra="forbid", frozen=True, use_attribute_docstrings=True
    )

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe messages that are logged."""

    log_format: Literal["auto", "json", "text"] = "auto"
    """One JSON object per line, or text for people; auto is text on a terminal."""

    namespace: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")] = "allotment-system"
    """The scheduler's own namespace, where its Lease is."""

    http_host: str = "0.0.0.0"  # noqa: S104 - in a pod, behind a NetworkPolicy
    """Address on which health and metrics are served."""

    http_port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """Port of /healthz, /readyz, /statusz and /metrics; 0 takes any free one."""

    lease_seconds: Annotated[float, Field(ge=6, le=300)] = 15
    """How long another scheduler waits after the last sign of life of this one."""

    connections: Annotated[int, Field(ge=8, le=1024)] = 96
    """Connections to the API server at once; bindings use all but a few of them."""

    share_policy: Literal["drf", "hdrf"] = "drf"
    """How shares of inner tenants are compared: drf compares plain sums over the resources that the candidate uses,
    hdrf rescales the children as in Hierarchical DRF (Bhattacharya et al., 2013)."""

    starts_per_cycle: Annotated[int, Field(ge=1, le=10_000)] = 128
    """Pods decided before watches and lease renewals get their turn."""

    coalesce_seconds: Annotated[float, Field(ge=0, le=10)] = 0.01
    """How long events are gathered before a cycle begins."""

    confirm_seconds: Annotated[float, Field(ge=1, le=600)] = 30
    """How long a binding may take to come back by the watch before the pod is read."""

    eviction_seconds: Annotated[float, Field(ge=1, le=3600)] = 120
    """How long the room for a claimant is held beyond the victims' grace periods before the plan is given up."""

    volume_seconds: Annotated[float, Field(ge=1, le=3600)] = 600
    """How long a pod's room is held while a volume is made for it."""

    minimum_runtime_seconds: Annotated[float, Field(ge=0, le=86_400)] = 300
    """How long a pod has run at least before it can be evicted for fairness between tenants."""

    backoff_seconds: Annotated[float, Field(ge=0, le=86_400)] = 60
    """How long a workload that was evicted may not claim others' room; doubled with every further eviction."""

    longest_backoff_seconds: Annotated[float, Field(ge=0, le=604_800)] = 3600
    """Bound of that doubling."""

    evictions_per_hour: Annotated[int, Field(ge=0, le=1_000_000)] = 1000
    """Pods of one tenant that may be evicted for fairness within an hour."""

    evictions_per_cycle: Annotated[int, Field(ge=0, le=1_000_000)] = 1000
    """Pods that may be evicted in one cycle in all."""

    reserve_after_seconds: Annotated[float, Field(ge=0, le=604_800)] = 300
    """How long a unit that fits nowhere waits before nodes are reserved for it."""

    drain_after_seconds: Annotated[float, Field(ge=0, le=604_800)] = 1800
    """How long reserved nodes whose pods have no declared end accept new pods."""

    reservations_per_pool: Annotated[int, Field(ge=0, le=1000)] = 1
    """Units with a reservation at a time in one pool."""

    successor_hold_seconds: Annotated[float, Field(ge=0, le=86_400)] = 600
    """How long the room of a pod that its StatefulSet or Job recreates is held for its successor."""

    quarantine_seconds: Annotated[float, Field(ge=0.1, le=3600)] = 10
    """How long a pod whose binding was refused stays aside, doubled with every further refusal up to ten minutes."""

    explain_seconds: Annotated[float, Field(ge=0.1, le=3600)] = 1
    """How often waiting pods are explained anew; only what changed is written."""

    explained_per_pass: Annotated[int, Field(ge=1, le=100_000)] = 200
    """Waiting pods that are explained each time, in turn."""

    numbers_seconds: Annotated[float, Field(ge=1, le=3600)] = 60
    """How often a pod's message is rewritten where only its numbers have changed."""

    status_seconds: Annotated[float, Field(ge=1, le=3600)] = 5
    """Least time between two writes of one Tenant's, NodePool's or PodGroup's status."""

    pod_name: str = ""
    """Name of the pod we run in; part of the Lease holder's identity."""

    pod_uid: str = ""
    """Uid of the pod we run in; part of the Lease holder's identity."""

    kubeconfig: Path | None = None
    """File that says where the API server is; absent: as kubectl finds it, or the pod's service account."""

    @property
    def core(self) -> CoreSettings:
        """What of it the core goes by."""
        return CoreSettings(
            least_runtime=self.minimum_runtime_seconds,
            backoff=self.backoff_seconds,
            longest_backoff=self.longest_backoff_seconds,
            evictions_per_hour=self.evictions_per_hour,
            evictions_per_cycle=self.evictions_per_cycle,
            age=self.reserve_after_seconds,
            drain=self.drain_after_seconds,
            reservations_per_pool=self.reservations_per_pool,
            successor_hold=self.successor_hold_seconds,
        )

    @property
    def identity(self) -> str:
        """Who we are in the Lease, where the pod says so; empty otherwise."""
        return f"{self.pod_name}_{self.pod_uid}" if self.pod_name and self.pod_uid else ""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where settings come from; they can be read more than once."""

    file: Path | None
    environment: Mapping[str, str]
    given: Mapping[str, Any]

    @classmethod
    def of(cls, arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> Self:
        """Read the command line; `--help` lists every setting."""
        parser = argparse.ArgumentParser(
            prog="allotment-scheduler",
            description="Decides where and when every tenant's pod runs, by weighted dominant shares.",
            epilog=_listing(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument("--config", type=Path, default=None, help="YAML file of settings (also ALLOTMENT_CONFIG)")
        for name in ("kubeconfig", "namespace", "log_level", "log_format", "http_host", "http_port"):
            described = (Settings.model_fields[name].description or "").replace("%", "%%")
            parser.add_argument(f"--{name.replace('_', '-')}", default=None, help=described)
        parsed = vars(parser.parse_args(arguments))
        named = parsed.pop("config")
        if named is None and environment.get("ALLOTMENT_CONFIG"):
            named = Path(environment["ALLOTMENT_CONFIG"])
        return cls(named, environment, {name: value for name, value in parsed.items() if value is not None})

    def read(self) -> Settings:
        """Merge all sources.

        Raises:
            SettingsError: the file cannot be read, or a value is wrong.
        """
        values = _from_file(self.file) if self.file else {}
        origins = dict.fromkeys(values, str(self.file))
        for name in Settings.model_fields:
            variable = PREFIX + name.upper()
            if self.environment.get(variable):
                values[to_camel(name)] = self.environment[variable]
                origins[to_camel(name)] = variable
        for name, value in self.given.items():
            values[to_camel(name)] = value
            origins[to_camel(name)] = f"--{name.replace('_', '-')}"
        try:
            return Settings.model_validate(values)
        except ValidationError as error:
            lines = [
                f"  {fault['loc'][0]} ({origins.get(str(fault['loc'][0]), 'default')}): {_complaint(fault)}"
                for fault in error.errors(include_url=False)
            ]
            raise SettingsError("\n".join(["these settings cannot be used:", *lines])) from None


def fixed_changes(before: Settings, after: Settings) -> list[str]:
    """Fields that differ but take effect at the next start only, as written in the file."""
    return sorted(to_camel(name) for name in FIXED if getattr(before, name) != getattr(after, name))


def _complaint(fault: Any) -> str:  # noqa: ANN401 - pydantic's typed dict
    if fault["type"] == "extra_forbidden":
        return f"there is no such setting; known are {', '.join(map(to_camel, Settings.model_fields))}"
    return f"{fault['msg']}, not {fault['input']!r}"


def _from_file(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise SettingsError(f"{file} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise SettingsError(f"{file} must hold a mapping of settings, such as 'startsPerCycle: 64'")
    return {str(key): value for key, value in content.items()}


def _listing() -> str:
    lines = ["settings, as written in the file (default):"]
    for name, field in Settings.model_fields.items():
        lines.append(f"  {to_camel(name)} ({field.default!s}): {field.description}")
    return "\n".join(lines)
