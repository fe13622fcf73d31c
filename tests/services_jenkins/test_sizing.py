"""How a pool grows, shrinks, fails and recovers."""

import datetime as dt
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allotment_operator.services.jenkins.sizing import Agent, Decision, Pod, Shape, State, decide, orphans
from allotment_operator.services.jenkins.snapshot import Node, QueuedBuild, Snapshot

NOW = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
LABELS = frozenset({"linux"})
SHAPE = Shape(
    labels=LABELS,
    min_idle=0,
    max_agents=10,
    one_shot=True,
    idle_seconds=300,
    connect_timeout=300,
    max_lifetime=86_400,
    scale_up_step=10,
)


def ago(seconds: float) -> dt.datetime:
    return NOW - dt.timedelta(seconds=seconds)


def agent(state: State, name: str = "a", since: float = 0) -> Agent:
    return Agent(name, state, ago(since))


def pod(*, gone: bool = False, placed: float | None = 10, age: float = 20) -> Pod:
    return Pod(gone=gone, placed_at=None if placed is None else ago(placed), created_at=ago(age))


def node(name: str = "a", *, online: bool = True, idle: bool = True, held: bool = False) -> Node:
    return Node(name, online=online, idle=idle, held=held, labels=LABELS)


def controller(*nodes: Node, queue: int = 0) -> Snapshot:
    builds = tuple(QueuedBuild(number, "linux", "") for number in range(queue))
    return Snapshot(builds, {each.name: each for each in nodes})


def only(decision: Decision) -> tuple[State, set[str]]:
    (verdict,) = decision.verdicts
    doing = {what for what in ("register", "start", "hold", "remove", "forget") if getattr(verdict, what)}
    return verdict.agent.state, doing


def test_ten_builds_bring_ten_agents_at_once() -> None:
    assert decide(SHAPE, [], {}, controller(queue=10), now=NOW).new == 10


@pytest.mark.parametrize(
    ("shape", "queue", "wanted"),
    [
        (SHAPE, 0, 0),
        (SHAPE, 25, 10),
        (replace(SHAPE, scale_up_step=3), 25, 3),
        (replace(SHAPE, min_idle=2), 0, 2),
        (replace(SHAPE, min_idle=2), 3, 5),
    ],
    ids=["no build, no agent", "never above the maximum", "no more than a step", "spare ones", "spare ones on top"],
)
def test_a_pool_grows_to(shape: Shape, queue: int, wanted: int) -> None:
    assert decide(shape, [], {}, controller(queue=queue), now=NOW).new == wanted


def test_agents_on_their_way_count_as_capacity() -> None:
    decision = decide(SHAPE, [agent("Connecting")], {"a": pod()}, controller(node(online=False), queue=1), now=NOW)

    assert decision.new == 0


@pytest.mark.parametrize(
    ("state", "has_pod", "has_node", "wanted"),
    [
        ("Creating", False, False, {"register", "start"}),
        ("Creating", False, True, {"start"}),
        ("Creating", True, False, {"register"}),
    ],
    ids=["crashed before the first call", "crashed after the node", "crashed after the pod"],
)
def test_an_intent_is_finished_wherever_it_was_left(
    state: State, has_pod: bool, has_node: bool, wanted: set[str]
) -> None:
    nodes = [node(online=False)] if has_node else []

    assert only(decide(SHAPE, [agent(state)], {"a": pod()} if has_pod else {}, controller(*nodes), now=NOW)) == (
        "Creating",
        wanted,
    )


@pytest.mark.parametrize(
    ("before", "pod_", "node_", "wanted"),
    [
        ("Creating", pod(), node(online=False), ("Connecting", set())),
        ("Connecting", pod(placed=None, age=9999), node(online=False), ("Connecting", set())),
        ("Connecting", pod(placed=301), node(online=False), ("Failed", {"remove"})),
        ("Connecting", pod(gone=True), node(online=False), ("Failed", {"remove"})),
        ("Connecting", pod(), node(), ("Idle", set())),
        ("Idle", pod(), node(idle=False), ("Draining", {"hold"})),
        ("Draining", pod(), node(idle=False, held=True), ("Draining", set())),
        ("Draining", pod(), node(held=True), ("Deleting", {"remove"})),
        ("Draining", pod(gone=True), node(online=False), ("Deleting", {"remove"})),
        ("Idle", pod(), node(online=False), ("Deleting", {"remove"})),
        ("Deleting", None, node(), ("Deleting", {"remove"})),
        ("Deleting", None, None, ("Deleting", {"forget"})),
    ],
    ids=[
        "both exist: on its way",
        "waiting for room on a node is no failure",
        "placed, but never connected",
        "its pod died before it connected",
        "connected",
        "a build lands: no second one may",
        "the build goes on",
        "the build is over",
        "lost with its build",
        "lost while idle",
        "half removed",
        "removed on both sides",
    ],
)
def test_a_one_shot_agent(before: State, pod_: Pod | None, node_: Node | None, wanted: tuple[State, set[str]]) -> None:
    pods = {"a": pod_} if pod_ else {}
    nodes = [node_] if node_ else []

    assert only(decide(SHAPE, [agent(before)], pods, controller(*nodes), now=NOW)) == wanted


