"""Files into documents: YAML or JSON, several to a file, Lists taken apart.

YAML is read as `kubectl` reads it: times stay text, and a key may stand in a mapping once. Tags beyond YAML's own
scalars are refused. Whatever a file holds, it is read to documents or refused: with its name, and the line where the
reader knows it.
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Final

import msgspec

from allotment_scheduler.manifests.faults import DEEPEST, ManifestError

Manifest = Mapping[str, Any]
STDIN: Final = Path("-")
SUFFIXES: Final = (".yaml", ".yml", ".json")
"""Files of a folder that are read, as by `kubectl`."""
_SPACE: Final = re.compile(r"\s*")
_BRACKET: Final = re.compile(r"[\[\]{}]")
_INDENT: Final = re.compile(r"^[ ?-]+", re.MULTILINE)
_DEEPEST: Final = 2 * DEEPEST
_TOO_DEEP: Final = f"it is more than {_DEEPEST} levels deep: no object of Kubernetes is"
_MOST_BY_ALIASES: Final = 100_000
"""Values of a document that stand there by aliases alone."""
_MOST_LISTS: Final = 8
"""Lists within Lists."""
_UNTAGGED: Final = ("null", "bool", "int", "float", "str", "seq", "map", "timestamp", "merge", "value")


@dataclass(frozen=True, slots=True)
class Document:
    """One object with the place it stands in.

    Attributes:
        origin: file and document.
        content: the object.
        maker: the workload whose template it was made of, as messages name it; its fields stand under spec.template.
        arrives: it does not exist yet: it comes now, behind everybody.
        edited: it is there, and stands here as it would be after a change.
    """

    origin: str
    content: Manifest
    maker: str = ""
    arrives: bool = False
    edited: bool = False

    @property
    def kind(self) -> str:
        """Its kind."""
        return str(self.content.get("kind", ""))

    @property
    def group(self) -> str | None:
        """Its API group, empty for the core; None where it does not say."""
        version = self.content.get("apiVersion")
        if version is None:
            return None
        return str(version).rpartition("/")[0]

    @property
    def metadata(self) -> Manifest:
        """Its metadata."""
        found = self.content.get("metadata")
        return found if isinstance(found, Mapping) else {}

    @property
    def spec(self) -> Manifest:
        """Its spec."""
        found = self.content.get("spec")
        return found if isinstance(found, Mapping) else {}

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.metadata.get("name") or "")

    @property
    def namespace(self) -> str:
        """Its namespace; `default` where it names none."""
        return str(self.metadata.get("namespace") or "default")

    @property
    def title(self) -> str:
        """Kind and name for messages."""
        return self.maker or f"{self.kind} {self.name}"

    @property
    def prefix(self) -> str:
        """What every message about it begins with."""
        return f"{self.origin}: {self.title}"

    def at(self, field: str) -> str:
        """A field as it stands in the file."""
        return f"spec.template.{field}" if self.maker and field else field


def read_documents(path: Path) -> Iterator[Document]:
    """The objects of a file, or of a folder's files; "-" is standard input.

    Raises:
        ManifestError: it cannot be read, or holds something else than objects of Kubernetes.
    """
    files = None if path == STDIN else _files_of(path)
    if files is not None:
        for each in files:
            yield from read_documents(each)
        return
    name = "standard input" if path == STDIN else str(path)
    for number, content in enumerate(_parse(name, _text(name, path)), start=1):
        if content is not None:
            yield from _unfold(f"{name}, document {number}", content, _MOST_LISTS)


def _files_of(path: Path) -> list[Path] | None:
    """The files of a folder that are read; None where it is none."""
    try:
        if not path.is_dir():
            return None
        found = sorted(it for it in path.iterdir() if it.suffix in SUFFIXES and it.is_file())
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read: {error.strerror}") from error
    if not found:
        raise ManifestError(f"{path}: holds no file that ends in {', '.join(SUFFIXES)}: name the files themselves")
    return found


def _text(name: str, path: Path) -> str:
    try:
        found = sys.stdin.buffer.read() if path == STDIN else path.read_bytes()
        return found.decode("utf-8-sig")
    except OSError as error:
        raise ManifestError(f"{name}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ManifestError(f"{name}: is not in UTF-8 (byte {error.start}): save it in that encoding") from error


def _parse(name: str, text: str) -> Iterable[Any]:
    try:
        if text.lstrip().startswith("{"):
            return [msgspec.json.decode(text)]
    except (msgspec.DecodeError, RecursionError):
        if (several := _several(text)) is not None:
            return several
        # Else it is flow-style YAML, or broken: the YAML reader says what is wrong.
    import yaml  # noqa: PLC0415 - JSON is read without it

    try:
        _bound_depth(text)
        return list(yaml.load_all(text, Loader=_loader()))
    except yaml.YAMLError as error:
        what = " ".join(str(error).split()).replace('in "<unicode string>", line', "at line")
        raise ManifestError(f"{name}: is no YAML: {what}") from error
    except ManifestError as error:
        raise ManifestError(f"{name}: {error}") from error
    except RecursionError as error:
        raise ManifestError(f"{name}: {_TOO_DEEP}") from error
    except Exception as error:  # the reader's constructors end in all kinds of errors
        raise ManifestError(f"{name}: is no YAML: a value does not fit its tag: {error}") from error


def _bound_depth(text: str) -> None:
    """Refuse what is nested so deeply that the C reader, which calls itself for each level, would crash.

    Brackets and indentation bound the depth; only where they are many is it counted.
    """
    depth = deepest = 0
    for match in _BRACKET.finditer(text):
        depth += 1 if match[0] in "[{" else -1
        deepest = max(deepest, depth)
    indented = max((len(each) for each in _INDENT.findall(text)), default=0)
    if deepest + indented <= _DEEPEST:
        return
    import yaml  # noqa: PLC0415 - as above

    depth = 0
    for event in yaml.parse(text, Loader=_loader()):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _DEEPEST:
            raise ManifestError(_TOO_DEEP)


def _bound_aliases(root: Any) -> None:  # noqa: ANN401 - PyYAML's nodes are untyped
    """Refuse a document that its aliases make huge, too deep or endless: a kilobyte can stand for all memory.

    Raises:
        ManifestError: it stands for more than it may.
    """
    sizes: dict[int, tuple[int, int]] = {}
    """Of each node: values as often as they stand there, and levels; (0, 0) while its parts are counted."""
    stack = [root]
    while stack:
        node = stack[-1]
        parts = node.value if isinstance(node.value, list) else ()
        inner = [each for part in parts for each in (part if isinstance(part, tuple) else (part,))]
        if id(node) not in sizes:
            sizes[id(node)] = (0, 0)
            for each in inner:
                known = sizes.get(id(each))
                if known == (0, 0):
                    raise ManifestError(f"an alias stands for what it stands in ({_place(node)}): write it out")
                if known is None:
                    stack.append(each)
            continue
        stack.pop()
        found = [sizes[id(each)] for each in inner]
        size, depth = 1 + sum(each[0] for each in found), 1 + max((each[1] for each in found), default=0)
        sizes[id(node)] = (size, depth)
        if depth > _DEEPEST:
            raise ManifestError(_TOO_DEEP)
        if size - len(sizes) > _MOST_BY_ALIASES:
            raise ManifestError(f"aliases stand for more than {_MOST_BY_ALIASES:,} values ({_place(node)}): write less")


def _place(node: Any) -> str:  # noqa: ANN401 - as above
    return f"line {node.start_mark.line + 1}"


def _several(text: str) -> list[Any] | None:
    """JSON documents one after the other; None where it is something else."""
    decoder, found, at = json.JSONDecoder(), [], 0
    try:
        at = len(text) - len(text.lstrip())
        while at < len(text):
            one, at = decoder.raw_decode(text, at)
            found.append(one)
            at = _SPACE.match(text, at).end()  # type: ignore[union-attr] # it matches nothing, too
    except (ValueError, RecursionError):
        return None
    return found


@cache
def _loader() -> Any:  # noqa: ANN401 - a class of one of two bases
    """YAML's safe loader, as `kubectl` reads it."""
    import yaml  # noqa: PLC0415 - as above

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(base):  # type: ignore[misc] # the base is one of two
        yaml_implicit_resolvers: ClassVar = {
            first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
            for first, resolvers in base.yaml_implicit_resolvers.items()
        }
        yaml_constructors: ClassVar = {
            tag: made for tag, made in base.yaml_constructors.items()
            if tag is None or tag.rpartition(":")[2] in _UNTAGGED
        }  # fmt: skip

        def construct_document(self, node: Any) -> Any:  # noqa: ANN401 - PyYAML's own
            _bound_aliases(node)
            return super().construct_document(node)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:  # noqa: ANN401, FBT001, FBT002 - PyYAML's own
            seen: set[str] = set()
            for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
                if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                    if key.value in seen:
                        raise yaml.constructor.ConstructorError(
                            None, None, f"the key {key.value!r} stands there twice: remove one", key.start_mark
                        )
                    seen.add(key.value)
            return super().construct_mapping(node, deep=deep)

    Loader.add_constructor("tag:yaml.org,2002:timestamp", Loader.construct_yaml_str)
    return Loader


