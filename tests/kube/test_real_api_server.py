"""The client against a real API server: what only the real one can say."""

import asyncio
import contextlib
import random
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from allotment_kube import Client, Lease, LeaseSettings, Reflector, ReflectorSettings, errors, load_configuration
from allotment_kube.credentials import FixedCredentials, TokenFileCredentials, bearer
from allotment_kube.decoding import UndecodableObject
from allotment_kube.models import Object
from allotment_kube.patches import JsonPatch, MergePatch, StrategicMergePatch
from allotment_kube.resources import (
    CONFIG_MAPS,
    CUSTOM_RESOURCE_DEFINITIONS,
    DEPLOYMENTS,
    LEASES,
    NODES,
    POD_DISRUPTION_BUDGETS,
    PODS,
    PRIORITY_CLASSES,
    SERVICE_ACCOUNTS,
    Resource,
)
from allotment_kube.retries import NEVER_REPEAT, Backoff
from allotment_kube.watch import watch
from fakes.environments import Live

pytestmark = pytest.mark.cluster


def config_map(name: str, **data: str) -> Object:
    return {"metadata": {"name": name}, "data": data}


def pod(name: str, **spec: Any) -> Object:
    container = {"name": "c", "image": "example.org/none", "resources": {"requests": {"cpu": "100m"}}}
    return {
        "metadata": {"name": name, "labels": {"app": "x"}},
        "spec": {"schedulerName": "nobody", "terminationGracePeriodSeconds": 0, "containers": [container], **spec},
    }


async def create_pod(live: Live, name: str, **spec: Any) -> Object:
    """Create a pod once the controller has made the namespace's service account."""
    async with asyncio.timeout(180.0):
        while not await live.client.find(SERVICE_ACCOUNTS, "default", namespace=live.namespace):  # noqa: ASYNC110
            await asyncio.sleep(0.1)  # the controller manager says nothing when it is done
    return await live.client.create(PODS.untyped, pod(name, **spec), namespace=live.namespace)