def test_a_reusable_agent_takes_another_build() -> None:
    shape = replace(SHAPE, one_shot=False)

    assert only(decide(shape, [agent("Idle")], {"a": pod()}, controller(node(idle=False)), now=NOW)) == ("Busy", set())
    assert only(decide(shape, [agent("Busy")], {"a": pod()}, controller(node()), now=NOW)) == ("Idle", set())


@pytest.mark.parametrize(("queue", "min_idle", "wanted"), [(0, 0, "Draining"), (1, 0, "Idle"), (0, 1, "Idle")])
def test_an_agent_that_idles_too_long_goes_unless_it_is_needed(queue: int, min_idle: int, wanted: State) -> None:
    shape = replace(SHAPE, one_shot=False, min_idle=min_idle)
    decision = decide(shape, [agent("Idle", since=301)], {"a": pod()}, controller(node(), queue=queue), now=NOW)

    assert only(decision)[0] == wanted


def test_an_agent_past_its_lifetime_takes_no_new_build() -> None:
    shape = replace(SHAPE, one_shot=False)
    old = pod(age=90_000)

    assert only(decide(shape, [agent("Idle")], {"a": old}, controller(node()), now=NOW)) == ("Draining", {"hold"})


def test_failures_delay_new_agents_ever_longer_until_one_comes_up() -> None:
    def failed(*since: float) -> list[Agent]:
        return [agent("Failed", f"f{index}", each) for index, each in enumerate(since)]

    assert decide(SHAPE, failed(0), {}, controller(queue=1), now=NOW).retry_after == 10
    assert decide(SHAPE, failed(0, 5, 9), {}, controller(queue=1), now=NOW).retry_after == 40
    assert decide(SHAPE, failed(11), {}, controller(queue=1), now=NOW).new == 1
    up = [*failed(0, 0), agent("Connecting", "b")]
    decision = decide(SHAPE, up, {"b": pod()}, controller(node("b"), queue=2), now=NOW)
    assert (decision.failures, decision.new) == (2, 0)
    assert sum(verdict.forget for verdict in decision.verdicts) == 2


def test_only_the_latest_failures_are_remembered() -> None:
    agents = [agent("Failed", f"f{number}", number) for number in range(1000)]

    decision = decide(SHAPE, agents, {}, controller(queue=1), now=NOW)

    kept = {verdict.agent.name for verdict in decision.verdicts if not verdict.forget}
    assert kept == {f"f{number}" for number in range(8)}
    assert decision.retry_after == 600


def test_what_carries_our_mark_without_being_intended_is_an_orphan_on_either_side() -> None:
    mine = Node("lost", online=True, idle=True, held=False, labels=frozenset({"mark"}))
    theirs = Node("built-in", online=True, idle=True, held=False, labels=frozenset({"linux"}))

    assert orphans([agent("Idle")], ["a", "b"], [node(), mine, theirs], "mark") == (["b"], ["lost"])


STATES: tuple[State, ...] = ("Creating", "Connecting", "Idle", "Busy", "Draining", "Deleting", "Failed")


@given(data=st.data(), queue=st.integers(0, 30), min_idle=st.integers(0, 5), max_agents=st.integers(1, 12))
def test_whatever_the_facts_a_pool_never_exceeds_its_maximum_and_never_touches_a_running_build(
    data: st.DataObject, queue: int, min_idle: int, max_agents: int
) -> None:
    shape = replace(SHAPE, min_idle=min_idle, max_agents=max_agents, one_shot=data.draw(st.booleans()))
    agents, pods, nodes = [], {}, []
    for index in range(data.draw(st.integers(0, max_agents))):
        name = f"a{index}"
        agents.append(agent(data.draw(st.sampled_from(STATES)), name, data.draw(st.integers(0, 1000))))
        if data.draw(st.booleans()):
            pods[name] = pod(gone=data.draw(st.booleans()), placed=data.draw(st.sampled_from([None, 5, 900])))
        if data.draw(st.booleans()):
            nodes.append(node(name, online=data.draw(st.booleans()), idle=data.draw(st.booleans())))

    decision = decide(shape, agents, pods, controller(*nodes, queue=queue), now=NOW)

    assert len(pods) + decision.new <= max_agents
    for verdict in decision.verdicts:
        name = verdict.agent.name
        building = (
            name in pods and not pods[name].gone and any(n.name == name and n.online and not n.idle for n in nodes)
        )
        before = next(each for each in agents if each.name == name).state
        if building and before not in ("Deleting", "Failed"):
            assert not verdict.remove
