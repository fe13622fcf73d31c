"""What all kinds have in common: metadata, and the facts a CustomResourceDefinition states besides the schema.

How it thinks: a kind is a `Resource` subclass with `spec`, `status` and a `Definition`. The registry collects them;
`crd` turns each into its CustomResourceDefinition.

It must never validate metadata beyond what the rules need: that is the API server's.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from allotment_api.errors import InvalidManifestError
from allotment_api.model import STORED, Model, Rule


@dataclass(frozen=True, slots=True)
class Column:
    """One column of `kubectl get`."""

    name: str
    json_path: str
    type: Literal["string", "integer", "number", "boolean", "date"]
    description: str
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Scale:
    """Where the scale subresource reads and writes, so that `kubectl scale` and autoscalers work."""

    spec_path: str
    status_path: str
    selector_path: str


@dataclass(frozen=True, slots=True)
class Definition:
    """Names, scope and presentation of a kind."""

    kind: str
    plural: str
    short_names: tuple[str, ...]
    scope: Literal["Cluster", "Namespaced"]
    columns: tuple[Column, ...]
    scale: Scale | None = None
    longest_name: int = 63
    """Longest metadata.name, in characters: what remains of 63 after the suffixes of the objects made from it."""

    @property
    def singular(self) -> str:
        """The kind in lower case."""
        return self.kind.lower()


AGE = Column("Age", ".metadata.creationTimestamp", "date", "Time since creation.")


def ready_column(type_: str = "Ready") -> Column:
    """The column that answers whether all is well."""
    return Column(
        type_, f'.status.conditions[?(@.type=="{type_}")].status', "string", "Whether it does what its spec asks for."
    )


def reason_column(type_: str = "Ready") -> Column:
    """The column that says why it is or is not ready, shown by `-o wide`."""
    return Column(
        "Message", f'.status.conditions[?(@.type=="{type_}")].message', "string", "Why, in a sentence.", wide=True
    )


LABEL_NAME = Rule(
    "!self.metadata.name.contains('.')",
    "metadata.name becomes the value of a label and part of other names: write it without dots",
    lambda it: "." not in it.metadata.name,
    field_path=".metadata.name",
)
"""For kinds whose name must be a DNS label. That it is a DNS name at all is the API server's own rule, as is its
length (`Definition.longest_name`)."""

STARTS_WITH_LETTER = Rule(
    "self.metadata.name.matches('^[a-z]')",
    "metadata.name becomes the name of a Service: begin it with a letter",
    lambda it: it.metadata.name[:1].isalpha() or not it.metadata.name,
    field_path=".metadata.name",
)
"""For kinds that make Services."""


class ObjectMeta(BaseModel):
    """The part of an object's metadata that the programs read. The rest is the API server's to judge."""

    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, extra="allow", frozen=True
    )

    name: str = ""
    namespace: str | None = None
    uid: str | None = None
    generation: int | None = None
    resource_version: str | None = None
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    finalizers: tuple[str, ...] = ()
    labels: Annotated[dict[str, str], BeforeValidator(lambda given: given or {})] = Field(default_factory=dict)
    annotations: Annotated[dict[str, str], BeforeValidator(lambda given: given or {})] = Field(default_factory=dict)


class Resource(Model):
    """Base of every kind."""

    definition: ClassVar[Definition]

    api_version: Literal["allotment.dev/v1alpha1"] = "allotment.dev/v1alpha1"
    """Group and version: allotment.dev/v1alpha1."""

    kind: str
    """Kind of the object."""

    metadata: ObjectMeta = Field(default_factory=ObjectMeta)
    """Standard object metadata."""

    @model_validator(mode="after")
    def _name_is_short_enough(self) -> Self:
        longest = self.definition.longest_name
        if len(self.metadata.name) > longest:
            raise ValueError(f"metadata.name is too long: write {longest} or fewer characters")
        return self

    @classmethod
    def parse(cls, manifest: object, *, strict: bool = True) -> Self:
        """Read one object from a decoded manifest.

        With `strict` an unknown field is an error, as for kubectl; without, it is ignored, as it must be when a newer
        API server sends objects to an older program. Then figures that an older definition let pass are read as the
        nearest that this one does.

        Raises:
            InvalidManifestError: with one line per fault, each naming the field and what to write.
        """
        try:
            if strict:
                return cls.model_validate(manifest)
            return cls.model_validate(manifest, extra="ignore", context=STORED)
        except ValidationError as error:
            raise InvalidManifestError.of(cls.definition.kind, manifest, error) from error

    def manifest(self) -> dict[str, Any]:
        """The object as it stands in a manifest."""
        out = super().manifest()
        out["metadata"] = self.metadata.model_dump(mode="json", by_alias=True, exclude_unset=True)
        return out
