"""A user's rights and quotas, from the API's words into Kafka's."""

import re
from collections.abc import Mapping

from allotment_api.kafka_user import Acl, UserQuotas
from allotment_operator.services.kafka.admin import Rule

CLUSTER_NAME = "kafka-cluster"
"""What Kafka calls the cluster itself, as the thing that a rule is about."""

QUOTAS: Mapping[str, str] = {
    "producer_byte_rate": "producer_byte_rate",
    "consumer_byte_rate": "consumer_byte_rate",
    "request_percentage": "request_percentage",
    "controller_mutation_rate": "controller_mutation_rate",
}
"""Field of the spec → Kafka's name of the quota."""


def rules(acls: tuple[Acl, ...]) -> frozenset[Rule]:
    """Return one rule per operation."""
    return frozenset(
        Rule(
            resource=_upper(acl.resource.type),
            name=acl.resource.name or CLUSTER_NAME,
            pattern="PREFIXED" if acl.resource.pattern_type == "prefix" else "LITERAL",
            operation=_upper(operation),
            permission=acl.type.upper(),
            host=acl.host,
        )
        for acl in acls
        for operation in acl.operations
    )


def quotas(wanted: UserQuotas) -> dict[str, float]:
    """Return the quotas that are set, by Kafka's names."""
    given = {name: getattr(wanted, field) for field, name in QUOTAS.items()}
    return {name: float(value) for name, value in given.items() if value is not None}


def changes(wanted: Mapping[str, float], live: Mapping[str, float]) -> dict[str, float | None]:
    """Return what makes the live quotas the wanted ones; None takes one away."""
    changed: dict[str, float | None] = {name: value for name, value in wanted.items() if live.get(name) != value}
    return changed | {name: None for name in live if name not in wanted}


def _upper(words: str) -> str:
    """Write transactionalId or AlterConfigs as Kafka's constants are: TRANSACTIONAL_ID, ALTER_CONFIGS."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", words).upper()
