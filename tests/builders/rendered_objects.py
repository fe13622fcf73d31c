"""Rendered objects before the real API server, without leaving any there."""

import contextlib
import copy
import json
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from builders.services import World


@contextlib.contextmanager
def restricted_namespace(cluster: Any) -> Iterator[str]:
    """A namespace of its own that enforces the Pod Security profile `restricted`."""
    name = f"rendered-{uuid.uuid4().hex[:8]}"
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    cluster.apply(json.dumps(manifest))
    try:
        yield name
    finally:
        cluster.kubectl("delete", "namespace", name, "--wait=false")


def accepted(cluster: Any, world: World, namespace: str) -> list[str]:
    """What the server has against the world's objects, by a dry run of applying them; warnings count."""
    own = [_sendable(each) for ref, each in sorted(world.objects.items()) if ref.namespace == namespace]
    items = {"apiVersion": "v1", "kind": "List", "items": own}
    command = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-")
    done = cluster.kubectl(*command, stdin=json.dumps(items), check=False)
    assert done.stdout.count("serverside-applied") == len(own) or done.stderr
    return [line for line in done.stderr.splitlines() if line.strip()]


def _sendable(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """An object without what only a server or a scheduler writes."""
    out = copy.deepcopy(dict(manifest))
    for field in ("uid", "generation"):
        out["metadata"].pop(field, None)
    out.pop("status", None)
    if out["kind"] == "Pod":
        out["metadata"].pop("ownerReferences", None)
        out["spec"].pop("nodeName", None)
        known = {mount["name"] for each in out["spec"]["containers"] for mount in each["volumeMounts"]}
        missing = known - {volume["name"] for volume in out["spec"]["volumes"]}
        out["spec"]["volumes"] += [{"name": name, "emptyDir": {}} for name in sorted(missing)]  # the claim's volume
    return out
