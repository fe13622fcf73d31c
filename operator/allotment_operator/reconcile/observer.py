"""Reads what a resource has brought about: all its children, by label, live from the API server.

One list call per kind of child. Nothing is remembered between rounds, so nothing can be out of date; the cost is
bounded by how often a resource is looked at.
"""

import asyncio
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any, Final

from allotment_api.labels import INSTANCE_LABEL
from allotment_kube.client import Client
from allotment_kube.errors import ForbiddenError
from allotment_kube.resources import NAMESPACES
from allotment_operator.kind import Scope
from allotment_operator.plans.actions import ObjectRef
from allotment_operator.plans.ownership import INSTANCE_NAMESPACE_LABEL, MANAGED_BY_LABEL, MANAGER, Owner

OURS: Final = f"{MANAGED_BY_LABEL}={MANAGER}"


class Observer:
    """Lists children with the operator's rights.

    Args:
        client: with the operator's own rights.
        namespace: the operator's own namespace, where authorities are kept.
    """

    def __init__(self, client: Client, *, namespace: str) -> None:
        self._client = client
        self._namespace_of_operator = namespace

    async def children(
        self, owner: Owner, scope: Scope, *, as_far_as_allowed: bool = False
    ) -> dict[ObjectRef, dict[str, Any]]:
        """Return every live child of the owner within the scope.

        Args:
            owner: whose children.
            scope: which kinds of them.
            as_far_as_allowed: leave out kinds that may not be listed there, instead of failing.
        """
        here = selector(owner.selector)
        list_ = self._list_if_allowed if as_far_as_allowed else self._list
        lists = [list_(*pair, owner.namespace, here) for pair in _pairs(scope.kinds)]
        return _by_ref(await asyncio.gather(*lists, *self._in_own_namespace(owner, scope)))

    async def scattered(
        self, owner: Owner, scope: Scope, *, names: Iterable[str], labels: Mapping[str, str], deleted: bool = False
    ) -> dict[ObjectRef, dict[str, Any]]:
        """Return what lies in several namespaces, and these Namespaces themselves.

        One in which the operator has no rights (yet, or any more) holds nothing that it could have made. What another
        owner of the same kind left there is returned too: the plan must see it to take it away.

        Args:
            owner: whose children.
            scope: which kinds of them.
            names: namespaces to look in, as far as they exist.
            labels: labels of further namespaces to look in.
            deleted: whether the owner is being deleted: then what others of ours have left there is returned as well.
        """
        namespaces = await self._namespaces(names, labels)
        anybodys = selector({name: value for name, value in owner.selector.items() if name != INSTANCE_LABEL})
        lists = [
            self._list_if_allowed(*pair, namespace, anybodys)
            for namespace in namespaces
            for pair in _pairs(scope.kinds)
        ]
        lists += [
            self._list_if_allowed(*pair, namespace, OURS)
            for namespace in namespaces
            for pair in _pairs(scope.left if deleted else {})
        ]
        found = await asyncio.gather(*lists, *self._in_own_namespace(owner, scope))
        return _by_ref([list(namespaces.values()), *found])

    async def _namespaces(self, names: Iterable[str], labels: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        listed = await self._list("v1", "Namespace", "", selector(labels))
        found = {each["metadata"]["name"]: each for each in listed}
        missing = [name for name in dict.fromkeys(names) if name not in found]
        for name, each in zip(missing, await asyncio.gather(*map(self._namespace, missing)), strict=True):
            if each is not None:
                found[name] = {"apiVersion": "v1", "kind": "Namespace", **each}
        return found

    async def _namespace(self, name: str) -> dict[str, Any] | None:
        return await self._client.find(NAMESPACES.untyped, name)

    def _in_own_namespace(self, owner: Owner, scope: Scope) -> list[Coroutine[Any, Any, list[dict[str, Any]]]]:
        there = selector({**owner.selector, INSTANCE_NAMESPACE_LABEL: owner.namespace})
        return [self._list(*pair, self._namespace_of_operator, there) for pair in _pairs(scope.operator_namespace)]

    async def _list(self, api_version: str, kind: str, namespace: str, label_selector: str) -> list[dict[str, Any]]:
        resource = await self._client.discover(api_version, kind)
        found = await self._client.list(
            resource, namespace=namespace if resource.namespaced else "", label_selector=label_selector
        )
        # Items of a list carry neither their kind nor their version.
        return [{"apiVersion": api_version, "kind": kind, **manifest} for manifest in found]

    async def _list_if_allowed(
        self, api_version: str, kind: str, namespace: str, label_selector: str
    ) -> list[dict[str, Any]]:
        try:
            return await self._list(api_version, kind, namespace, label_selector)
        except ForbiddenError:
            return []


def _by_ref(lists: Iterable[list[dict[str, Any]]]) -> dict[ObjectRef, dict[str, Any]]:
    return {ObjectRef.of(manifest): manifest for found in lists for manifest in found}


def selector(labels: Mapping[str, str]) -> str:
    """Write labels as a selector."""
    return ",".join(f"{name}={value}" for name, value in sorted(labels.items()))


def _pairs(kinds: Mapping[str, tuple[str, ...]]) -> list[tuple[str, str]]:
    return [(api_version, kind) for api_version, names in kinds.items() for kind in names]
