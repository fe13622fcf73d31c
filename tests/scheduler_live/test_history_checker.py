"""The checker of histories notices every kind of violation, and blames nobody for what others did.

Each history is made up: events of pods, with times in seconds. The sound one is altered in one place at a time.
"""

from typing import Any

import msgspec
import pytest

from allotment_kube.pods import Pod
from allotment_kube.reflector import Added, Deleted, Modified
from builders.history_checker import CUT_FOR, NEWS_TAKES, PROMISE_LASTS, HistoryChecker, Limit, bound_twice

GANG = 3


class Story:
    """Tells a checker what happens to pods: on nodes of 4 CPU, 1,024 bytes, 2 GPUs and 9 pods, in gangs of three.

    Tenant `limited` may have 2 CPU; `limited` and `beside` together 512 bytes.
    """

    def __init__(self) -> None:
        room = {"cpu": 4000, "memory": 1024, "nvidia.com/gpu": 2, "pods": 9}
        above = Limit(frozenset(("limited", "beside")), {"memory": 512})
        limits = [Limit(frozenset(("limited",)), {"cpu": 2000}), above]
        self.checker = HistoryChecker({"n": room, "m": room}, limits, GANG)
        self.now = 1000.0
        self._told: set[str] = set()

    def later(self, seconds: float) -> "Story":
        self.now += seconds
        self.checker.look_at_gangs(self.now)
        return self

    def pod(self, name: str, node: str = "", **about: Any) -> "Story":
        """A pod as it is now; its name is NAMESPACE/NAME, its uid its name unless it is given."""
        key = (name.partition("/")[0], name.partition("/")[2])
        pod = _pod(key, node, uid=about.pop("uid", name), **about)
        event: Any = Modified(key, None, pod) if name in self._told else Added(key, pod)
        self._told.add(name)
        self.checker.take(event, self.now)
        return self

    def gone(self, name: str) -> "Story":
        self._told.remove(name)
        key = (name.partition("/")[0], name.partition("/")[2])
        self.checker.take(Deleted(key, name, None), self.now)
        return self

    def gang(self, *numbers: int, node: str = "n", **about: Any) -> "Story":
        """Members of gang g, as they are now."""
        for number in numbers:
            self.pod(f"a/g-{number}", node, job="g", **about)
        return self

    @property
    def violations(self) -> list[str]:
        return self.checker.violations


def _pod(
    key: tuple[str, str],
    node: str,
    *,
    uid: str,
    cpu: str = "1",
    more: dict[str, str] | None = None,
    job: str = "",
    promised: str = "",
    evicted: bool = False,
    leaving: bool | None = None,
    phase: str = "Running",
    scheduler: str = "allotment",
) -> Pod:
    condition = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
    labels = {"job-name": job} if job else {}
    written = {
        "metadata": {"namespace": key[0], "name": key[1], "uid": uid, "labels": labels}
        | ({"deletionTimestamp": "2026-01-01T00:00:00Z"} if (evicted if leaving is None else leaving) else {}),
        "spec": {
            "nodeName": node,
            "schedulerName": scheduler,
            "containers": [{"name": "main", "resources": {"requests": {"cpu": cpu, **(more or {})}}}],
        },
        "status": {"phase": phase, "nominatedNodeName": promised, "conditions": [condition] if evicted else []},
    }
    return msgspec.convert(written, Pod)


def claimed() -> Story:
    """Somebody waits who has been promised node n."""
    return Story().pod("b/claimant").pod("b/claimant", promised="n")


def sound() -> Story:
    """A node is filled, a claimant is promised it, one goes, the claimant takes the place."""
    story = Story()
    for number in range(4):
        story.pod(f"a/p{number}").pod(f"a/p{number}", "n")
    story.pod("b/claimant").pod("b/claimant", promised="n")
    story.pod("a/p0", "n", evicted=True).later(1).gone("a/p0")
    return story.pod("b/claimant", "n")


def test_a_sound_history_is_believed() -> None:
    story = sound()
    assert story.violations == []
    assert (story.checker.binds, story.checker.evictions) == (5, 1)
    assert story.checker.unsettled({"a": 3, "b": 1}) == ""


@pytest.mark.parametrize(
    ("uids", "want"),
    [
        (["1", "2", "3"], []),
        (["1", "2", "1"], ["1"]),
        (["1", ""], [""]),
    ],
    ids=["each once", "one uid twice", "one names no uid, so nothing kept it from another pod of that name"],
)
def test_a_second_binding_of_a_uid_is_noticed(uids: list[str], want: list[str]) -> None:
    assert bound_twice(uids) == want


def test_a_pod_that_changes_its_node_is_noticed() -> None:
    assert sound().pod("b/claimant", "m").violations == ["('b', 'claimant') moved from n to m"]