def _unfold(origin: str, content: object, lists: int) -> Iterator[Document]:
    if not isinstance(content, dict) or "kind" not in content:
        raise ManifestError(f"{origin}: is no Kubernetes object: it needs apiVersion, kind and metadata")
    kind, version = content["kind"], content.get("apiVersion")
    if not isinstance(kind, str) or not kind:
        raise ManifestError(f"{origin}: kind: must be text, such as Pod")
    _printable(f"{origin}: kind", kind)
    if version is not None and not isinstance(version, str):
        raise ManifestError(f"{origin}: {kind}: apiVersion: must be text, such as v1")
    _printable(f"{origin}: {kind}: apiVersion", version)
    if kind.endswith("List") and ("items" in content or kind == "List"):
        yield from _items(origin, kind, content, lists)
        return
    metadata = content.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise ManifestError(f"{origin}: {kind}: metadata: must be a mapping of fields, name among them")
    for field in ("name", "namespace"):
        value = (metadata or {}).get(field)
        if value is not None and not isinstance(value, str):
            raise ManifestError(f"{origin}: {kind}: metadata.{field}: must be text: put it in quotes")
        _printable(f"{origin}: {kind}: metadata.{field}", value)
    if not (metadata or {}).get("name"):
        why = "the API server makes one of generateName" if (metadata or {}).get("generateName") else "is required"
        raise ManifestError(f"{origin}: {kind}: metadata.name: {why}: add it")
    yield Document(origin, content)


def _printable(field: str, text: str | None) -> None:
    """Refuse what a terminal would obey: names are printed, and others may have written them."""
    if text and not text.isprintable():
        raise ManifestError(f"{field}: {text!r} has letters that cannot be printed: remove them")


def _items(origin: str, kind: str, content: Manifest, lists: int) -> Iterator[Document]:
    """The objects of a List; those of a PodList and the like need not say what they are."""
    items = content["items"] if content.get("items") is not None else []
    if not isinstance(items, list):
        raise ManifestError(f"{origin}: {kind}: items: must be a list of objects")
    if not lists:
        raise ManifestError(f"{origin}: {kind}: Lists stand within Lists too often: write the objects one by one")
    known: Manifest = {}
    if kind != "List":
        known = {"kind": kind.removesuffix("List"), "apiVersion": content.get("apiVersion")}
    for number, item in enumerate(items, start=1):
        whole = {**known, **item} if isinstance(item, dict) else item
        yield from _unfold(f"{origin}, item {number}", whole, lists - 1)
