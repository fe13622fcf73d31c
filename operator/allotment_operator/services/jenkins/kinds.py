"""The kinds that Jenkins takes part with."""

from collections.abc import Mapping
from typing import Any

from allotment_api.labels import OPERATOR_FIELD_MANAGER
from allotment_kube.resources import SECRETS
from allotment_operator.kind import Kind
from allotment_operator.plans.actions import Manifest
from allotment_operator.services.jenkins.controller import HttpController
from allotment_operator.services.jenkins.pool import JenkinsAgentPools
from allotment_operator.surroundings import Surroundings


def kinds(surroundings: Surroundings) -> list[Kind[Any]]:
    """Return them, each with what it uses of the world."""
    client = surroundings.client

    async def read_secret(namespace: str, name: str) -> Mapping[str, Any] | None:
        return await client.find(SECRETS, name, namespace=namespace)

    async def write_object(manifest: Manifest) -> None:
        resource = await client.discover(manifest["apiVersion"], manifest["kind"])
        await client.apply(resource, dict(manifest), manager=OPERATOR_FIELD_MANAGER, force=True)

    return [JenkinsAgentPools(read_secret=read_secret, write_object=write_object, connect=HttpController)]
