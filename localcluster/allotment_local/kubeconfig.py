"""Kubeconfig files: a cluster's own, and on request a context merged into the user's.

A merge touches only the entries of our name and remembers what the current context was. Like kubectl it takes
`FILE.lock` while it writes, replaces the file in one step and keeps it private. YAML comments do not survive, as with
kubectl itself.
"""

import base64
import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from allotment_kube.certificates import KeyPair
from allotment_local.errors import InvalidInputError, LocalClusterError
from allotment_local.keyfiles import write_private

_LOCK_PATIENCE = 10.0
_SECTIONS = ("clusters", "users", "contexts")


def client_kubeconfig(name: str, *, server: str, authority: bytes, client: KeyPair) -> bytes:
    """A kubeconfig with one cluster, one user and one context, all of one name, certificates inside."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": name, "cluster": {"server": server, "certificate-authority-data": _base64(authority)}},
        ],
        "users": [
            {
                "name": name,
                "user": {
                    "client-certificate-data": _base64(client.certificate_pem),
                    "client-key-data": _base64(client.key_pem),
                },
            },
        ],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    return yaml.safe_dump(content, sort_keys=False).encode()


def users_kubeconfig(environment: Mapping[str, str] = os.environ) -> Path:
    """The file that kubectl would write to: the first of KUBECONFIG, else ~/.kube/config."""
    named = [part for part in environment.get("KUBECONFIG", "").split(os.pathsep) if part]
    return Path(named[0]) if named else Path(environment.get("HOME") or Path.home()) / ".kube" / "config"


def merge(source: Path, target: Path) -> str | None:
    """Add the entries of `source` to `target` and make its context the current one.

    Returns:
        The current context before; None if there was none or it was ours already.
    """
    addition = _load(source)
    name = str(addition["current-context"])
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target):
        content: dict[str, Any] = _load(target) if target.exists() else {"apiVersion": "v1", "kind": "Config"}
        previous = content.get("current-context") or None
        for section in _SECTIONS:
            content[section] = [*_others(content, section, name), *addition[section]]
        content["current-context"] = name
        write_private(target.resolve(), yaml.safe_dump(content, sort_keys=False).encode())
    return previous if previous != name else None


def unmerge(name: str, target: Path, *, previous: str | None) -> None:
    """Take our entries out of `target`; give the current context back if it is still ours."""
    if not target.exists():
        return
    with _locked(target):
        content = _load(target)
        for section in _SECTIONS:
            content[section] = _others(content, section, name)
        if content.get("current-context") == name:
            known = [context["name"] for context in content["contexts"]]
            content["current-context"] = previous if previous in known else ""
        write_private(target.resolve(), yaml.safe_dump(content, sort_keys=False).encode())


def _others(content: dict[str, Any], section: str, name: str) -> list[dict[str, Any]]:
    return [entry for entry in content.get(section) or [] if entry.get("name") != name]


def _load(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise InvalidInputError(
            f"{path} is no YAML: {error}", hint="Repair or move that kubeconfig, or leave out --merge."
        ) from error
    if not isinstance(content, dict):
        raise InvalidInputError(f"{path} is no kubeconfig.", hint="Repair or move that file, or leave out --merge.")
    for section in _SECTIONS:
        entries = content.get(section) or []
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise InvalidInputError(
                f"{path} is no kubeconfig: `{section}` must be a list of mappings.",
                hint="Repair or move that file, or leave out --merge.",
            )
    return content


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = path.with_name(f"{path.name}.lock")
    end = time.monotonic() + _LOCK_PATIENCE
    while True:
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL, 0o600))
            break
        except FileExistsError:
            if time.monotonic() > end:
                raise LocalClusterError(
                    f"{lock} exists: another program writes {path.name}, or died doing so.",
                    hint=f"If no kubectl runs, remove {lock}.",
                ) from None
            time.sleep(0.1)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
