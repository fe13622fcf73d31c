"""Every wait has a code, a sentence with numbers, and where there is one the change that would end it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from allotment_cli.main import app
from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.explanation.explain import Explainer, Why
from allotment_scheduler.core.objects.events import PodGone, TenantSeen
from allotment_scheduler.core.objects.tenants import Bounds
from allotment_scheduler.core.settings import Settings
from allotment_scheduler.core.state.invariants import check
from builders.scheduling import World


def why(world: World) -> Why:
    done = world.run()
    return Explainer(done.engine).why(next(pod for pod in done.state.pods.values() if pod.spec.name == "p"))


def base() -> World:
    return World().node("n1", cpu=4, gpu=1).node("n2", cpu=4).tenant("a").tenant("b")


@pytest.mark.parametrize(
    ("world", "code", "said"),
    [
        (base().pod("nobody", "p", cpu=1), "UnknownTenant", "belongs to no tenant"),
        (
            World().node("n", cpu=1).tenant("a", suspended=True).pod("a", "p", cpu=1),
            "TenantSuspended",
            "a is suspended",
        ),
        (base().pod("a", "p", cpu=1, more={"gated": True}), "Gated", "scheduling gates"),
        (base().gang("a", "g", 3).pod("a", "p", cpu=1, group="g"), "GangIncomplete", "1 of 3 pods"),
        (base().pod("a", "p", cpu=1, group="lost"), "GangIncomplete", "PodGroup lost does not exist"),
        (base().pod("a", "p", cpu=1, more={"preemptible": False}), "BeyondGuarantee", "no guarantee"),
        (
            World().node("n", cpu=9).tenant("a", limits={"cpu": 4}).pod("a", "r", on="n", cpu=3).pod("a", "p", cpu=2),
            "AboveLimit",
            "uses 3 of its limit of 4 cpu, and this asks for 2",
        ),
        (base().pod("a", "p", cpu=1, gpu=2), "NoNodeFits", "2 lack nvidia.com/gpu"),
        (
            base().pod("b", "r1", on="n1", cpu=2).pod("b", "r2", on="n2", cpu=2).pod("a", "p", cpu=3),
            "Fragmented",
            "enough is free in all",
        ),
        (
            base().pods("a", 4, "r", on="n1", cpu=1).pods("a", 4, "s", on="n2", cpu=1).pod("a", "p", cpu=1),
            "BehindFairShare",
            "1 cpu asked for, 0 free; tenant a has 100.0% of all cpu",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
def test_codes_with_numbers(world: World, code: str, said: str) -> None:
    reason = why(world)

    assert reason.code == code
    assert said in reason.message


def test_a_limit_for_every_pool_is_named_with_its_tenant() -> None:
    world = World().node("n", cpu=4).inner("d").tenant("a", "d").pod("a", "r", on="n", cpu=2).pod("a", "p", cpu=2)
    made = world.events[1]
    assert isinstance(made, TenantSeen)
    world.events[1] = TenantSeen(replace(made.spec, limits=Bounds({}, {"default": {"cpu": 3000}})))

    reason = why(world)

    assert (reason.code, reason.change) == ("AboveLimit", None)
    assert "in pool default tenant d uses 2 of its limit of 3 cpu, and this asks for 2" in reason.message


def test_the_smallest_change_is_named() -> None:
    world = World().node("n", cpu=8, gpu=4).tenant("a", guaranteed={"cpu": 8, "gpu": 4})
    world.pod("a", "r", on="n", cpu=2, gpu=2).pod("a", "p", cpu=4, gpu=3)

    assert why(world).change == "1 nvidia.com/gpu fewer per pod fits node n of pool default"


MANIFESTS = """
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Node, metadata: {name: n}, status: {allocatable: {cpu: "4", memory: 8Gi}}}
- {apiVersion: allotment.dev/v1alpha1, kind: Tenant, metadata: {name: team}, spec: {namespaces: [team-a]}}
---
apiVersion: v1
kind: Pod
metadata: {name: runs, namespace: team-a, creationTimestamp: "2026-01-01T00:00:00Z"}
spec: {schedulerName: allotment, nodeName: n, priority: 0, containers: [{name: c, resources: {requests: {cpu: "3"}}}]}
status: {phase: Running, startTime: "2026-01-01T00:00:01Z"}
"""
MORE = """
apiVersion: v1
kind: Pod
metadata: {name: NAME, namespace: team-a}
spec: {schedulerName: allotment, priority: 0, containers: [{name: c, resources: {requests: {cpu: "CPU"}}}]}
"""


@pytest.fixture
def cluster_file(tmp_path: Path) -> Path:
    path = tmp_path / "cluster.yaml"
    path.write_text(MANIFESTS)
    return path


@pytest.mark.parametrize(("cpu", "exit_code", "part"), [("1", 0, "starts"), ("2", 1, "waits"), ("9", 2, "waits")])
def test_what_if_tells_by_its_exit_code(cluster_file: Path, cpu: str, exit_code: int, part: str) -> None:
    extra = cluster_file.with_name("more.yaml")
    extra.write_text(MORE.replace("NAME", "new").replace("CPU", cpu))

    done = CliRunner().invoke(app, ["what-if", "-f", str(cluster_file), "--add", str(extra), "-o", "json"])

    assert done.exit_code == exit_code, done.output
    assert [row["pod"] for row in json.loads(done.stdout)[part]] == ["new"]


def test_what_if_a_node_is_drained(cluster_file: Path) -> None:
    done = CliRunner().invoke(app, ["what-if", "-f", str(cluster_file), "--drain", "n", "-o", "yaml"])

    assert done.exit_code == 1
    assert [row["pod"] for row in yaml.safe_load(done.stdout)["displaced"]] == ["runs"]


def workload(replicas: int, created: str = "") -> str:
    """A Deployment as it stands in Git, or with `created` as the API server has it."""
    template = "{metadata: {labels: {app: web}}, spec: {containers: [{name: c, resources: {requests: {cpu: 1}}}]}}"
    metadata = f"{{name: web, namespace: team-a{created and f', creationTimestamp: {created!r}'}}}"
    spec = f"{{replicas: {replicas}, selector: {{matchLabels: {{app: web}}}}, template: {template}}}"
    return f"---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {metadata}\nspec: {spec}\n"


def replica(node: str = "n") -> str:
    """The one pod of that Deployment."""
    owner = "{apiVersion: apps/v1, kind: ReplicaSet, name: web-5f, uid: r, controller: true}"
    metadata = f"{{name: web-5f-x, namespace: team-a, labels: {{app: web}}, ownerReferences: [{owner}]}}"
    container = "{name: c, resources: {requests: {cpu: 1}}}"
    spec = f"{{schedulerName: allotment, nodeName: {node}, containers: [{container}]}}"
    return f"---\napiVersion: v1\nkind: Pod\nmetadata: {metadata}\nspec: {spec}\nstatus: {{phase: Running}}\n"


WAITING = MORE.replace("NAME", "waits").replace("CPU", "1").replace(
    "namespace: team-a", 'namespace: team-a, creationTimestamp: "2026-01-02T00:00:00Z"'
)  # fmt: skip


@pytest.mark.parametrize(
    ("there", "changed"),
    [
        (workload(1, "2026-01-01T00:00:00Z") + replica("elsewhere"), workload(2)),
        (workload(0, "2026-01-01T00:00:00Z"), workload(1)),
        (workload(0, "2026-01-01T00:00:00Z"), workload(1, "2026-01-01T00:00:00Z")),
    ],
    ids=["a further replica", "from none, as it stands in Git", "from none, as the API server has it"],
)
def test_what_a_changed_workload_makes_comes_after_whom_waits(cluster_file: Path, there: str, changed: str) -> None:
    """There is room for one more pod."""
    cluster_file.write_text(MANIFESTS + "---" + WAITING + there)
    change = cluster_file.with_name("change.yaml")
    change.write_text(changed)

    done = CliRunner().invoke(app, ["what-if", "-f", str(cluster_file), "--change", str(change), "-o", "json"])

    found = json.loads(done.stdout)
    assert {part: [row["pod"] for row in rows] for part, rows in found.items()} == {
        "starts": [], "moves": [], "displaced": [], "waits": ["web-0"],
    }, done.output  # fmt: skip


def test_what_a_drain_moves_comes_after_whom_waits(cluster_file: Path) -> None:
    spare = 'apiVersion: v1\nkind: Node\nmetadata: {name: m}\nstatus: {allocatable: {cpu: "1", memory: 8Gi}}\n'
    full = MORE.replace("NAME", "full").replace("CPU", "3").replace("schedulerName", "nodeName: n, schedulerName")
    files = MANIFESTS.split("---", maxsplit=1)[0] + "---" + full + replica() + "---\n" + spare
    cluster_file.write_text(files + "---" + WAITING)

    done = CliRunner().invoke(app, ["what-if", "-f", str(cluster_file), "--drain", "n", "-o", "json"])

    displaced = json.loads(done.stdout)["displaced"]
    assert {row["pod"]: row["reason"] for row in displaced} == {"full": "Gone", "web-5f-x": "BehindFairShare"}, (
        done.output
    )
    assert json.loads(done.stdout)["starts"] == []


def test_simulate_tenants_and_why_print_what_they_promise(cluster_file: Path) -> None:
    cluster_file.write_text(MANIFESTS + "---" + MORE.replace("NAME", "waits").replace("CPU", "2"))
    run = CliRunner()

    simulated = json.loads(run.invoke(app, ["simulate", "-f", str(cluster_file), "-o", "json"]).stdout)
    listed = json.loads(run.invoke(app, ["tenants", "-f", str(cluster_file), "-o", "json"]).stdout)
    told = run.invoke(app, ["why", "team-a/waits", "-f", str(cluster_file), "-o", "json"])

    assert set(simulated) == {"bindings", "evictions", "pending", "tenants", "rounds"}
    assert [row["reason"] for row in simulated["pending"]] == ["BehindFairShare"]
    assert listed[0]["name"] == "team"
    assert listed[0]["dominantShare"] == 0.75
    assert told.exit_code == 1
    assert json.loads(told.stdout)[0]["change"] == "1 cpu fewer per pod fits node n of pool default"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: [", "is no YAML"),
        ("just: text", "document 1: is no Kubernetes object"),
        ("{kind: Tenant, apiVersion: allotment.dev/v1alpha1, metadata: {name: t}, spec: {weight: -1}}", "spec.weight"),
        ("{kind: Pod, metadata: {name: p}, spec: {containers: [{resources: {requests: {cpu: 1x}}}]}}", "Pod p"),
    ],
)
def test_a_bad_file_is_named_with_document_and_field(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)

    done = CliRunner().invoke(app, ["simulate", "-f", str(path)])

    assert done.exit_code == 2
    assert "bad.yaml" in done.stderr
    assert said in done.stderr


def test_a_pod_beyond_what_its_gang_needs_waits_for_the_others() -> None:
    done = World().node("n", cpu=1).tenant("a").gang("a", "g", 2).pods("a", 3, group="g", cpu=1).run()

    why = Explainer(done.engine).why(done.state.pods["a", "p2"])

    assert (why.code, why.message) == (
        "GangIncomplete", "group g needs 2 pods, and others come first: it starts after them"
    )  # fmt: skip


def test_who_waited_before_a_tenant_was_suspended_is_told_why_afterwards() -> None:
    world = World().node("n", cpu=1).tenant("a").gang("a", "g", 2).pods("a", 2, "p", group="g", cpu=1)
    tenant = next(event.spec for event in world.events if isinstance(event, TenantSeen))
    state = world.state()
    state.apply(TenantSeen(replace(tenant, suspended=True)))
    check(state)
    known = len(world.events)
    state.apply_all(world.pods("a", 2, "first", group="g", priority=1, cpu=2).events[known:])
    state.apply(TenantSeen(tenant))
    check(state)
    explainer = Explainer(Engine(state))

    told = {pod.spec.name: explainer.why(pod).code for pod in state.waiting()}

    assert told == dict.fromkeys(("p0", "p1"), "GangIncomplete") | dict.fromkeys(("first0", "first1"), "NoNodeFits")


def with_a_seat() -> World:
    """A node of one core, which a pod of a StatefulSet leaves for its successor."""
    owner = {"owner": "set", "owner_kind": "StatefulSet"}
    return World().node("n", cpu=1).tenant("a").pod("a", "db-0", on="n", cpu=1, more=owner)


@pytest.mark.parametrize("count", [1, 2], ids=["pod", "gang"])
def test_who_waits_beside_room_that_is_held_for_a_successor_is_told_so(count: int) -> None:
    world = with_a_seat().node("m", cpu=count - 1)
    engine = Engine(world.state(), Settings())
    engine.cycle(1000)
    engine.state.apply(PodGone(("a", "db-0")))
    engine.state.apply_all(World().gang("a", "g", count).pods("a", count, group="g", cpu=1).events)
    engine.cycle(1010)

    said = Explainer(engine).why(engine.state.pods["a", "p0"])

    assert (said.code, said.message) == ("Reserved", "the room that is free is held for pods that are to come back")
    check(engine.state)


def test_who_waits_beside_nodes_that_are_reserved_for_a_larger_unit_is_told_so() -> None:
    world = World().node("n", cpu=4).tenant("a", weight=9).tenant("b")
    world.pods("b", 3, "r", on="n", cpu=1, more={"max_runtime": 5000.0}).pod("a", "large", cpu=3)
    engine = Engine(world.state(), Settings(least_runtime=9000.0))
    for now in (1000.0, 1301.0):
        engine.cycle(now)
    assert engine.reservations.by_unit
    engine.state.apply_all(World().pod("b", "p", cpu=1).events)
    engine.cycle(1302)

    said = Explainer(engine).why(engine.state.pods["b", "p"])

    assert (said.code, said.message.split(" for ")[0]) == ("Reserved", "the room that is free is reserved")
    check(engine.state)


@pytest.mark.parametrize("count", [1, 3])
def test_who_fits_and_has_not_been_decided_about_is_not_told_that_room_is_lacking(count: int) -> None:
    state = World().node("n", cpu=9).tenant("a").gang("a", "g", count).pods("a", count, group="g", cpu=1).state()

    said = Explainer(Engine(state)).why(state.pods["a", "p0"])

    assert (said.code, said.message) == ("BehindFairShare", "there is room for it: it is decided soon")
