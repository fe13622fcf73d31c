"""The three kinds of patches and a working model of server-side apply.

Ownership is kept as sets of paths per manager. Lists that Kubernetes merges by key (conditions, containers…) are
addressed by that key; all other lists are atomic, as are unknown ones in custom resources.
"""

import copy
from typing import Any

Object = dict[str, Any]
Path = tuple[str, ...]
Owners = dict[str, set[Path]]

_MERGE_KEYS = {
    "conditions": "type",
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "ownerReferences": "uid",
}
_IDENTITY = {("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace"), ("metadata", "uid")}


class PatchError(Exception):
    """The patch does not fit the object (422)."""


class ApplyConflictError(Exception):
    """Fields belong to others: path to manager."""

    def __init__(self, owners: dict[str, str]) -> None:
        super().__init__(str(owners))
        self.owners = owners


def merge_patch(target: Any, patch: Any, *, keyed: bool = False, name: str = "") -> Any:
    """RFC 7386, or with `keyed` the strategic variant that knows merge keys."""
    if keyed and isinstance(patch, list) and isinstance(target, list) and name in _MERGE_KEYS:
        key = _MERGE_KEYS[name]
        merged = {item.get(key): item for item in target}
        for item in patch:
            merged[item.get(key)] = merge_patch(merged.get(item.get(key), {}), item, keyed=True)
        return list(merged.values())
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value, keyed=keyed, name=key)
    return result


def json_patch(target: Object, operations: list[Object]) -> Object:
    """RFC 6902 without move and copy."""
    result = copy.deepcopy(target)
    for operation in operations:
        parts = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
        try:
            parent: Any = result
            for part in parts[:-1]:
                parent = parent[int(part)] if isinstance(parent, list) else parent[part]
            _operate(parent, parts[-1], operation)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise PatchError(f"{operation['op']} {operation['path']}: {error!r}") from error
    return result


def _operate(parent: Any, last: str, operation: Object) -> None:
    where: Any = last
    if isinstance(parent, list):
        where = len(parent) if last == "-" else int(last)
    match operation["op"]:
        case "test":
            if parent[where] != operation["value"]:
                raise PatchError(f"test failed at {operation['path']}")
        case "add" if isinstance(parent, list):
            parent.insert(where, operation["value"])
        case "add":
            parent[where] = operation["value"]
        case "replace":
            parent[where]
            parent[where] = operation["value"]
        case "remove":
            del parent[where]
        case other:
            raise PatchError(f"unknown operation {other}")


def apply(current: Object, wanted: Object, owners: Owners, manager: str, *, force: bool) -> Object:
    """Server-side apply; changes `owners` in place.

    Raises:
        ApplyConflictError: others own wanted fields with other values.
        PatchError: a mapping of a custom resource's status would lose its last entry and be merged to null.
    """
    leaves = {path: value for path, value in _leaves(wanted).items() if path not in _IDENTITY}
    present = _leaves(current)
    foreign = {
        path: other
        for other, paths in owners.items()
        if other != manager
        for path in paths
        if path in leaves and path in present and present[path] != leaves[path]
    }
    if foreign and not force:
        raise ApplyConflictError({"." + ".".join(path): other for path, other in foreign.items()})
    for path, other in foreign.items():
        owners[other].discard(path)
    emptied = [path for path, value in leaves.items() if value == {} and path[0] == "status"]
    for path in emptied:
        if any(mine[: len(path)] == path != mine for mine in owners.get(manager, ())):
            raise PatchError(f"{'.'.join(path)}: Invalid value: null")
    for path in owners.get(manager, set()) - set(leaves):
        if not any(path in paths for other, paths in owners.items() if other != manager):
            present.pop(path, None)
    owners[manager] = set(leaves)
    return _assemble(present | leaves)


def note_update(before: Object, after: Object, owners: Owners, manager: str) -> None:
    """A plain write takes over the fields it changed."""
    old, new = _leaves(before), _leaves(after)
    changed = {path for path, value in new.items() if old.get(path, _MISSING) != value and path not in _IDENTITY}
    for paths in owners.values():
        paths.difference_update(changed, set(old) - set(new))
    owners.setdefault(manager, set()).update(changed)


_MISSING = object()


def _leaves(value: Any, path: Path = (), name: str = "") -> dict[Path, Any]:
    if isinstance(value, dict) and value:
        found: dict[Path, Any] = {}
        for key, item in value.items():
            found |= _leaves(item, (*path, key), key)
        return found
    if name in _MERGE_KEYS and isinstance(value, list) and value:
        found = {}
        for item in value:
            found |= _leaves(item, (*path, f"[{item.get(_MERGE_KEYS[name])}]"))
        return found
    if name == "finalizers" and isinstance(value, list):
        return {(*path, f"[{item}]"): item for item in value}
    return {path: value}


def _assemble(leaves: dict[Path, Any]) -> Object:
    tree: Object = {}
    # Empty maps first: a manager that wants `data: {}` leaves the others' entries alone.
    for path, value in sorted(leaves.items(), key=lambda leaf: leaf[1] != {}):
        node = tree
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = copy.deepcopy(value)
    assembled: Object = _relist(tree)
    return assembled


def _relist(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    if node and all(key.startswith("[") for key in node):
        return [_relist(item) for item in node.values()]
    return {key: _relist(item) for key, item in node.items()}
