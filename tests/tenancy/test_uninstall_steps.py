"""`allot uninstall`, step by step, on an API server in memory: what it believes, and what it asks for."""

import asyncio
import datetime as dt
import json
from typing import Any

import pytest

from allotment_api.labels import API_VERSION, FINALIZER
from allotment_cli.uninstall import Inventory, Item, StuckError, Uninstaller
from allotment_kube.client import Client
from allotment_kube.resources import LEASES, Resource
from fakes.api_server import FakeApiServer
from fakes.in_process import InProcessTransport

pytestmark = pytest.mark.looptime

NAMESPACE = "allotment-system"
TENANTS = Resource.custom(API_VERSION, "Tenant", "tenants", namespaced=False)
BINDINGS = Resource.custom(
    "rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False
)
HOURS = dt.timedelta(hours=10)


class Scene:
    """A cluster with the operator's Lease and nothing else."""

    def __init__(self) -> None:
        self.server = FakeApiServer(clock=lambda: asyncio.get_running_loop().time())
        for resource in (TENANTS, BINDINGS):
            self.server.register(resource)
        self.uninstaller = Uninstaller(
            Client(InProcessTransport(self.server)),
            namespace=NAMESPACE,
            release="allotment",
            tell=lambda _: None,
            timeout=20,
        )

    def renew(self, *, by: dt.datetime, holder: str = "pod_1") -> None:
        spec = {"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": by.isoformat()}
        self.server.put(LEASES, {"metadata": {"name": "allotment-operator", "namespace": NAMESPACE}, "spec": spec})

    async def keep_renewing(self, *, ahead: dt.timedelta) -> None:
        while True:
            self.renew(by=dt.datetime.now(dt.UTC) + ahead)
            await asyncio.sleep(2)

    def tenant(self, **spec: Any) -> Item:
        """A tenant whose operator lets nobody go."""
        said = {"type": "Ready", "status": "False", "message": "The tenant still has 1 service."}
        metadata = {"name": "red", "finalizers": [FINALIZER]}
        self.server.put(TENANTS, {"metadata": metadata, "spec": spec, "status": {"conditions": [said]}})
        return Item(API_VERSION, "Tenant", "", "red")

    def patches(self) -> list[Any]:
        return [json.loads(entry.body) for entry in self.server.journal if entry.method == "PATCH" and entry.body]


@pytest.mark.parametrize("ahead", [-HOURS, dt.timedelta(), HOURS], ids=["behind", "right", "ahead"])
async def test_an_operator_that_renews_its_lease_is_at_work_whatever_its_clock_says(ahead: dt.timedelta) -> None:
    scene = Scene()
    renewing = asyncio.create_task(scene.keep_renewing(ahead=ahead))
    await asyncio.sleep(0)

    found = await scene.uninstaller.look()
    renewing.cancel()

    assert found.operator_at_work


async def test_an_operator_that_renews_no_more_is_not_at_work_however_fresh_its_lease_looks() -> None:
    scene = Scene()
    scene.renew(by=dt.datetime.now(dt.UTC) + HOURS)

    assert not (await scene.uninstaller.look()).operator_at_work


async def test_an_operator_that_gives_its_lease_back_is_not_at_work() -> None:
    scene = Scene()
    scene.renew(by=dt.datetime.now(dt.UTC))
    looking = asyncio.create_task(scene.uninstaller.look())
    await asyncio.sleep(3)
    scene.renew(by=dt.datetime.now(dt.UTC), holder="")

    assert not (await looking).operator_at_work


@pytest.mark.parametrize(
    ("cascade", "asked"),
    [(False, {"paused": False}), (True, {"paused": False, "deletionPolicy": "Cascade"})],
    ids=["only where told to", "and then all"],
)
async def test_services_that_came_since_the_look_are_deleted(*, cascade: bool, asked: dict[str, Any]) -> None:
    scene = Scene()
    found = Inventory(tenants=[scene.tenant(deletionPolicy="Block")], operator_at_work=True)

    with pytest.raises(StuckError, match="Tenant red says: The tenant still has 1 service"):
        await scene.uninstaller.carry_out(found, cascade=cascade, force=False)

    assert scene.patches() == [{"spec": asked}]