async def eventually(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(180.0):
        while not condition():  # noqa: ASYNC110 - the condition is another program's
            await asyncio.sleep(0.02)


# Who we are


async def test_a_service_accounts_token_works_and_is_rotated_through_its_file(live: Live, tmp_path: Path) -> None:
    await live.client.create(SERVICE_ACCOUNTS, {"metadata": {"name": "robot"}}, namespace=live.namespace)
    token, expires = await live.client.service_account_token(live.namespace, "robot", seconds=600)
    file = tmp_path / "token"
    file.write_text("not.a.token", encoding="utf-8")
    credentials = TokenFileCredentials(file, reread_after=1e9)
    assert credentials.current() is not None
    configuration = load_configuration(live.kubeconfig).with_credentials(credentials)
    file.write_text(token, encoding="utf-8")

    async with Client.connect(configuration) as robot:
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        reviews = await robot.discover(review["apiVersion"], review["kind"])
        who = await robot.create(reviews, review)
        with pytest.raises(errors.ForbiddenError, match="robot"):
            await robot.get(CONFIG_MAPS, "c", namespace=live.namespace)

    assert who["status"]["userInfo"]["username"] == f"system:serviceaccount:{live.namespace}:robot"
    assert expires.endswith("Z")


async def test_a_wrong_token_is_unauthorized(live: Live) -> None:
    configuration = load_configuration(live.kubeconfig).with_credentials(FixedCredentials(bearer("s3cret")))
    async with Client.connect(configuration) as nobody:
        with pytest.raises(errors.UnauthorizedError) as raised:
            await nobody.list(NODES)

    assert "s3cret" not in repr(raised.value) + str(raised.value)


async def test_impersonation_has_the_rights_of_the_impersonated(live: Live) -> None:
    configuration = load_configuration(live.kubeconfig).acting_as("jane", "devs")
    async with Client.connect(configuration) as jane:
        with pytest.raises(errors.ForbiddenError, match='"jane" cannot list resource "nodes"'):
            await jane.list(NODES)


async def test_a_server_of_another_authority_is_not_trusted(live: Live) -> None:
    configuration = load_configuration(live.kubeconfig)
    system = type(configuration.tls)()
    async with Client.connect(type(configuration)(configuration.server, tls=system)) as client:
        with pytest.raises(errors.UnreachableError, match="TLS"):
            await client.patiently(timeout=60.0, retries=NEVER_REPEAT).list(NODES)


# Reading and writing


async def test_pages_are_one_snapshot(live: Live) -> None:
    for number in range(7):
        await live.client.create(CONFIG_MAPS, config_map(f"c{number}"), namespace=live.namespace)
    names: list[str] = []
    sizes: list[int] = []
    selector = "metadata.name!=kube-root-ca.crt"
    async for page in live.client.pages(CONFIG_MAPS, namespace=live.namespace, page_size=3, field_selector=selector):
        if not sizes:
            await live.client.delete(CONFIG_MAPS, "c6", namespace=live.namespace)
        sizes.append(len(page.items))
        names += [item["metadata"]["name"] for item in page.items]

    assert sizes == [3, 3, 1]
    assert names == [f"c{number}" for number in range(7)]


async def test_apply_owns_fields_and_force_takes_them(live: Live) -> None:
    async def apply(manager: str, *, force: bool = False, **data: str) -> Object:
        body = config_map("c", **data)
        return await live.client.apply(CONFIG_MAPS, body, manager=manager, force=force, namespace=live.namespace)

    await apply("one", k="1", own="x")
    with pytest.raises(errors.OwnershipConflictError) as raised:
        await apply("two", k="2")
    taken = await apply("two", k="2", force=True)
    left = await apply("one", own="x")

    assert list(raised.value.fields) == [".data.k"]
    assert taken["data"] == left["data"] == {"k": "2", "own": "x"}


async def test_two_managers_share_a_status(live: Live) -> None:
    await create_pod(live, "p")
    for manager, condition in (("one", "example.org/A"), ("two", "example.org/B")):
        body = {"metadata": {"name": "p"}, "status": {"conditions": [{"type": condition, "status": "True"}]}}
        await live.client.apply(PODS, body, manager=manager, namespace=live.namespace, subresource="status")

    found = await live.client.get(PODS, "p", namespace=live.namespace)
    assert {"example.org/A", "example.org/B"} <= {condition.type for condition in found.status.conditions}


async def test_stale_patches_conflict_and_wrong_ones_are_invalid(live: Live) -> None:
    item = await live.client.create(CONFIG_MAPS, config_map("c", k="1"), namespace=live.namespace)
    version, uid = item["metadata"]["resourceVersion"], item["metadata"]["uid"]
    set_two = [{"op": "replace", "path": "/data/k", "value": "2"}]

    async def patch(change: Any) -> Object:
        return await live.client.patch(CONFIG_MAPS, "c", change, namespace=live.namespace)

    new = await patch(JsonPatch(set_two, resource_version=version, uid=uid))
    for stale in (
        JsonPatch(set_two, resource_version=version),
        JsonPatch(set_two, uid=str(uuid.uuid4())),
        MergePatch({"data": {"k": "3"}}, resource_version=version),
        StrategicMergePatch({"data": {"k": "3"}}, resource_version=version),
        MergePatch({"data": {"k": "3"}}, uid=str(uuid.uuid4())),
    ):
        with pytest.raises(errors.ConflictError):
            await patch(stale)
    fresh = new["metadata"]["resourceVersion"]
    with pytest.raises(errors.InvalidError):
        await patch(JsonPatch([{"op": "remove", "path": "/data/none"}], resource_version=fresh))

    assert (await live.client.get(CONFIG_MAPS, "c", namespace=live.namespace))["data"] == {"k": "2"}


async def test_replace_and_delete_honour_their_preconditions(live: Live) -> None:
    item = await live.client.create(CONFIG_MAPS, config_map("c"), namespace=live.namespace)
    newer = await live.client.replace(CONFIG_MAPS, {**item, "data": {"k": "1"}})

    with pytest.raises(errors.ConflictError):
        await live.client.replace(CONFIG_MAPS, {**item, "data": {"k": "2"}})
    with pytest.raises(errors.ConflictError):
        await live.client.delete(CONFIG_MAPS, "c", namespace=live.namespace, uid=str(uuid.uuid4()))
    await live.client.delete(CONFIG_MAPS, "c", namespace=live.namespace, uid=newer["metadata"]["uid"])

    assert await live.client.find(CONFIG_MAPS, "c", namespace=live.namespace) is None


async def test_a_bad_object_is_invalid_field_by_field(live: Live) -> None:
    with pytest.raises(errors.InvalidError) as raised:
        await live.client.create(PRIORITY_CLASSES, {"metadata": {"name": "Bad_Name"}, "value": 2**31 - 1})

    assert {cause.field for cause in raised.value.causes} >= {"metadata.name"}


async def test_a_name_taken_is_told_from_a_conflict(live: Live) -> None:
    await live.client.create(CONFIG_MAPS, config_map("c"), namespace=live.namespace)
    with pytest.raises(errors.AlreadyExistsError):
        await live.client.create(CONFIG_MAPS, config_map("c"), namespace=live.namespace)


async def test_a_workload_is_scaled_through_its_subresource(live: Live) -> None:
    labels = {"app": "x"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "example.org/none"}]}}
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    body = {"metadata": {"name": "d"}, "spec": spec}
    await live.client.create(DEPLOYMENTS, body, namespace=live.namespace)
    await live.client.scale(DEPLOYMENTS, "d", 1, namespace=live.namespace)
    scale = await live.client.get(DEPLOYMENTS, "d", namespace=live.namespace, subresource="scale")

    assert (scale["kind"], scale["spec"]) == ("Scale", {"replicas": 1})
    assert await live.client.discover("apps/v1", "Deployment") == DEPLOYMENTS


