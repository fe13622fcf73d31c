"""Write the CustomResourceDefinitions and the reference pages from the models: `python -m allotment_api.generate`.

With `--check` nothing is written: files that differ from what would be are listed with the first lines of the
difference, and the exit code is 1.

How it thinks: what is generated is a pure mapping of paths to texts; writing and checking are two uses of it. Files in
the generated folders that no model accounts for are stale, and are removed (or reported).
"""

import argparse
import difflib
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final

import yaml

from allotment_api.crd import document
from allotment_api.reference import pages
from allotment_api.registry import KINDS
from allotment_api.resource import Resource

ROOT: Final = Path(__file__).resolve().parents[2]

CRD_FOLDERS: Final = (Path("crds"), Path("helm/allotment/crds"))
"""Folders that each hold one identical file per kind."""

REFERENCE: Final = Path("docs/reference")
"""Folder of the reference pages."""

_HEADER = "# Generated from the models in crds/allotment_api by `make generate`; do not edit.\n"


class _Dumper(yaml.SafeDumper):
    """Block style with indented lists and no anchors, so that differences stay readable."""

    def ignore_aliases(self, _data: object) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - PyYAML's signature
        super().increase_indent(flow, indentless=False)


@cache
def crd_text(kind: type[Resource]) -> str:
    """The file of one kind."""
    return _HEADER + yaml.dump(document(kind), Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)


def crd_file(kind: type[Resource]) -> str:
    """Name of that file."""
    return f"{kind.definition.plural}.yaml"


def files() -> dict[Path, str]:
    """Everything that is generated: path relative to the repository → text."""
    out = {folder / crd_file(kind): crd_text(kind) for folder in CRD_FOLDERS for kind in KINDS.values()}
    return out | {REFERENCE / name: text for name, text in pages().items()}


def stale(root: Path, wanted: Mapping[Path, str]) -> Iterator[Path]:
    """Files that an earlier generation left in our folders."""
    for folder, pattern in (*((folder, "*.yaml") for folder in CRD_FOLDERS), (REFERENCE, "*.md")):
        for path in sorted((root / folder).glob(pattern)):
            if path.relative_to(root) not in wanted:
                yield path.relative_to(root)


def write(root: Path) -> list[Path]:
    """Bring the files up to date; return those that changed."""
    wanted = files()
    changed = []
    for path, text in wanted.items():
        target = root / path
        if not target.exists() or target.read_text() != text:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
            changed.append(path)
    for path in list(stale(root, wanted)):
        (root / path).unlink()
        changed.append(path)
    return changed


def differences(root: Path) -> list[str]:
    """What is out of date, as a readable hint per file; empty when all is in sync."""
    wanted = files()
    hints = [f"{path}: no model accounts for this file" for path in stale(root, wanted)]
    for path, text in wanted.items():
        target = root / path
        have = target.read_text() if target.exists() else ""
        if have != text:
            lines = difflib.unified_diff(have.splitlines(), text.splitlines(), str(path), "generated", lineterm="", n=1)
            hints.append("\n".join(list(lines)[:20]))
    return hints


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the return value is the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m allotment_api.generate", description="Write CRDs and reference pages."
    )
    parser.add_argument("--check", action="store_true", help="change nothing; fail where a file is out of date")
    parser.add_argument("--root", type=Path, default=ROOT, help="repository to work on (default: the one this is in)")
    options = parser.parse_args(arguments)
    if options.check:
        hints = differences(options.root)
        if hints:
            sys.stderr.write("\n\n".join(hints) + "\n\nRun `python -m allotment_api.generate` and commit the result.\n")
        return 1 if hints else 0
    for path in write(options.root):
        sys.stdout.write(f"wrote {path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
