"""TenantPolicy: the parameters of the admission policies in one tenant namespace.

How it thinks: a policy binding finds its parameters by name in the request's own namespace, and refuses the request
where there are none. So the operator writes exactly one object, named `allotment`, into every namespace of a tenant;
tenants may read it.

Invariants: every field but the two runtimes is always present, so that expressions need not ask whether it is set.

It must never hold anything that a tenant may not read.
"""

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from allotment_api.labels import TENANT_POLICY_NAME
from allotment_api.model import Bool, Int, Model, Rule, Seconds, Unique
from allotment_api.names import DnsLabel, Image, LabelKey
from allotment_api.resource import AGE, Column, Definition, Resource
from allotment_api.tenant import HIGHEST_USER_PRIORITY

MOST_REGISTRIES: Final = 512
"""More than a tenant may list itself: lists of several levels may cross in many pairs. What is beyond is left out."""


class TenantPolicySpec(Model):
    """Bounds on what pods in this namespace may ask for."""

    shows_empty: ClassVar[bool] = True

    tenant: DnsLabel
    """Leaf tenant that owns the namespace."""

    allowed_registries: Annotated[tuple[Image, ...], Field(max_length=MOST_REGISTRIES), Unique()] = ()
    """Prefixes of the images that may run; empty for all. A prefix ends at a border of the name:
    registry.example.com/retail admits registry.example.com/retail/app, not registry.example.com/retail-x/app."""

    max_priority: Annotated[Int, Field(ge=-2_147_483_648, le=HIGHEST_USER_PRIORITY)] = HIGHEST_USER_PRIORITY
    """Highest priority value that a pod may have."""

    allowed_toleration_keys: Annotated[tuple[LabelKey, ...], Field(max_length=128), Unique()] = ()
    """Keys of the taints that pods may tolerate: those of the node pools this tenant may use."""

    allow_node_port: Bool = False
    """Whether Services of type NodePort are admitted."""

    allow_load_balancer: Bool = False
    """Whether Services of type LoadBalancer are admitted."""

    default_runtime_seconds: Seconds | None = None
    """Maximum runtime of pods that declare none; absent for unknown."""

    max_runtime_seconds: Seconds | None = None
    """Longest maximum runtime that a pod may declare; absent for no bound."""

    suspended: Bool = False
    """Whether the tenant, or one above it, is suspended."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.defaultRuntimeSeconds) || !has(self.maxRuntimeSeconds) || "
            "self.defaultRuntimeSeconds <= self.maxRuntimeSeconds",
            "defaultRuntimeSeconds must not exceed maxRuntimeSeconds: lower the default or raise the maximum",
            lambda it: (
                it.default_runtime_seconds is None
                or it.max_runtime_seconds is None
                or it.default_runtime_seconds <= it.max_runtime_seconds
            ),
        ),
        Rule(
            "self.tenant == oldSelf.tenant",
            "tenant cannot change: delete this object; the operator writes it anew for the namespace's tenant",
        ),
    )


class TenantPolicy(Resource):
    """Parameters of the admission policies in one tenant namespace, written by the operator as `allotment`."""

    definition: ClassVar[Definition] = Definition(
        kind="TenantPolicy",
        plural="tenantpolicies",
        short_names=("tnp",),
        scope="Namespaced",
        columns=(
            Column("Tenant", ".spec.tenant", "string", "Leaf tenant that owns the namespace."),
            Column("Max-Priority", ".spec.maxPriority", "integer", "Highest priority value that a pod may have."),
            Column("Suspended", ".spec.suspended", "boolean", "Whether the tenant starts nothing new."),
            AGE,
        ),
    )

    kind: Literal["TenantPolicy"] = "TenantPolicy"
    """Kind of the object: TenantPolicy."""

    spec: TenantPolicySpec
    """Bounds on what pods in this namespace may ask for."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"self.metadata.name == '{TENANT_POLICY_NAME}'",
            f"the admission policies read only the TenantPolicy named {TENANT_POLICY_NAME}: use that name",
            lambda it: it.metadata.name == TENANT_POLICY_NAME,
        ),
    )