async def test_a_pod_reads_back_typed(live: Live) -> None:
    await create_pod(live, "p", priority=0, nodeSelector={"zone": "a"}, tolerations=[{"operator": "Exists"}])
    found = await live.client.get(PODS, "p", namespace=live.namespace)

    assert found.spec.containers[0].resources.requests == {"cpu": "100m"}
    assert (found.spec.scheduler_name, found.spec.node_selector) == ("nobody", {"zone": "a"})
    assert found.spec.tolerations[0].operator == "Exists"
    assert found.status.phase == "Pending"


# What a scheduler does


@pytest.fixture
async def node(live: Live) -> AsyncIterator[str]:
    name = f"node-{live.namespace}"
    await live.client.create(NODES.untyped, {"metadata": {"name": name}})
    yield name
    await live.client.delete(NODES, name)


async def test_a_binding_needs_the_very_pod(live: Live, node: str) -> None:
    item = await create_pod(live, "p")
    with pytest.raises(errors.ConflictError):
        await live.client.bind(live.namespace, "p", uid=str(uuid.uuid4()), node=node)

    await live.client.bind(live.namespace, "p", uid=item["metadata"]["uid"], node=node)

    assert (await live.client.get(PODS, "p", namespace=live.namespace)).spec.node_name == node
    with pytest.raises(errors.ConflictError, match="already assigned"):
        await live.client.bind(live.namespace, "p", uid=item["metadata"]["uid"], node=node)
    await live.client.delete(PODS, "p", namespace=live.namespace, grace_period=0)


