"""KafkaUser: who it is, what it may do and how much, in a KafkaCluster of the same namespace.

How it thinks: the operator makes the credential and keeps it in a Secret with the user's name; the brokers are then
made to agree with it. Whether they do is found out as a client would: by logging in with what is in the Secret.

Invariants: a user never takes over a Secret that is not its own; nobody becomes the cluster's administrator by name.
"""

import datetime as dt
from collections.abc import Mapping
from typing import Any, Final

from allotment_api.conditions import ConditionType, Reason, condition, find
from allotment_api.kafka import Listener
from allotment_api.kafka_user import KafkaUser
from allotment_operator.kind import Scope, ServiceRefusedError, ServiceUnavailableError
from allotment_operator.plans.actions import (
    Action,
    Delete,
    EnsureCertificate,
    EnsureCredential,
    Invoke,
    ObjectRef,
)
from allotment_operator.plans.binding import password_binding
from allotment_operator.plans.outcome import Health, Observed, Outcome
from allotment_operator.plans.ownership import Owner
from allotment_operator.services.kafka import access
from allotment_operator.services.kafka.admin import KafkaAdmin, Login, Rule, UserState
from allotment_operator.services.kafka.binding import address, certificate_binding, connection, preferred
from allotment_operator.services.kafka.clusters import Cluster, Clusters
from allotment_operator.services.kafka.names import ADMIN
from allotment_operator.services.kafka.topic import DELETED, SOON, WAITING_SECONDS

SET_PASSWORD: Final = "set-password"  # noqa: S105 - an operation's name
ALLOW: Final = "allow"
SET_QUOTAS: Final = "set-quotas"
DROP: Final = "drop-user"


