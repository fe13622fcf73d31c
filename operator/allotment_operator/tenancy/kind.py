"""Tenant as a kind of the engine."""

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import replace

from allotment_api.labels import TENANT_LABEL
from allotment_api.tenant import Tenant
from allotment_operator.kind import Scope
from allotment_operator.plans.actions import Invoke
from allotment_operator.plans.outcome import Health, Observed, Outcome
from allotment_operator.plans.ownership import Owner
from allotment_operator.tenancy import furniture, plan
from allotment_operator.tenancy.estate import Estate, NamespaceFacts
from allotment_operator.tenancy.vacancy import Vacancy


class TenantKind:
    """Plans for Tenants.

    Args:
        estate: the picture of all tenants, pools and namespaces at the moment of asking.
        vacancy: looks into namespaces before they are let go or deleted, whatever the picture shows.
    """

    model = Tenant
    scope = Scope(kinds=furniture.KINDS, left=furniture.LEFT)
    status_fields = frozenset({"namespaces"})

    def __init__(self, estate: Callable[[], Estate], vacancy: Vacancy) -> None:
        self._estate = estate
        self._vacancy = vacancy

    def namespaces(self, resource: Tenant) -> tuple[str, ...]:
        """Return the namespaces that it lists."""
        return resource.spec.namespaces

    def namespace_labels(self, resource: Tenant) -> dict[str, str]:
        """Return the label of the namespaces that it holds."""
        return {TENANT_LABEL: resource.metadata.name}

    def plan(self, resource: Tenant, observed: Observed, *, now: dt.datetime) -> Outcome:
        """Say what to do next for a tenant that should exist."""
        return plan.plan(resource, Owner.of(resource), observed, self._with(resource, observed), now=now)

    def release(self, resource: Tenant, observed: Observed, *, now: dt.datetime) -> Outcome | None:
        """Say what to take down next for a tenant that is being deleted."""
        return plan.release(resource, Owner.of(resource), observed, self._with(resource, observed), now=now)

    def note_failures(self, resource: Tenant, outcome: Outcome, failures: Mapping[str, str]) -> Outcome:
        """Say of each namespace whose furnishing failed what is in the way."""
        return plan.note_failures(resource, outcome, failures)

    async def perform(self, resource: Tenant, observed: Observed, action: Invoke) -> None:  # noqa: ARG002 - the protocol's
        """Look into a namespace before it is let go or deleted: all that a tenant's plans ask for."""
        await self._vacancy.confirm(action.subject)
        if action.operation == plan.CONFIRM_BARE:
            await self._vacancy.confirm_bare(action.subject)

    async def probe(self, resource: Tenant, observed: Observed) -> Health | None:  # noqa: ARG002 - nothing to ask
        """A tenant is no service: there is nothing to ask."""
        return None

    def _with(self, resource: Tenant, observed: Observed) -> Estate:
        """Return the picture with this tenant and its namespaces as they were just read: watches may be behind."""
        estate = self._estate()
        name = resource.metadata.name
        read = {each.name: each for each in map(NamespaceFacts.of, observed.of_kind("Namespace"))}
        others = {
            key: facts
            for key, facts in estate.namespaces.items()
            if key not in resource.spec.namespaces and facts.tenant != name
        }
        return replace(estate, tenants={**estate.tenants, name: resource}, namespaces={**others, **read})
