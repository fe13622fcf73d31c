"""What the client does with answers, good and bad; the server is the fake one, time is virtual."""

import asyncio

import pytest

from allotment_kube import errors
from allotment_kube.patches import JsonPatch, MergePatch
from allotment_kube.resources import CONFIG_MAPS, DEPLOYMENTS, NODES, POD_DISRUPTION_BUDGETS, PODS, Resource
from fakes.environments import Fake
from fakes.faults import Fault, Verb

pytestmark = pytest.mark.looptime


def config_map(name: str, **data: str) -> dict[str, object]:
    return {"metadata": {"name": name, "namespace": "a"}, "data": data}


def pod(name: str, **labels: str) -> dict[str, object]:
    return {"metadata": {"name": name, "namespace": "a", "labels": labels}, "spec": {"containers": [{"name": "c"}]}}


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("plain-1.x", "/api/v1/nodes/plain-1.x"),
        ("system:node", "/api/v1/nodes/system:node"),
        ("a/../b", "/api/v1/nodes/a%2F..%2Fb"),
        ("a?x=1#y", "/api/v1/nodes/a%3Fx%3D1%23y"),
    ],
)
def test_a_name_never_leaves_its_path_segment(name: str, want: str) -> None:
    assert NODES.item(name) == want


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_that_would_climb_the_path_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name"):
        NODES.item(name)


def test_a_namespace_is_neither_forgotten_nor_invented() -> None:
    with pytest.raises(ValueError, match="needs a namespace"):
        PODS.item("p")
    with pytest.raises(ValueError, match="cluster-scoped"):
        NODES.item("n", "a")


async def test_a_list_comes_in_pages_of_one_version(fake: Fake) -> None:
    for number in range(7):
        fake.server.put(CONFIG_MAPS, config_map(f"c{number}"))
    sizes: list[tuple[int, str, bool, bool]] = []
    async for page in fake.client.pages(CONFIG_MAPS, namespace="a", page_size=3):
        fake.server.put(CONFIG_MAPS, config_map(f"late-{len(sizes)}"))
        sizes.append((len(page.items), page.resource_version, page.first, page.last))

    version = sizes[0][1]
    assert sizes == [(3, version, True, False), (3, version, False, False), (1, version, False, True)]


async def test_a_list_whose_continue_token_expires_starts_over(fake: Fake) -> None:
    for number in range(5):
        fake.server.put(CONFIG_MAPS, config_map(f"c{number}"))
    fake.plan.script(Verb.LIST, None, Fault.GONE)
    seen = [(page.first, len(page.items)) async for page in fake.client.pages(CONFIG_MAPS, page_size=2)]

    assert seen == [(True, 2), (True, 5)]


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.THROTTLED, Fault.UNAVAILABLE])
async def test_a_write_that_did_not_happen_is_repeated(fake: Fake, fault: Fault) -> None:
    fake.plan.script(Verb.CREATE, fault, fault)

    await fake.client.create(CONFIG_MAPS, config_map("c"))

    assert len(fake.server.objects(CONFIG_MAPS)) == 1


@pytest.mark.parametrize("fault", [Fault.DROP_BEFORE, Fault.DROP_AFTER, Fault.ERROR, Fault.ERROR_AFTER])
async def test_a_write_that_may_have_happened_is_not_repeated(fake: Fake, fault: Fault) -> None:
    fake.plan.script(Verb.CREATE, fault)

    with pytest.raises((errors.OutcomeUnknownError, errors.UnavailableError)):
        await fake.client.create(CONFIG_MAPS, config_map("c"))

    took_effect = fault in {Fault.DROP_AFTER, Fault.ERROR_AFTER}
    assert len(fake.server.objects(CONFIG_MAPS)) == took_effect


@pytest.mark.parametrize("fault", [Fault.DROP_BEFORE, Fault.DROP_AFTER, Fault.ERROR, Fault.ERROR_AFTER])
async def test_an_apply_is_repeated_whatever_happened(fake: Fake, fault: Fault) -> None:
    fake.plan.script(Verb.PATCH, fault)

    await fake.client.apply(CONFIG_MAPS, config_map("c", k="v"), manager="m")

    assert fake.server.objects(CONFIG_MAPS)[0]["data"] == {"k": "v"}


async def test_retry_after_is_waited_out(fake: Fake) -> None:
    fake.server.put(CONFIG_MAPS, config_map("c"))
    fake.plan.script(Verb.GET, Fault.THROTTLED, Fault.THROTTLED)
    began = asyncio.get_running_loop().time()

    await fake.client.get(CONFIG_MAPS, "c", namespace="a")

    assert 2.0 <= asyncio.get_running_loop().time() - began <= 4.0


async def test_patience_ends(fake: Fake) -> None:
    fake.plan.script(Verb.GET, *[Fault.UNAVAILABLE] * 5)

    with pytest.raises(errors.UnavailableError):
        await fake.client.get(CONFIG_MAPS, "c", namespace="a")


async def test_a_slow_answer_is_not_awaited_for_ever(fake: Fake) -> None:
    fake.plan.longest_delay = 1000.0
    fake.plan.script(Verb.BIND, Fault.DELAY)

    with pytest.raises(errors.OutcomeUnknownError, match="no answer within 2 s"):
        await fake.client.patiently(timeout=2.0).bind("a", "p", uid="u", node="n")


