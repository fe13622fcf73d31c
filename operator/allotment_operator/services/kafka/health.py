"""Whether clients can use a Kafka cluster, asked of the brokers themselves.

Two questions, in this order. As the operator: do enough brokers serve, has the quorum a leader, has every partition
one? As a client, with the credentials of the cluster's own binding: does a login succeed? On simulated nodes nothing
listens; there the pods' readiness is all that is known, and the answer says so.
"""

from collections.abc import Callable
from typing import Any, Final

from allotment_api.kafka import KafkaClusterSpec
from allotment_operator.kind import ServiceRefusedError, ServiceUnavailableError
from allotment_operator.plans.outcome import Health, Observed, pod_is_ready
from allotment_operator.plans.service_status import on_simulated_nodes, simulated_health
from allotment_operator.services.kafka.admin import ClusterState, KafkaAdmin, Login
from allotment_operator.services.kafka.binding import address, preferred
from allotment_operator.services.kafka.identity import FIRST_NODE_ID_ANNOTATION
from allotment_operator.services.kafka.names import ADMIN, REPLICATION_PORT, Names

READY: Final = "BrokersServe"
NOT_READY: Final = "BrokersDoNotServe"
UNREACHABLE: Final = "BrokersUnreachable"
LOGIN_REFUSED: Final = "LoginRefused"


class ClusterProbe:
    """Asks clusters how they are.

    Args:
        admin: the port to brokers.
        simulated: whether a Kubernetes node, by name, is simulated.
        operator_namespace: where the operator's own certificates are kept.
    """

    def __init__(self, *, admin: KafkaAdmin, simulated: Callable[[str], bool], operator_namespace: str) -> None:
        self._admin = admin
        self._simulated = simulated
        self._home = operator_namespace

    async def cluster(
        self, spec: KafkaClusterSpec, names: Names, observed: Observed, *, wanted: int, deployed: bool
    ) -> Health | None:
        """Return how a cluster is; None before any of its pods serves.

        Args:
            spec: of the cluster.
            names: of its objects.
            observed: what there is of it.
            wanted: how many pods it should have.
            deployed: whether it has been ready before.
        """
        pods = observed.of_kind("Pod")
        sets = [int(each["spec"].get("replicas", 1)) for each in observed.of_kind("StatefulSet")]
        wanted = max(wanted, sum(sets))
        if on_simulated_nodes(pods, self._simulated):
            return simulated_health(observed.ready_pods(), wanted)
        login = operator_login(names, observed, self._home)
        if login is None or not any(map(pod_is_ready, pods)):
            return None
        try:
            state = await self._admin.cluster(login)
        except ServiceUnavailableError as error:
            return Health(ready=False, reason=UNREACHABLE, message=str(error), silent=True)
        except ServiceRefusedError as error:
            return Health(ready=False, reason=LOGIN_REFUSED, message=str(error))
        health = judge(
            state, needed=needed_brokers(spec, deployed=deployed), controller_pod=_pod_of(state.controller, observed)
        )
        return await self._as_client(spec, names, observed, login, health) if health.ready else health

    async def set_admin_password(self, names: Names, observed: Observed) -> None:
        """Make the brokers accept the password of the cluster's own binding."""
        login = operator_login(names, observed, self._home)
        password = observed.secret(names.secret(names.binding), "password")
        if login is not None and password:
            await self._admin.set_password(login, ADMIN, password)

    async def _as_client(
        self, spec: KafkaClusterSpec, names: Names, observed: Observed, operator: Login, health: Health
    ) -> Health:
        listener = preferred(spec.listeners, "scram-sha-512")
        password = observed.secret(names.secret(names.binding), "password")
        if listener is None or listener.type != "internal" or not password:
            return health
        login = Login(address(names, listener), operator.authority, username=ADMIN, password=password)
        try:
            await self._admin.check(login)
        except ServiceUnavailableError as error:
            return Health(ready=False, reason=UNREACHABLE, message=str(error), silent=True)
        except ServiceRefusedError as error:
            details = {**health.details, "adminRefused": True}
            return Health(ready=False, reason=LOGIN_REFUSED, message=str(error), details=details)
        return health


def operator_login(names: Names, observed: Observed, operator_namespace: str) -> Login | None:
    """Return the operator's own way in, on the nodes' own listener; None before its certificate exists."""
    secret = names.operator_certificate(operator_namespace)
    certificate, authority = observed.secret(secret, "tls.pem"), observed.secret(secret, "ca.crt")
    if not certificate:
        return None
    return Login(f"{names.entrance_host}:{REPLICATION_PORT}", authority, certificate=certificate)


def needed_brokers(spec: KafkaClusterSpec, *, deployed: bool) -> tuple[int, str]:
    """Return how many brokers must serve before clients can work, and why.

    Kafka makes its own topic of the consumers' offsets when the first consumer comes, with all its copies or not at
    all; from then on writing needs `minInSync` of them.
    """
    if deployed:
        return spec.replication.min_in_sync, "acknowledge a record (replication.minInSync)"
    return spec.replication.factor, "make the first topics (replication.factor)"


def judge(state: ClusterState, *, needed: tuple[int, str], controller_pod: str = "") -> Health:
    """Say from the brokers' own view whether clients can use the cluster.

    Args:
        state: as the brokers see it.
        needed: how many brokers must serve, and what for.
        controller_pod: the pod of the quorum's leader.
    """
    details = {
        "brokers": len(state.brokers),
        "voters": len(state.voters),
        "underReplicated": len(state.under_replicated),
        "controllerPod": controller_pod,
    }
    if state.controller is None:
        message = f"The quorum of {len(state.voters)} controllers has no leader."
        return Health(ready=False, reason="NoController", message=message, details=details)
    if len(state.brokers) < max(1, needed[0]):
        message = f"{len(state.brokers)} brokers serve; it takes {needed[0]} to {needed[1]}."
        return Health(ready=False, reason=NOT_READY, message=message, details=details)
    if state.offline:
        message = f"{len(state.offline)} partitions have no leader, {', '.join(state.offline[:3])} among them."
        return Health(ready=False, reason="PartitionsOffline", message=message, details=details)
    lacking = len(state.under_replicated)
    copies = f"{lacking} partitions lack copies" if lacking else "every partition has all its copies"
    message = f"{len(state.brokers)} brokers serve, {len(state.voters)} controllers vote, {copies}."
    return Health(ready=True, reason=READY, message=message, details=details)


def _pod_of(node_id: int | None, observed: Observed) -> str:
    """Return the pod of a node, by the range of ids that its StatefulSet's volumes carry."""
    for each in observed.of_kind("StatefulSet"):
        templates: list[dict[str, Any]] = each["spec"].get("volumeClaimTemplates") or [{"metadata": {}}]
        first = (templates[0]["metadata"].get("annotations") or {}).get(FIRST_NODE_ID_ANNOTATION)
        if node_id is not None and first is not None and 0 <= node_id - int(first) < int(each["spec"]["replicas"]):
            return f"{each['metadata']['name']}-{node_id - int(first)}"
    return ""
