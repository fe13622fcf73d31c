"""Writes what the operator has to say into a resource's status: once, and only when it says something new."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from allotment_api.conditions import Condition, merge
from allotment_api.labels import OPERATOR_FIELD_MANAGER
from allotment_kube.client import Client
from allotment_kube.errors import NotFoundError
from allotment_kube.resources import Resource


def status_of(
    manifest: Mapping[str, Any], conditions: Iterable[Condition], fields: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the operator's whole say on a resource's status.

    A condition keeps its transition time unless its answer changed. ``fields`` are the rest of the status, in the
    API's spelling. What other writers own (the scheduler's part of a Tenant) is not in it.
    """
    generation = manifest["metadata"].get("generation")
    present = (manifest.get("status") or {}).get("conditions") or []
    before = {entry["type"]: Condition.model_validate(entry, extra="ignore") for entry in present}
    said = [
        each if each.observed_generation is not None else each.model_copy(update={"observed_generation": generation})
        for each in conditions
    ]
    merged = merge((before[each.type] for each in said if each.type in before), said)
    return {
        **fields,
        "observedGeneration": generation,
        "conditions": [each.manifest() for each in merged],
    }


def foreign_conditions(manifest: Mapping[str, Any]) -> frozenset[str]:
    """Return the types of the conditions that another writer applied, by the API server's own book-keeping."""
    found: set[str] = set()
    for entry in manifest["metadata"].get("managedFields") or ():
        if entry.get("manager") == OPERATOR_FIELD_MANAGER:
            continue
        conditions = ((entry.get("fieldsV1") or {}).get("f:status") or {}).get("f:conditions") or {}
        found |= {json.loads(key[2:]).get("type", "") for key in conditions if key.startswith("k:")}
    return frozenset(found)


def differs(wanted: Any, live: Any) -> bool:  # noqa: ANN401 - any JSON value
    """Say whether applying ``wanted`` over ``live`` would change anything: extra keys of ``live`` are others' own."""
    if wanted == {}:
        return bool(live)
    if isinstance(wanted, Mapping):
        return not isinstance(live, Mapping) or any(differs(value, live.get(key)) for key, value in wanted.items())
    if isinstance(wanted, list):
        keyed = wanted and all(isinstance(entry, Mapping) and "type" in entry for entry in wanted)
        if keyed and isinstance(live, list):
            by_type = {entry.get("type"): entry for entry in live}
            return any(differs(entry, by_type.get(entry["type"])) for entry in wanted)
        return bool(wanted != live)
    return bool(wanted != live)


class StatusWriter:
    """Applies statuses with the operator's rights."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def write(
        self,
        resource: Resource[dict[str, Any]],
        manifest: Mapping[str, Any],
        *,
        conditions: Iterable[Condition],
        fields: Mapping[str, Any],
    ) -> dict[str, Any] | None:
        """Apply the status if it says something new.

        Returns:
            The resource with its new status; None if nothing was to be said, or if the resource is gone.
        """
        status = status_of(manifest, conditions, fields)
        if not differs(status, manifest.get("status")):
            return None
        metadata = manifest["metadata"]
        body = {
            "metadata": {"name": metadata["name"], "namespace": metadata.get("namespace"), "uid": metadata["uid"]},
            # Applied as {}, where it had entries, a mapping is merged to null, and the whole status is refused.
            "status": {name: value for name, value in status.items() if value != {}},
        }
        if not metadata.get("namespace"):
            del body["metadata"]["namespace"]
        try:
            return await self._client.apply(
                resource, body, manager=OPERATOR_FIELD_MANAGER, force=True, subresource="status"
            )
        except NotFoundError:
            return None
