"""Reads what a resource has brought about: all its children, by label, live from the API server.

One list call per kind of child. Nothing is remembered between rounds, so nothing can be out of date; the cost is
bounded by how often a resource is looked at.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from allotment_kube.client import Client
from allotment_operator.kind import Scope
from allotment_operator.plans.actions import ObjectRef
from allotment_operator.plans.ownership import INSTANCE_NAMESPACE_LABEL, Owner


class Observer:
    """Lists children with the operator's rights.

    Args:
        client: with the operator's own rights.
        namespace: the operator's own namespace, where authorities are kept.
    """

    def __init__(self, client: Client, *, namespace: str) -> None:
        self._client = client
        self._namespace = namespace

    async def children(self, owner: Owner, scope: Scope) -> dict[ObjectRef, dict[str, Any]]:
        """Return every live child of the owner within the scope."""
        here = selector(owner.selector)
        there = selector({**owner.selector, INSTANCE_NAMESPACE_LABEL: owner.namespace})
        lists = await asyncio.gather(
            *(self._list(api_version, kind, owner.namespace, here) for api_version, kind in _pairs(scope.kinds)),
            *(
                self._list(api_version, kind, self._namespace, there)
                for api_version, kind in _pairs(scope.operator_namespace)
            ),
        )
        return {ObjectRef.of(manifest): manifest for found in lists for manifest in found}

    async def _list(self, api_version: str, kind: str, namespace: str, label_selector: str) -> list[dict[str, Any]]:
        resource = await self._client.discover(api_version, kind)
        found = await self._client.list(
            resource, namespace=namespace if resource.namespaced else "", label_selector=label_selector
        )
        # Items of a list carry neither their kind nor their version.
        return [{"apiVersion": api_version, "kind": kind, **manifest} for manifest in found]


def selector(labels: Mapping[str, str]) -> str:
    """Write labels as a selector."""
    return ",".join(f"{name}={value}" for name, value in sorted(labels.items()))


def _pairs(kinds: Mapping[str, tuple[str, ...]]) -> list[tuple[str, str]]:
    return [(api_version, kind) for api_version, names in kinds.items() for kind in names]
