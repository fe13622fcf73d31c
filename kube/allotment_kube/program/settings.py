"""How both programs read their settings: one flat tree, from a file, the environment and the command line.

Precedence: command line, then environment (``ALLOTMENT_`` and the field's name in capitals), then the file named by
``--config`` or ``ALLOTMENT_CONFIG`` (YAML, the fields' names in camelCase), then the defaults. A wrong value ends the
program at its start with one line per fault, each naming the field and where it was set.

Each program derives its own tree from `ProgramSettings` and reads it through `Sources`, once or again and again.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Generic, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from allotment_api.docstrings import texts

PREFIX: Final = "ALLOTMENT_"
NAMESPACE: Final = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
"""What a namespace's name looks like."""
COMMON_OPTIONS: Final = ("kubeconfig", "namespace", "log_level", "log_format", "http_host", "http_port")
"""Settings of every program that its command line takes, too."""


class SettingsError(Exception):
    """Settings that cannot be used; the message says which and why."""


class ProgramSettings(BaseModel):
    """What can be set about every program."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, extra="forbid", frozen=True)

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe messages that are logged."""

    log_format: Literal["auto", "json", "text"] = "auto"
    """One JSON object per line, or text for people; auto is text on a terminal."""

    namespace: Annotated[str, Field(pattern=NAMESPACE)] = "allotment-system"
    """The program's own namespace, where its Lease is."""

    http_host: str = "0.0.0.0"  # noqa: S104 - in a pod, behind a NetworkPolicy
    """Address on which health and metrics are served."""

    http_port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """Port of /healthz, /readyz and /metrics; 0 takes any free one."""

    lease_seconds: Annotated[float, Field(ge=6, le=300)] = 15
    """How long another copy of the program waits after the last sign of life of this one."""

    pod_name: str = ""
    """Name of the pod we run in; part of the Lease holder's identity."""

    pod_uid: str = ""
    """Uid of the pod we run in; part of the Lease holder's identity."""

    kubeconfig: Path | None = None
    """File that says where the API server is; absent: as kubectl finds it, or the pod's service account."""

    @property
    def identity(self) -> str:
        """What begins our name in the Lease, where the pod says so; empty otherwise.

        It does not tell one process in the pod from the next: a container is restarted, its pod is not.
        """
        return f"{self.pod_name}_{self.pod_uid}" if self.pod_name and self.pod_uid else ""


S = TypeVar("S", bound=ProgramSettings)


@dataclass(frozen=True, slots=True)
class Sources(Generic[S]):
    """Where a program's settings come from; they can be read more than once.

    Attributes:
        model: the program's settings.
        file: YAML; None for no file.
        environment: variables, ours and others.
        given: what the command line says, by the fields' names.
    """

    model: type[S]
    file: Path | None
    environment: Mapping[str, str]
    given: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        model: type[S],
        arguments: Sequence[str],
        environment: Mapping[str, str],
        *,
        program: str,
        description: str,
        options: Sequence[str] = COMMON_OPTIONS,
    ) -> Self:
        """Read the command line; `--help` lists every setting.

        Args:
            model: the program's settings.
            arguments: the command line without the program's name.
            environment: where `ALLOTMENT_CONFIG` and the single settings are looked for.
            program: its name, for the help.
            description: what it does, for the help.
            options: fields that the command line takes.
        """
        parser = argparse.ArgumentParser(
            prog=program,
            description=description,
            epilog=_listing(model),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument("--config", type=Path, default=None, help="YAML file of settings (also ALLOTMENT_CONFIG)")
        for name in options:
            parser.add_argument(_option(name), default=None, help=texts(model).get(name, "").replace("%", "%%"))
        parsed = vars(parser.parse_args(arguments))
        file: Path | None = parsed.pop("config")
        if file is None and environment.get("ALLOTMENT_CONFIG"):
            file = Path(environment["ALLOTMENT_CONFIG"])
        given = {name: value for name, value in parsed.items() if value is not None}
        return cls(model, file, environment, given)

    def read(self) -> S:
        """Merge all sources.

        Raises:
            SettingsError: the file cannot be read, or a value is wrong.
        """
        values = _from_file(self.file) if self.file else {}
        origins = dict.fromkeys(values, str(self.file))
        for name in self.model.model_fields:
            variable = PREFIX + name.upper()
            if self.environment.get(variable):
                values[to_camel(name)] = self.environment[variable]
                origins[to_camel(name)] = variable
        for name, value in self.given.items():
            values[to_camel(name)] = value
            origins[to_camel(name)] = _option(name)
        try:
            # By one spelling only: the chart, too, looks for settings by it.
            return self.model.model_validate(values, by_alias=True, by_name=False)
        except ValidationError as error:
            lines = [
                f"  {fault['loc'][0]} ({origins.get(str(fault['loc'][0]), 'default')}): {self._complaint(fault)}"
                for fault in error.errors(include_url=False)
            ]
            raise SettingsError("\n".join(["these settings cannot be used:", *lines])) from None

    def _complaint(self, fault: Any) -> str:  # noqa: ANN401 - pydantic's typed dict
        if fault["type"] == "extra_forbidden":
            if fault["loc"][0] in self.model.model_fields:
                return f"write {to_camel(fault['loc'][0])}"
            return f"there is no such setting; known are {', '.join(map(to_camel, self.model.model_fields))}"
        return f"{fault['msg']}, not {fault['input']!r}"


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _from_file(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise SettingsError(f"{file} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise SettingsError(f"{file} must hold a mapping of settings, such as 'logLevel: debug'")
    return {str(key): value for key, value in content.items()}


def _listing(model: type[ProgramSettings]) -> str:
    lines = ["settings, as written in the file (default):"]
    for name, field in model.model_fields.items():
        lines.append(f"  {to_camel(name)} ({field.default!s}): {texts(model).get(name, '')}")
    return "\n".join(lines)