def test_a_recreated_pod_of_the_same_name_may_stand_elsewhere() -> None:
    """Also where a list told of both at once."""
    story = sound().gone("a/p1").pod("a/p1", "m", uid="second").pod("a/p1", "n", uid="third")
    assert story.violations == []
    assert story.checker.binds == 7


@pytest.mark.parametrize(
    ("phase", "cpu", "want"),
    [
        ("Running", "1", []),
        ("Running", "1001m", ["('b', 'late') overfills n: 4001 of 4000 cpu"]),
        ("Succeeded", "4", []),
    ],
    ids=["fits exactly", "is a milli-CPU too large", "the other has ended"],
)
def test_a_binding_that_overfills_its_node_is_noticed(phase: str, cpu: str, want: list[str]) -> None:
    story = Story().pod("a/big", "n", cpu="3").pod("a/big", "n", cpu="3", phase=phase)
    assert story.pod("b/late", "n", cpu=cpu).violations == want


def test_a_binding_beyond_the_tenants_limit_is_noticed_wherever_its_pods_are() -> None:
    story = Story().pod("limited/one", "n").pod("limited/two", "m")
    assert story.violations == []
    story.pod("limited/three", "n")
    assert story.violations == ["('limited', 'three') takes its tenant beyond its limit: 3000 of 2000 cpu"]


@pytest.mark.parametrize(
    ("asks", "want"),
    [
        ({"memory": "513"}, "1025 of 1024 memory"),
        ({"nvidia.com/gpu": "2"}, "3 of 2 nvidia.com/gpu"),
        ({"memory": "512", "nvidia.com/gpu": "1"}, ""),
    ],
    ids=["memory", "devices", "it fits exactly"],
)
def test_a_node_that_is_overfilled_in_something_else_than_cpu_is_noticed(asks: dict[str, str], want: str) -> None:
    story = Story().pod("a/one", "n", cpu="0", more={"memory": "512", "nvidia.com/gpu": "1"})
    story.pod("a/two", "n", cpu="0", more=asks)
    assert story.violations == ([f"('a', 'two') overfills n: {want}"] if want else [])


def test_a_node_with_too_many_pods_is_noticed() -> None:
    story = Story()
    for number in range(10):
        story.pod(f"a/p{number}", "n", cpu="0")
    assert story.violations == ["('a', 'p9') overfills n: 10 of 9 pods"]


def test_the_limit_of_a_tenant_above_binds_all_below_it() -> None:
    story = Story().pod("limited/one", "n", cpu="0", more={"memory": "300"})
    assert story.pod("beside/two", "m", cpu="0", more={"memory": "212"}).violations == []
    story.pod("beside/three", "m", cpu="0", more={"memory": "1"})
    assert story.violations == ["('beside', 'three') takes its tenant beyond its limit: 513 of 512 memory"]


@pytest.mark.parametrize("seconds", [0.0, NEWS_TAKES], ids=["it cannot have heard", "it must have heard"])
@pytest.mark.parametrize("what", ["a foreign pod", "a pod that has grown"])
def test_what_others_add_counts_once_the_scheduler_must_know_it(what: str, seconds: float) -> None:
    story = Story()
    if what == "a foreign pod":
        story.pod("c/foreign", "n", cpu="4", scheduler="default-scheduler")
    else:
        story.pod("a/grows", "n", cpu="1").later(NEWS_TAKES).pod("a/grows", "n", cpu="4")
    story.later(seconds).pod("b/late", "n")
    assert bool(story.violations) is bool(seconds)


def test_what_a_pod_has_shrunk_by_is_free_at_once() -> None:
    story = Story().pod("a/shrinks", "n", cpu="4").pod("a/shrinks", "n", cpu="1").pod("b/late", "n", cpu="3")
    assert story.violations == []


@pytest.mark.parametrize(
    ("promised", "withdrawn_for", "noticed"),
    [
        ("n", None, False),
        ("m", None, True),
        ("", None, True),
        ("n", PROMISE_LASTS / 2, False),
        ("n", PROMISE_LASTS, True),
    ],
    ids=["its node is promised", "another node is promised", "nobody is promised a node", "just withdrawn", "long ago"],
)
def test_an_eviction_without_its_starter_is_noticed(promised: str, withdrawn_for: float | None, noticed: bool) -> None:
    story = Story().pod("a/victim", "n").pod("b/claimant").pod("b/claimant", promised=promised)
    if withdrawn_for is not None:
        story.pod("b/claimant").later(withdrawn_for)
    story.pod("a/victim", "n", evicted=True)
    assert bool(story.violations) is noticed
    assert story.checker.evictions == 1


