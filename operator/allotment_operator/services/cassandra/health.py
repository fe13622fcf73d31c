"""Whether clients can use a Cassandra cluster, asked as a client asks: by logging in and reading.

On simulated nodes nothing listens; there the pods' readiness is all that is known, and the answer says so.
"""

from collections.abc import Callable
from typing import Final

from allotment_operator.kind import ServiceRefusedError, ServiceUnavailableError
from allotment_operator.plans.outcome import Health, Observed, pod_is_ready
from allotment_operator.plans.service_status import on_simulated_nodes, simulated_health
from allotment_operator.services.cassandra.admin import DEFAULT_SUPERUSER, CassandraAdmin, RingState
from allotment_operator.services.cassandra.cql import CqlLogin
from allotment_operator.services.cassandra.names import ADMIN, CQL_PORT, Names

READY: Final = "NodesServe"
UNREACHABLE: Final = "NodesUnreachable"
LOGIN_REFUSED: Final = "LoginRefused"
DEFAULT_PASSWORD: Final = "DefaultPassword"  # noqa: S105 - a reason's name

SECURED: Final = "secured"
"""In the details: nobody can log in any more with the password that everybody knows."""


class ClusterProbe:
    """Asks clusters how they are.

    Args:
        admin: the port to nodes.
        simulated: whether a Kubernetes node, by name, is simulated.
        operator_namespace: where authorities are kept.
    """

    def __init__(self, *, admin: CassandraAdmin, simulated: Callable[[str], bool], operator_namespace: str) -> None:
        self._admin = admin
        self._simulated = simulated
        self._home = operator_namespace

    async def cluster(self, names: Names, observed: Observed) -> Health | None:
        """Return how a cluster is; None before any of its pods serves."""
        pods = observed.of_kind("Pod")
        wanted = sum(int(each["spec"].get("replicas", 1)) for each in observed.of_kind("StatefulSet"))
        if on_simulated_nodes(pods, self._simulated):
            return simulated_health(observed.ready_pods(), wanted)
        login = superuser_login(names, observed, self._home)
        if login is None or not any(map(pod_is_ready, pods)):
            return None
        try:
            return judge(await self._admin.ring(login), wanted=wanted)
        except ServiceUnavailableError as error:
            return Health(ready=False, reason=UNREACHABLE, message=str(error), silent=True)
        except ServiceRefusedError as error:
            return Health(ready=False, reason=LOGIN_REFUSED, message=str(error), details={"refused": True})

    async def secure(self, names: Names, observed: Observed, *, datacenter: str, copies: int) -> None:
        """Replace Cassandra's own superuser by that of the binding; begun and half done are alike."""
        login = superuser_login(names, observed, self._home)
        if login is None:
            return
        try:
            await self._admin.ring(login)
        except ServiceRefusedError:
            default = CqlLogin(login.host, login.port, login.authority, DEFAULT_SUPERUSER, DEFAULT_SUPERUSER)
            try:
                await self._admin.make_superuser(default, login, datacenter=datacenter, copies=copies)
            except ServiceRefusedError as error:
                raise ServiceRefusedError(
                    f"the ring takes neither the password in {names.binding} nor Cassandra's first one ({error}): "
                    f"if its volumes were retained, put the password of their time into {names.binding}"
                ) from error
        await self._admin.drop_default_superuser(login)


def superuser_login(names: Names, observed: Observed, operator_namespace: str) -> CqlLogin | None:
    """Return the login of the cluster's own binding; None before it exists.

    Who vouches for the nodes is never what a Secret of the tenant's says: the operator would tell the password to
    whoever is named there.
    """
    password = observed.secret(names.secret(names.binding), "password")
    authority = observed.secret(names.authority(operator_namespace), "ca.crt")
    if not authority:
        return None
    return CqlLogin(names.entrance_host, CQL_PORT, authority, ADMIN, password) if password else None


def judge(ring: RingState, *, wanted: int) -> Health:
    """Say from a node's own view whether clients can use the cluster."""
    details = {"nodes": len(ring.nodes), "schemas": ring.schemas, SECURED: not ring.default_superuser}
    if ring.default_superuser:
        text = "Cassandra's own superuser, whose password everybody knows, is still there."
        return Health(ready=False, reason=DEFAULT_PASSWORD, message=text, details=details)
    agree = "agree on one schema" if ring.schemas == 1 else f"hold {ring.schemas} versions of the schema"
    text = f"{len(ring.nodes)} of {wanted} nodes have joined the ring and {agree}."
    return Health(ready=True, reason=READY, message=text, details=details)
