"""Environment variables and mounted files of containers that run the tenant's own code.

How it thinks: values that are no secret stand here; secrets stay in Secrets and are named. Shapes are those of pods, as
far as they go.
"""

import re
from typing import Annotated, ClassVar

from pydantic import Field

from allotment_api.model import Model, Rule
from allotment_api.names import DnsName


class KeySelector(Model):
    """One key of a Secret or ConfigMap in the same namespace."""

    name: DnsName
    """Name of the Secret or ConfigMap."""

    key: Annotated[str, Field(min_length=1, max_length=253)]
    """Key in it."""


class EnvVarSource(Model):
    """Where the value of an environment variable comes from: exactly one."""

    secret_key_ref: KeySelector | None = None
    """A key of a Secret."""

    config_map_key_ref: KeySelector | None = None
    """A key of a ConfigMap."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.secretKeyRef) != has(self.configMapKeyRef)",
            "give exactly one of secretKeyRef and configMapKeyRef",
            lambda it: (it.secret_key_ref is None) != (it.config_map_key_ref is None),
        ),
    )


class EnvVar(Model):
    """An environment variable."""

    name: Annotated[
        str,
        Field(min_length=1, max_length=256),
        Rule(
            "self.matches('^[A-Za-z_][A-Za-z0-9_.-]*$')",
            "must be letters, digits, '_', '.' and '-', not beginning with a digit",
            lambda name: re.fullmatch("[A-Za-z_][A-Za-z0-9_.-]*", name) is not None,
        ),
    ]
    """Name of the variable."""

    value: Annotated[str, Field(max_length=4096)] | None = None
    """Its value. Secrets belong under valueFrom."""

    value_from: EnvVarSource | None = None
    """Where the value comes from."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!(has(self.value) && has(self.valueFrom))",
            "give value or valueFrom, not both",
            lambda it: it.value is None or it.value_from is None,
        ),
    )


class NamePath(Model):
    """A Secret or ConfigMap of the same namespace, mounted as files."""

    name: DnsName
    """Its name."""

    path: Annotated[
        str,
        Field(min_length=1, max_length=512),
        Rule("self.startsWith('/')", "must be an absolute path", lambda path: path.startswith("/")),
    ]
    """Folder that it appears under."""