@pytest.mark.parametrize(
    ("promised", "noticed"),
    [("n", False), ("m", False), ("elsewhere", True), ("", True)],
    ids=["its node is promised", "another member's node is", "a node where no member stood", "none"],
)
def test_a_gang_goes_for_somebody_too(promised: str, noticed: bool) -> None:
    story = Story().gang(0, 1).gang(2, node="m").pod("b/claimant").pod("b/claimant", promised=promised)
    story.gang(0, evicted=True)
    assert bool(story.violations) is noticed


def test_what_others_have_left_of_a_gang_may_go_for_nobody() -> None:
    story = Story().gang(0, 1, 2).gone("a/g-0").gang(1, 2, evicted=True)
    assert story.violations == []


def test_a_gang_that_is_started_in_part_is_noticed() -> None:
    story = Story()
    for number in range(GANG):
        story.pod(f"a/g-{number}", job="g")
    story.gang(0, 1).later(CUT_FOR)
    assert story.violations == [], "it gets its time"
    assert story.later(1).violations == ["gang a/g was started as 2 of 3, and stays so"]


@pytest.mark.parametrize("then", ["it is whole in the end", "it is given up as a whole"])
def test_a_gang_that_is_started_one_by_one_is_sound(then: str) -> None:
    story = Story().gang(0, 1).later(CUT_FOR / 2)
    if then == "it is whole in the end":
        story.gang(2)
    else:
        story.gone("a/g-0").gone("a/g-1")
    assert story.later(2 * CUT_FOR).violations == []


def test_an_eviction_by_others_needs_no_starter() -> None:
    story = Story().pod("a/drained", "n")
    story.checker.evicted_by_others.add("a/drained")
    story.pod("a/drained", "n", evicted=True)
    assert story.violations == []
    assert story.checker.evictions == 0


@pytest.mark.parametrize(
    ("then", "want"),
    [
        ("nothing", ["gang a/g was cut to 2 of 3 by an eviction, and stays so"]),
        ("the rest goes", []),
        ("it is whole again", []),
        ("one more goes", ["gang a/g was cut to 1 of 3 by an eviction, and stays so"]),
    ],
)
def test_a_gang_that_an_eviction_has_cut_for_good_is_noticed(then: str, want: list[str]) -> None:
    story = claimed().gang(0, 1, 2).gang(0, evicted=True).later(1).gone("a/g-0")
    if then == "the rest goes":
        story.gang(1, 2, evicted=True).gone("a/g-1").gone("a/g-2")
    elif then == "it is whole again":
        story.gang(3)
    elif then == "one more goes":
        story.gang(1, evicted=True).gone("a/g-1")
    assert story.violations == [], "it gets its time"
    assert story.later(CUT_FOR).violations == want


@pytest.mark.parametrize("leaves", [True, False], ids=["it is told that it leaves", "a list leaves that out"])
def test_a_gang_is_cut_when_its_pod_goes_not_when_it_is_marked(leaves: bool) -> None:
    """An API server marks a pod by one write and deletes it by another."""
    story = claimed().gang(0, 1, 2).gang(0, evicted=True, leaving=False).later(2 * CUT_FOR)
    assert story.violations == [], "nobody has gone yet"
    if leaves:
        story.gang(0, evicted=True).later(1)
    story.gone("a/g-0")
    assert story.checker.evictions == 1
    assert story.later(CUT_FOR - 1).violations == [], "it gets its time"
    assert story.later(2).violations == ["gang a/g was cut to 2 of 3 by an eviction, and stays so"]


def test_a_gang_gets_its_time_from_leaders_not_from_the_clock() -> None:
    story = claimed().gang(0, 1, 2).gang(0, evicted=True).gone("a/g-0")
    story.checker.nobody_leads(CUT_FOR)
    assert story.later(2 * CUT_FOR - 1).violations == []
    assert story.later(2).violations


def test_a_gang_that_others_have_cut_is_no_fault_of_the_schedulers() -> None:
    story = Story().gang(0, 1, 2)
    story.checker.evicted_by_others.add("a/g-0")
    story.gang(0, evicted=True).gone("a/g-0").gone("a/g-1")
    assert story.later(CUT_FOR + 1).violations == []


@pytest.mark.parametrize(
    ("change", "want"),
    [
        (lambda story: story.gone("a/p1"), "a: 2 of 3 bound"),
        (lambda story: story.pod("a/p1", "n", evicted=True), "a: 2 of 3 bound"),
        (lambda story: story.pod("b/more"), "waiting: b/more"),
        (lambda story: story.pod("b/more", "m"), "b: 2 of 1 bound"),
    ],
    ids=["one is missing", "one is still on its way out", "one waits", "one too many"],
)
def test_a_cluster_that_does_not_converge_is_noticed(change: Any, want: str) -> None:
    assert change(sound()).checker.unsettled({"a": 3, "b": 1}) == want
