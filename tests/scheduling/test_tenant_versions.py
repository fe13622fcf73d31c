"""A tenant whose new version cannot stand in the tree keeps its last good one, and the scheduler says so."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from allotment_cli.main import app
from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.explanation.explain import Explainer
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.objects.tenants import TenantSpec
from allotment_scheduler.core.state.cluster import ClusterState
from allotment_scheduler.core.state.invariants import check
from allotment_scheduler.shell.ledger import Ledger
from allotment_scheduler.shell.recovery import rebuilt
from builders.scheduling import World


def department() -> World:
    """A department with a limit, a team in it, and somebody else."""
    world = World().node("n", cpu=8).inner("dep", limits={"cpu": 3}).tenant("team", "dep").tenant("other")
    return world.pods("team", 5, cpu=1)


def edit(state: ClusterState, name: str, **changes: Any) -> None:
    state.apply(ev.TenantSeen(replace(state.tenant_specs[name], **changes)))


def running(state: ClusterState, tenant: str) -> int:
    return sum(pod.node is not None for pod in state.pods.values() if pod.spec.namespace == tenant)


@pytest.mark.parametrize(
    ("name", "parent", "said"),
    [
        ("dep", "team", "circle (dep -> team -> dep)"),
        ("dep", "dep", "circle (dep -> dep)"),
        ("team", "nowhere", "parent 'nowhere' of 'team' does not exist"),
    ],
)
@pytest.mark.parametrize("seen_first", [True, False], ids=["after a decision", "at once"])
def test_a_move_that_cannot_be_leaves_the_last_good_version_in_force(
    name: str, parent: str, said: str, seen_first: bool
) -> None:
    state = department().state() if seen_first else ClusterState()
    if not seen_first:
        state.apply_all(department().events)
    edit(state, name, parent=parent, weight=7, suspended=True)

    Engine(state).cycle(1)

    assert running(state, "team") == 3, "as many as the department's limit allows: neither more nor none"
    assert said in state.forest.problems[name]
    assert state.forest.problems[name].endswith("its last good version stays in force")
    assert state.forest.by_name[name].spec.weight == 1
    check(state)


def test_a_version_that_is_mended_comes_into_force() -> None:
    state = department().state()
    edit(state, "team", parent="nowhere", suspended=True)
    state.settle()
    edit(state, "team", parent="", suspended=False)

    Engine(state).cycle(1)

    assert not state.forest.problems
    assert running(state, "team") == 5


def test_a_bad_version_comes_into_force_once_its_parent_is_there() -> None:
    state = department().state()
    edit(state, "team", parent="late")
    state.settle()
    state.apply_all(World().inner("late", limits={"cpu": 1}).events)

    Engine(state).cycle(1)

    assert not state.forest.problems
    assert running(state, "team") == 1


def test_two_that_change_places_are_good_whatever_comes_first() -> None:
    state = World().node("n", cpu=8).inner("a").inner("b", "a").tenant("c", "b").state()
    edit(state, "a", parent="b")
    edit(state, "b", parent="")
    state.settle()

    assert not state.forest.problems
    assert [tenant.name for tenant in state.forest.by_name["c"].path] == ["c", "b"]
    assert state.forest.by_name["a"].parent is state.forest.by_name["b"]


def test_a_tenant_that_is_gone_goes_on_to_bind_those_below_it() -> None:
    world = department().pod("dep", "own", cpu=1)
    state = world.state()
    state.apply(ev.TenantGone("dep"))

    Engine(state).cycle(1)

    assert running(state, "team") == 3
    assert "parent 'dep' of 'team' does not exist" in state.forest.problems["team"]
    assert "dep" not in state.forest.leaf_of_namespace, "its namespaces are nobody's"
    edit(state, "team", parent="")
    state.settle()
    assert "dep" not in state.forest.by_name
    assert not state.forest.problems


@pytest.mark.parametrize("name", ["dep", "team"])
def test_a_state_that_is_built_anew_remembers_the_good_versions(name: str) -> None:
    state = department().state()
    if name == "dep":
        state.apply(ev.TenantGone("dep"))
    else:
        edit(state, "team", parent="nowhere")
    state.settle()

    fresh = rebuilt(state, Ledger(), {})
    Engine(fresh).cycle(1)

    assert fresh.forest.in_force == state.forest.in_force
    assert running(fresh, "team") == 3


def test_what_never_was_good_stays_out_and_its_pods_are_told_why() -> None:
    state = World().node("n", cpu=2).tenant("lost", "nowhere").pod("lost", "p", cpu=1).state()

    Engine(state).cycle(1)

    why = Explainer(Engine(state)).why(state.pods["lost", "p"])
    assert why.code == "UnknownTenant"
    assert "tenant lost is not in force: parent 'nowhere' of 'lost' does not exist" in why.message


TENANTS = """
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Node, metadata: {name: n}, status: {allocatable: {cpu: "4", memory: 8Gi}}}
- {apiVersion: allotment.dev/v1alpha1, kind: Tenant, metadata: {name: dep}, spec: {limits: {cpu: "1"}}}
- apiVersion: allotment.dev/v1alpha1
  kind: Tenant
  metadata: {name: team}
  spec: {namespaces: [team-a], parent: dep}