async def test_an_eviction_yields_to_a_budget(live: Live, node: str) -> None:
    item = await create_pod(live, "p")
    await live.client.bind(live.namespace, "p", uid=item["metadata"]["uid"], node=node)
    ready = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
    await live.client.patch(PODS, "p", StrategicMergePatch(ready), namespace=live.namespace, subresource="status")
    budget = {"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "x"}}}}
    await live.client.create(POD_DISRUPTION_BUDGETS, budget, namespace=live.namespace)

    with pytest.raises(errors.DisruptionBudgetError):
        await live.client.evict(live.namespace, "p", uid=item["metadata"]["uid"])
    await live.client.delete(POD_DISRUPTION_BUDGETS, "b", namespace=live.namespace)
    await live.client.evict(live.namespace, "p", uid=item["metadata"]["uid"], grace_period=0)

    assert await live.client.find(PODS, "p", namespace=live.namespace) is None


async def test_a_guarded_write_tells_the_server_its_time(live: Live) -> None:
    class Leave:
        @contextlib.contextmanager
        def write(self) -> Any:
            yield 3.0

    await live.client.guarded(Leave()).create(CONFIG_MAPS, config_map("c"), namespace=live.namespace)

    assert await live.client.find(CONFIG_MAPS, "c", namespace=live.namespace) is not None


# Following


async def test_a_reflector_follows_the_real_server(live: Live) -> None:
    await create_pod(live, "before")
    reflector = Reflector(
        live.client, PODS, namespace=live.namespace, settings=ReflectorSettings(page_size=1), rng=random.Random(0)
    )
    running = asyncio.create_task(reflector.run())
    await reflector.synced()
    created = await create_pod(live, "after")
    await eventually(lambda: reflector.get("after", live.namespace))
    await live.client.delete(PODS, "before", namespace=live.namespace, grace_period=0)
    await eventually(lambda: len(reflector) == 1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert list(reflector.objects()) == [(live.namespace, "after")]
    assert int(reflector.resource_version) >= int(created["metadata"]["resourceVersion"])
    assert reflector.statistics.failures == 0


@pytest.fixture
async def widgets(live: Live) -> AsyncIterator[Resource[Object]]:
    """A kind of one's own: the server's watch cache of it knows nothing from before its birth."""
    group = f"{live.namespace}.example.org"
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    spec = {
        "group": group,
        "scope": "Namespaced",
        "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
        "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
    }
    name = f"widgets.{group}"
    await live.client.create(CUSTOM_RESOURCE_DEFINITIONS, {"metadata": {"name": name}, "spec": spec})
    yield Resource.custom(f"{group}/v1", "Widget", "widgets")
    await live.client.delete(CUSTOM_RESOURCE_DEFINITIONS, name)


async def test_a_watch_from_an_ancient_version_is_gone(live: Live, widgets: Resource[Object]) -> None:
    # The reflector may be there before the kind is served.
    settings = ReflectorSettings(backoff=Backoff(first=0.1, limit=0.2))
    reflector = Reflector(live.client, widgets, settings=settings)
    running = asyncio.create_task(reflector.run())
    async with asyncio.timeout(180.0):
        await reflector.synced()
    undecodable: list[UndecodableObject] = []
    ancient = watch(live.client.transport, widgets, "1", rng=random.Random(0), on_undecodable=undecodable.append)
    async with contextlib.aclosing(ancient), asyncio.timeout(180.0):
        with pytest.raises(errors.GoneError):
            await anext(ancient)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert await live.client.discover(widgets.api_version, "Widget") == widgets


async def test_a_lease_is_handed_over(live: Live) -> None:
    settings = LeaseSettings(duration=120.0, renew_deadline=90.0, retry_period=0.3, request_timeout=20.0)
    await live.client.create(LEASES.untyped, {"metadata": {"name": "l"}}, namespace=live.namespace)
    reigns: list[str] = []

    async def reign(name: str) -> None:
        async def lead() -> None:
            reigns.append(name)
            guarded = live.client.guarded(lease)
            await guarded.create(CONFIG_MAPS, config_map(f"by-{name}"), namespace=live.namespace)
            await asyncio.sleep(1.0)

        lease = Lease(live.client, "l", namespace=live.namespace, identity=name, settings=settings)
        await lease.run(lead)

    async with asyncio.timeout(180.0):
        await asyncio.gather(reign("one"), reign("two"))
    record = await live.client.get(LEASES, "l", namespace=live.namespace)

    assert sorted(reigns) == ["one", "two"]
    assert (record.spec.holder_identity or "", record.spec.lease_transitions) == ("", 2)
