"""Asks the API server itself what is in a namespace, before the operator lets go of it or deletes it.

The picture of the estate comes from watches, and a watch may be behind: a service that was made a moment ago would lose
its walls, or go with its namespace. A volume that a service retained would go, too. What cannot be taken back is looked
at anew.
"""

from allotment_api.labels import API_VERSION
from allotment_kube.client import Client
from allotment_kube.errors import NotFoundError
from allotment_kube.resources import PERSISTENT_VOLUME_CLAIMS
from allotment_operator.kind import ServiceRefusedError
from allotment_operator.plans.storage import retained
from allotment_operator.reconcile.observer import OURS
from allotment_operator.tenancy.estate import SERVICE_KINDS, ServiceFacts


class Vacancy:
    """Looks for services, and for the volumes that they left.

    Args:
        client: with the operator's own rights.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    async def confirm(self, namespace: str) -> None:
        """Make sure that there is no service in a namespace.

        Raises:
            ServiceRefusedError: there is one.
        """
        for kind in SERVICE_KINDS:
            try:
                resource = await self._client.discover(API_VERSION, kind)
                found = await self._client.list(resource, namespace=namespace)
            except NotFoundError:
                continue  # its definition is not installed
            if found:
                first = ServiceFacts(kind, namespace, found[0]["metadata"]["name"])
                raise ServiceRefusedError(f"it has {first}, which was not known of yet: it stays for now")

    async def confirm_bare(self, namespace: str) -> None:
        """Make sure that no service has left a volume in a namespace.

        Raises:
            ServiceRefusedError: there is one.
            ForbiddenError: we have no rights there (yet), so nobody knows.
        """
        claims = PERSISTENT_VOLUME_CLAIMS.untyped
        for each in await self._client.list(claims, namespace=namespace, label_selector=OURS):
            if retained(each):
                name = each["metadata"]["name"]
                raise ServiceRefusedError(f"the volume of {claims.kind} {name} was not known of yet: it stays for now")