- apiVersion: v1
  kind: Pod
  metadata: {name: p, namespace: team-a}
  spec: {schedulerName: allotment, priority: 0, containers: [{name: c, resources: {requests: {cpu: "1"}}}]}
"""
CIRCLE = "{apiVersion: allotment.dev/v1alpha1, kind: Tenant, metadata: {name: dep}, spec: {parent: team}}"
ORPHAN = "{apiVersion: allotment.dev/v1alpha1, kind: Tenant, metadata: {name: orphan}, spec: {parent: nowhere}}"


def test_offline_commands_say_which_version_they_go_by(tmp_path: Path) -> None:
    cluster, change, orphan = tmp_path / "cluster.yaml", tmp_path / "change.yaml", tmp_path / "orphan.yaml"
    cluster.write_text(TENANTS)
    change.write_text(CIRCLE)
    orphan.write_text(ORPHAN)
    run = CliRunner()

    asked = run.invoke(app, ["what-if", "-f", str(cluster), "--change", str(change), "-o", "json"])
    listed = run.invoke(app, ["tenants", "-f", str(cluster), "-f", str(orphan), "-o", "json"])

    assert asked.exit_code == 0, asked.output
    assert not json.loads(asked.stdout)["displaced"]
    assert "allot: Tenant dep: the ancestors form a circle" in asked.stderr
    assert "its last good version stays in force" in asked.stderr
    assert [row["name"] for row in json.loads(listed.stdout)] == ["team", "dep"]
    assert "allot: Tenant orphan: parent 'nowhere' of 'orphan' does not exist" in listed.stderr


@pytest.mark.parametrize(
    ("label", "leaving", "want"),
    [
        (None, "", "old"),
        ("young", "", "young"),
        ("young", "young", "old"),
        ("old", "old", "young"),
        (None, "old", "young"),
        ("stranger", "", "old"),
    ],
    ids=[
        "nobody has it",
        "who has it keeps it",
        "who has it leaves",
        "the older one has it and leaves",
        "the older one leaves",
        "who has it lists it not",
    ],
)
def test_a_namespace_that_two_list_is_whose_the_operator_says(label: str | None, leaving: str, want: str) -> None:
    state = ClusterState()
    for born, name in enumerate(("old", "young", "stranger")):
        listed = () if name == "stranger" else ("x",)
        spec = TenantSpec(name, namespaces=listed, created=float(born), leaving=name == leaving)
        state.apply(ev.TenantSeen(spec))
    state.apply(ev.NamespaceSeen("x", {}, label))
    state.settle()

    assert state.forest.leaf_of_namespace["x"].name == want
    loser = {"old": "young", "young": "old"}[want]
    assert state.forest.problems == {
        f"{loser}:x": f"namespace 'x' belongs to '{want}' already: list it under one tenant only"
    }
