"""The chart, the operator under its own ServiceAccount, and tenants to try it with."""

import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from builders.api_server import Actor, ApiServer
from builders.helm_chart import Release
from builders.program_process import OperatorProcess, eventually, kubeconfig_of_account, lease
from builders.tenant_objects import namespace_object, tenant

API = "/apis/allotment.dev/v1alpha1"
NEW_LEASE = "/apis/coordination.k8s.io/v1/namespaces/allotment-system/leases"


class ClusterLike(Protocol):
    """What these fixtures need of the shared fixture `cluster`."""

    @property
    def kubeconfig(self) -> Path: ...


class Estate:
    """Tenants of one test, under names of its own, taken away when it is over."""

    def __init__(self, admin: Actor, prefix: str) -> None:
        self.admin = admin
        self.prefix = prefix
        self._made: list[str] = []

    def name(self, word: str) -> str:
        return f"{self.prefix}-{word}"

    def add(self, word: str, **spec: Any) -> str:
        """Create a Tenant; returns its full name."""
        name = self.name(word)
        answer = self.admin.create(tenant(name, **spec))
        assert answer.accepted, answer.message
        self._made.append(name)
        return name

    def change(self, name: str, **spec: Any) -> None:
        answer = self.admin.patch(tenant(name), {"spec": spec})
        assert answer.accepted, answer.message

    def delete(self, name: str) -> None:
        self.admin.delete(tenant(name))

    def get(self, name: str) -> dict[str, Any] | None:
        answer = self.admin.get(tenant(name))
        return answer.body if answer.accepted else None

    def condition(self, name: str, type_: str = "Ready") -> dict[str, Any]:
        """The condition of that type, empty while there is none."""
        found = ((self.get(name) or {}).get("status") or {}).get("conditions") or []
        return next((each for each in found if each["type"] == type_), {})

    def ready(self, *names: str) -> bool:
        """Whether the operator says so of the specs as they are now; its answer to an older one stays a while."""
        return all(self._ready_now(name) for name in names)

    def _ready_now(self, name: str) -> bool:
        found = self.get(name) or {}
        conditions = (found.get("status") or {}).get("conditions") or []
        return any(
            each["type"] == "Ready"
            and each["status"] == "True"
            and each.get("observedGeneration") == found["metadata"]["generation"]
            for each in conditions
        )

    def namespace(self, name: str) -> dict[str, Any] | None:
        answer = self.admin.get(namespace_object(name))
        return answer.body if answer.accepted else None

    def items(self, path: str) -> list[dict[str, Any]]:
        answer = self.admin.request("GET", path)
        assert answer.accepted, answer.message
        return list(answer.body["items"])

    def leave(self) -> None:
        """Delete everything, also what a failing test left half done."""
        for name in self._made:
            self.admin.patch(tenant(name), {"spec": {"deletionPolicy": "Cascade", "parent": None, "paused": False}})
            self.admin.delete(tenant(name))

    def gone(self) -> bool:
        return all(self.get(name) is None for name in self._made)


_LEFT: list[Estate] = []


@pytest.fixture(scope="module")
def operator(cluster: ClusterLike, only_release: Release, admin: Actor) -> Iterator[OperatorProcess]:
    """The operator, at work."""
    only_release.ensure()
    # An empty Lease is taken at once; for a missing one the operator waits, as somebody may have deleted a held one.
    admin.request("POST", NEW_LEASE, {**lease(OperatorProcess.account), "spec": {}})
    with tempfile.TemporaryDirectory(prefix="allotment-operator-") as folder:
        credentials = kubeconfig_of_account(cluster.kubeconfig, admin, Path(folder), account=OperatorProcess.account)
        process = OperatorProcess(credentials, Path(folder, "operator.log"), supervised=True)
        try:
            process.start()
            yield process
            # All tests' tenants at once: each namespace takes the namespace controller some seconds.
            eventually(lambda: all(estate.gone() for estate in _LEFT), because=process.tail, timeout=600)
        finally:
            _LEFT.clear()
            process.kill()


@pytest.fixture
def estate(admin: Actor, operator: OperatorProcess) -> Iterator[Estate]:
    """Tenants that nobody else knows."""
    found = Estate(admin, f"t{uuid.uuid4().hex[:8]}")
    yield found
    if operator.process is None:
        operator.start()
    found.leave()
    _LEFT.append(found)


@pytest.fixture
def power_cut(admin: Actor, operator: OperatorProcess) -> Callable[[], None]:
    """Kills the operator and starts it again, as if its Lease had run out meanwhile.

    That a successor waits for a Lease that has not run out is for the test of two operators.
    """

    def cut() -> None:
        operator.kill()
        answer = admin.patch(lease(OperatorProcess.account), {"spec": {"holderIdentity": ""}})
        assert answer.accepted, answer.message
        operator.start()

    return cut


@pytest.fixture
def user(api: ApiServer) -> Callable[..., Actor]:
    """A person, as the identity provider would name him."""
    return lambda name, *groups: api.user(name, groups)
