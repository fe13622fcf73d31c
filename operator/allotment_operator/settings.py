"""What an administrator may set: one flat tree, from a file and from the environment, read once at the start.

Precedence: command line, then environment (``ALLOTMENT_`` and the field's name in capitals), then the file named by
``--config`` or ``ALLOTMENT_CONFIG`` (YAML, the fields' names in camelCase), then the defaults below. A wrong value ends
the program with one line per fault, each naming the field and where it was set.
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

PREFIX: Final = "ALLOTMENT_"


class SettingsError(Exception):
    """Settings that cannot be used; the message says which and why."""


class Settings(BaseModel):
    """The operator's settings."""

    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, extra="forbid", frozen=True, use_attribute_docstrings=True
    )

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe messages that are logged."""

    log_format: Literal["auto", "json", "text"] = "auto"
    """One JSON object per line, or text for people; auto is text on a terminal."""

    namespace: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")] = "allotment-system"
    """The operator's own namespace: its Lease, and the private keys of certificate authorities."""

    http_host: str = "0.0.0.0"  # noqa: S104 - in a pod, behind a NetworkPolicy
    """Address on which health and metrics are served."""

    http_port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """Port of /healthz, /readyz and /metrics; 0 takes any free one."""

    workers: Annotated[int, Field(ge=1, le=256)] = 16
    """How many resources are worked on at once. More helps where services are slow to answer."""

    resync_seconds: Annotated[float, Field(ge=5, le=86_400)] = 300
    """How often a resource at rest is looked at again, and all kinds are listed. A lost event costs at most this."""

    probe_seconds: Annotated[float, Field(ge=1, le=3600)] = 60
    """How often a running service is asked whether clients can use it."""

    lease_seconds: Annotated[float, Field(ge=6, le=300)] = 15
    """How long another operator waits after the last sign of life of this one."""

    pod_name: str = ""
    """Name of the pod we run in; part of the Lease holder's identity."""

    pod_uid: str = ""
    """Uid of the pod we run in; part of the Lease holder's identity."""

    kubeconfig: Path | None = None
    """File that says where the API server is; absent: as kubectl finds it, or the pod's service account."""

    @classmethod
    def load(cls, *, file: Path | None, environment: Mapping[str, str], given: Mapping[str, Any] | None = None) -> Self:
        """Merge all sources.

        Raises:
            SettingsError: the file cannot be read, or a value is wrong.
        """
        values = _from_file(file) if file else {}
        sources = dict.fromkeys(values, str(file))
        for name in cls.model_fields:
            variable = PREFIX + name.upper()
            if environment.get(variable):
                values[to_camel(name)] = environment[variable]
                sources[to_camel(name)] = variable
        for name, value in (given or {}).items():
            values[to_camel(name)] = value
            sources[to_camel(name)] = f"--{name.replace('_', '-')}"
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            lines = [
                f"  {fault['loc'][0]} ({sources.get(str(fault['loc'][0]), 'default')}): {_complaint(fault)}"
                for fault in error.errors(include_url=False)
            ]
            raise SettingsError("\n".join(["these settings cannot be used:", *lines])) from None

    @property
    def identity(self) -> str:
        """Who we are in the Lease, where the pod says so; empty otherwise."""
        return f"{self.pod_name}_{self.pod_uid}" if self.pod_name and self.pod_uid else ""


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
        raise SettingsError(f"{file} must hold a mapping of settings, such as 'workers: 16'")
    return {str(key): value for key, value in content.items()}


def from_command_line(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the command line and all that it points to; `--help` lists every setting.

    Raises:
        SettingsError: see `Settings.load`.
    """
    parser = argparse.ArgumentParser(
        prog="allotment-operator",
        description="Turns tenants' custom resources into running services and looks after them for life.",
        epilog=_listing(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, default=None, help="YAML file of settings (also ALLOTMENT_CONFIG)")
    for name in ("kubeconfig", "namespace", "log_level", "log_format", "http_host", "http_port", "workers"):
        parser.add_argument(f"--{name.replace('_', '-')}", default=None, help=Settings.model_fields[name].description)
    parsed = vars(parser.parse_args(arguments))
    named = parsed.pop("config") or (
        Path(environment["ALLOTMENT_CONFIG"]) if "ALLOTMENT_CONFIG" in environment else None
    )
    return Settings.load(
        file=named, environment=environment, given={name: value for name, value in parsed.items() if value is not None}
    )


def _listing() -> str:
    lines = ["settings, as written in the file (default):"]
    for name, field in Settings.model_fields.items():
        lines.append(f"  {to_camel(name)} ({field.default!s}): {field.description}")
    return "\n".join(lines)