async def test_a_stale_write_conflicts(fake: Fake) -> None:
    old = fake.server.put(CONFIG_MAPS, config_map("c", k="1"))
    fake.server.put(CONFIG_MAPS, config_map("c", k="2"))
    version = old["metadata"]["resourceVersion"]

    with pytest.raises(errors.ConflictError):
        await fake.client.replace(CONFIG_MAPS, old)
    for patch in (
        MergePatch({"data": {"k": "3"}}, resource_version=version),
        JsonPatch([{"op": "replace", "path": "/data/k", "value": "3"}], resource_version=version),
        JsonPatch([{"op": "replace", "path": "/data/k", "value": "3"}], uid="another"),
    ):
        with pytest.raises(errors.ConflictError):
            await fake.client.patch(CONFIG_MAPS, "c", patch, namespace="a")

    assert fake.server.objects(CONFIG_MAPS)[0]["data"] == {"k": "2"}


async def test_a_json_patch_that_is_wrong_in_itself_is_rejected(fake: Fake) -> None:
    item = fake.server.put(CONFIG_MAPS, config_map("c"))
    patch = JsonPatch([{"op": "remove", "path": "/spec/no"}], resource_version=item["metadata"]["resourceVersion"])

    with pytest.raises(errors.InvalidError):
        await fake.client.patch(CONFIG_MAPS, "c", patch, namespace="a")


async def test_an_apply_conflict_names_the_fields_and_force_takes_them(fake: Fake) -> None:
    await fake.client.apply(CONFIG_MAPS, config_map("c", k="1", own="x"), manager="one")

    with pytest.raises(errors.OwnershipConflictError) as raised:
        await fake.client.apply(CONFIG_MAPS, config_map("c", k="2"), manager="two")
    taken = await fake.client.apply(CONFIG_MAPS, config_map("c", k="2"), manager="two", force=True)
    left = await fake.client.apply(CONFIG_MAPS, config_map("c"), manager="one")

    assert raised.value.fields == {".data.k": 'conflict with "one"'}
    assert taken["data"] == {"k": "2", "own": "x"}
    assert left["data"] == {"k": "2"}


async def test_a_binding_needs_the_very_pod(fake: Fake) -> None:
    item = fake.server.put(PODS, pod("p"))
    with pytest.raises(errors.ConflictError):
        await fake.client.bind("a", "p", uid="another", node="n")

    await fake.client.bind("a", "p", uid=item["metadata"]["uid"], node="n")

    assert (await fake.client.get(PODS, "p", namespace="a")).spec.node_name == "n"
    with pytest.raises(errors.ConflictError, match="already assigned"):
        await fake.client.bind("a", "p", uid=item["metadata"]["uid"], node="n")


async def test_an_eviction_yields_to_a_budget_at_once(fake: Fake) -> None:
    fake.server.put(PODS, pod("p", app="x"))
    budget = {
        "metadata": {"name": "b", "namespace": "a"},
        "spec": {"selector": {"matchLabels": {"app": "x"}}},
        "status": {"disruptionsAllowed": 0},
    }
    fake.server.put(POD_DISRUPTION_BUDGETS, budget)

    with pytest.raises(errors.DisruptionBudgetError):
        await fake.client.evict("a", "p")
    fake.server.put(POD_DISRUPTION_BUDGETS, {**budget, "status": {"disruptionsAllowed": 1}})
    await fake.client.evict("a", "p")

    assert fake.server.objects(PODS) == []
    assert [entry.code for entry in fake.server.journal] == [429, 201]


async def test_a_deletion_can_insist_on_the_incarnation(fake: Fake) -> None:
    metadata = {"name": "c", "namespace": "a", "finalizers": ["f/x"]}
    item = fake.server.put(CONFIG_MAPS, {"metadata": metadata})

    with pytest.raises(errors.ConflictError):
        await fake.client.delete(CONFIG_MAPS, "c", namespace="a", uid="another")
    await fake.client.delete(CONFIG_MAPS, "c", namespace="a", uid=item["metadata"]["uid"])
    held = await fake.client.get(CONFIG_MAPS, "c", namespace="a")
    await fake.client.patch(CONFIG_MAPS, "c", MergePatch({"metadata": {"finalizers": []}}), namespace="a")

    assert held["metadata"]["deletionTimestamp"]
    assert await fake.client.find(CONFIG_MAPS, "c", namespace="a") is None


async def test_kinds_are_discovered_once(fake: Fake) -> None:
    widgets = Resource.custom("example.org/v1", "Widget", "widgets")
    fake.server.register(widgets)

    found = [await fake.client.discover("example.org/v1", "Widget") for _ in range(3)]
    with pytest.raises(errors.NotFoundError, match="is its CRD installed"):
        await fake.client.discover("example.org/v1", "Gadget")

    assert found == [widgets] * 3
    assert await fake.client.discover("apps/v1", "Deployment") == DEPLOYMENTS


async def test_an_answer_of_another_shape_is_a_protocol_error(fake: Fake) -> None:
    fake.server.put(PODS, {**pod("p"), "spec": {"nodeName": 7}})

    with pytest.raises(errors.ProtocolError, match=r"no Pod.*nodeName"):
        await fake.client.get(PODS, "p", namespace="a")