class KafkaUserKind:
    """Looks after every KafkaUser.

    Args:
        admin: the port to brokers.
        clusters: finds the cluster of a user.
        operator_namespace: where the clusters' authorities are kept.
    """

    model = KafkaUser
    scope = Scope(kinds={"v1": ("Secret",)})
    status_fields = frozenset({"username", "binding"})

    def __init__(self, *, admin: KafkaAdmin, clusters: Clusters, operator_namespace: str) -> None:
        self._admin = admin
        self._clusters = clusters
        self._home = operator_namespace

    def plan(self, resource: KafkaUser, observed: Observed, *, now: dt.datetime) -> Outcome:
        """Say what makes the brokers know the user as its resource says."""
        health = observed.health
        name = resource.metadata.name
        if name == ADMIN:
            text = f"{ADMIN} is the cluster's own administrator: give this user another name"
            return _says(False, Reason.INVALID_SPEC, text, now=now)
        if health is None or not isinstance(health.details.get("cluster"), Cluster):
            return _says(False, Reason.WAITING_FOR_CLUSTER, "The cluster has not been asked yet.", now=now)
        found: Cluster = health.details["cluster"]
        if found.resource is None or found.login is None or health.reason == "SecretTaken":
            return _says(False, health.reason, health.message, now=now)
        listener = _listener(resource, found)
        if listener is None:
            kind = resource.spec.authentication.type
            text = f"KafkaCluster {found.names.cluster} has no listener with authentication {kind}: add one to it"
            return _says(False, Reason.INVALID_SPEC, text, now=now)
        return self._agree(resource, observed, found, listener, health, now=now)

    def release(self, resource: KafkaUser, observed: Observed, *, now: dt.datetime) -> Outcome | None:
        """Take the user out of the brokers, then its Secret."""
        ready = find(resource.status.conditions if resource.status else (), ConditionType.READY)
        dropped = ready is not None and ready.reason == DELETED
        if dropped and not observed.children:
            return None
        actions: list[Action] = [] if dropped else [Invoke(DROP, resource.metadata.name)]
        actions += [Delete(ref, each["metadata"].get("uid")) for ref, each in sorted(observed.children.items())]
        text = f"User {resource.metadata.name} has been deleted."
        says = condition(ConditionType.READY, False, DELETED, text, now=now)
        return Outcome(tuple(actions), (says,), requeue_after=SOON)

    async def perform(self, resource: KafkaUser, observed: Observed, action: Invoke) -> None:
        """Carry out one call to the brokers."""
        found = await self._clusters.find(resource.metadata.namespace or "", resource.spec.cluster)
        name, arguments = action.subject, action.arguments
        if action.operation == DROP:
            await self._drop(found, name)
            return
        if found.login is None:
            raise ServiceUnavailableError(found.waiting or f"KafkaCluster {resource.spec.cluster} has gone")
        if action.operation == SET_PASSWORD:
            password = observed.secret(_secret(resource), "password")
            await self._admin.set_password(found.login, name, password or None)
        elif action.operation == ALLOW:
            add, remove = (frozenset(Rule(*each) for each in arguments[part]) for part in ("add", "remove"))
            await self._admin.allow(found.login, name, add=add, remove=remove)
        elif action.operation == SET_QUOTAS:
            await self._admin.set_quotas(found.login, name, arguments["quotas"])

    async def probe(self, resource: KafkaUser, observed: Observed) -> Health | None:
        """Read the user as the brokers know it, and log in as it."""
        namespace, name = resource.metadata.namespace or "", resource.metadata.name
        found = await self._clusters.find(namespace, resource.spec.cluster)
        details: dict[str, Any] = {"cluster": found}
        mine = _secret(resource) in observed.children
        if not mine and await self._clusters.secret_labels(namespace, name) is not None:
            text = f"There is a Secret {name} that is not this user's: delete it, or give the user another name."
            return Health(ready=False, reason="SecretTaken", message=text, details=details)
        if found.waiting or found.login is None:
            return Health(ready=False, reason=Reason.WAITING_FOR_CLUSTER, message=f"{found.waiting}.", details=details)
        if found.simulated:
            text = "The cluster is simulated: there is no broker to know the user (simulated)."
            reason = Reason.PODS_READY_SIMULATED
            return Health(ready=True, reason=reason, message=text, simulated=True, details=details)
        try:
            details["user"] = await self._admin.user(found.login, name)
            details["accepted"] = await self._accepted(resource, observed, found)
        except (ServiceUnavailableError, ServiceRefusedError) as error:
            silent = isinstance(error, ServiceUnavailableError)
            return Health(ready=False, reason="BrokersUnreachable", message=str(error), silent=silent, details=details)
        return Health(ready=True, reason=Reason.AS_EXPECTED, message="", details=details)

    def _agree(
        self,
        resource: KafkaUser,
        observed: Observed,
        found: Cluster,
        listener: Listener,
        health: Health,
        *,
        now: dt.datetime,
    ) -> Outcome:
        """Return the credential, and the calls that make the brokers agree with it and with the spec."""
        name = resource.metadata.name
        actions: list[Action] = [self._credential(resource, found, listener)]
        status = {"username": name, "binding": {"name": name}}
        if not health.ready or health.simulated:
            return _says(health.ready, health.reason, health.message, now=now, actions=actions, status=status)
        calls = self._calls(resource, observed, health.details["user"], accepted=bool(health.details["accepted"]))
        if _secret(resource) not in observed.children:
            text = f"The credential of user {name} is being made."
            return _says(False, "Creating", text, now=now, actions=actions, again=SOON)
        if calls:
            text = f"The brokers are being told of user {name}: {', '.join(call.operation for call in calls)}."
            ready = bool(health.details["accepted"])
            reason = Reason.RECONCILING if ready else "Creating"
            return _says(ready, reason, text, now=now, actions=[*actions, *calls], status=status, again=SOON)
        if not health.details["accepted"]:
            text = f"The brokers do not accept the credential of user {name}."
            return _says(False, "LoginRefused", text, now=now, actions=actions, status=status)
        count = len(access.rules(resource.spec.authorization.acls))
        text = (
            f"User {name} can log in; {count} rules of access."
            if count
            else (f"User {name} can log in and may do nothing: list what it may in spec.authorization.acls.")
        )
        return _says(True, Reason.AS_EXPECTED, text, now=now, actions=actions, status=status)

    def _credential(
        self, resource: KafkaUser, found: Cluster, listener: Listener
    ) -> EnsureCredential | EnsureCertificate:
        ref, name = _secret(resource), resource.metadata.name
        owner = Owner.of(resource)
        authority = found.login.authority if found.login else ""
        fields = connection(found.names, listener, certificates=authority)
        if resource.spec.authentication.type == "tls":
            signer = found.names.authority(self._home)
            return certificate_binding(ref, owner.metadata(name), signer, fields, username=name)
        return password_binding(ref, owner.metadata(name), fields, username=name)

    def _calls(self, resource: KafkaUser, observed: Observed, state: UserState, *, accepted: bool) -> list[Invoke]:
        name, calls = resource.metadata.name, []
        has_password = bool(observed.secret(_secret(resource), "password"))
        if resource.spec.authentication.type == "tls":
            if state.password:
                calls.append(Invoke(SET_PASSWORD, name))
        elif has_password and not (state.password and accepted):
            calls.append(Invoke(SET_PASSWORD, name))
        wanted = access.rules(resource.spec.authorization.acls)
        add, remove = sorted(wanted - state.rules), sorted(state.rules - wanted)
        if add or remove:
            calls.append(Invoke(ALLOW, name, {"add": _plain(add), "remove": _plain(remove)}))
        changed = access.changes(access.quotas(resource.spec.quotas), state.quotas)
        if changed:
            calls.append(Invoke(SET_QUOTAS, name, {"quotas": changed}))
        return calls

    async def _accepted(self, resource: KafkaUser, observed: Observed, found: Cluster) -> bool:
        """Say whether the brokers let the user in with the password or the certificate that its Secret holds.

        Where they are, and who vouches for them, is the cluster's to say: a tenant may write the Secret.
        """
        listener = _listener(resource, found)
        by_certificate = resource.spec.authentication.type == "tls"
        proof = observed.secret(_secret(resource), "tls.pem" if by_certificate else "password")
        if listener is None or found.login is None or not proof:
            return False
        where, authority, name = address(found.names, listener), found.login.authority, resource.metadata.name
        try:
            await self._admin.check(
                Login(where, authority, certificate=proof)
                if by_certificate
                else Login(where, authority, username=name, password=proof)
            )
        except ServiceRefusedError:
            return False
        return True

    async def _drop(self, found: Cluster, name: str) -> None:
        """Take everything about a user out of the brokers, where there are any."""
        if found.gone or found.simulated or name == ADMIN:
            return
        if found.login is None:
            raise ServiceUnavailableError(f"{found.waiting}: until then nobody can take user {name} out of the brokers")
        state = await self._admin.user(found.login, name)
        await self._admin.allow(found.login, name, add=frozenset(), remove=state.rules)
        if state.quotas:
            await self._admin.set_quotas(found.login, name, dict.fromkeys(state.quotas))
        await self._admin.set_password(found.login, name, None)


def _listener(resource: KafkaUser, found: Cluster) -> Listener | None:
    """Return the listener that the user connects to."""
    return preferred(found.resource.spec.listeners, resource.spec.authentication.type) if found.resource else None


def _secret(resource: KafkaUser) -> ObjectRef:
    return ObjectRef("v1", "Secret", resource.metadata.namespace or "", resource.metadata.name)


def _plain(rules: list[Rule]) -> list[tuple[str, ...]]:
    return [(r.resource, r.name, r.pattern, r.operation, r.permission, r.host) for r in rules]


def _says(
    ready: bool,  # noqa: FBT001 - the answer of a condition
    reason: str,
    message: str,
    *,
    now: dt.datetime,
    actions: list[Action] | None = None,
    status: Mapping[str, Any] | None = None,
    again: float | None = None,
) -> Outcome:
    says = (condition(ConditionType.READY, ready, reason, message, now=now),)
    later = again if again is not None else None if ready else WAITING_SECONDS
    return Outcome(tuple(actions or ()), says, status or {}, later)
