"""An application's life: its gang, its driver, its attempts, its end."""

import copy
import datetime as dt
from typing import Any

import pytest
import yaml

from allotment_api.conditions import find
from allotment_api.spark import SparkApplication
from allotment_operator.plans.actions import Apply, Delete, ObjectRef
from allotment_operator.plans.outcome import Observed, Outcome, TenantView
from allotment_operator.services.spark.application import SparkApplicationKind

START = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
TENANT = TenantView("research", guaranteed=frozenset({"cpu", "memory"}))
KIND = SparkApplicationKind()


class World:
    """A namespace with one application, in which the test says what becomes of pods."""

    def __init__(self, **spec: Any) -> None:
        self.seconds = 0.0
        self.children: dict[ObjectRef, dict[str, Any]] = {}
        self.gone = False
        self.manifest: dict[str, Any] = {
            "apiVersion": "allotment.dev/v1alpha1",
            "kind": "SparkApplication",
            "metadata": {"name": "pi", "namespace": "research", "uid": "7"},
            "spec": {"type": "Python", "mainApplicationFile": "local:///pi.py", "executor": {"instances": 2}, **spec},
        }

    @property
    def now(self) -> dt.datetime:
        return START + dt.timedelta(seconds=self.seconds)

    def round(self, *, later: float = 1.0) -> Outcome:
        self.seconds += later
        observed = Observed(children=copy.deepcopy(self.children), tenant=TENANT)
        outcome = KIND.plan(SparkApplication.parse(self.manifest), observed, now=self.now)
        for action in outcome.actions:
            match action:
                case Apply():
                    self.children.setdefault(action.ref, copy.deepcopy(dict(action.manifest)))
                    if action.ref.kind != "Pod":
                        self.children[action.ref] = copy.deepcopy(dict(action.manifest))
                case Delete():
                    self.gone |= action.ref.kind == "SparkApplication"
                    self.children.pop(action.ref, None)
        kept = {key: value for key, value in self.manifest.get("status", {}).items() if key == "conditions"}
        self.manifest["status"] = {**kept, **outcome.status}
        return outcome

    @property
    def state(self) -> str:
        return str(self.manifest["status"]["applicationState"]["state"])

    @property
    def message(self) -> str:
        return str(self.manifest["status"]["applicationState"].get("errorMessage", ""))

    def pods(self) -> list[str]:
        return sorted(ref.name for ref in self.children if ref.kind == "Pod")

    def driver(self) -> dict[str, Any]:
        return next(pod for ref, pod in self.children.items() if ref.kind == "Pod" and "-driver-" in ref.name)

    def becomes(self, phase: str, *, exit_code: int | None = None, evicted: bool = False, placed: bool = True) -> None:
        conditions = [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": self.now.isoformat()}
            if placed
            else {
                "type": "PodScheduled",
                "status": "False",
                "reason": "AboveLimit",
                "message": "AboveLimit: 8 of 8 cpu",
            }
        ]
        if evicted:
            conditions.append({"type": "DisruptionTarget", "status": "True"})
        status: dict[str, Any] = {"phase": phase, "conditions": conditions}
        if exit_code is not None:
            status["containerStatuses"] = [{"name": "driver", "state": {"terminated": {"exitCode": exit_code}}}]
        self.driver()["status"] = status

    def executor_comes(self, number: int = 1) -> None:
        template = yaml.safe_load(
            self.children[ObjectRef("v1", "ConfigMap", "research", "pi-spark")]["data"]["executor.yaml"]
        )
        name = f"pi-exec-{number}"
        pod = {**template, "metadata": {**template["metadata"], "name": name, "namespace": "research"}}
        pod["status"] = {"phase": "Running"}
        self.children[ObjectRef("v1", "Pod", "research", name)] = pod


def test_executors_shuffle_on_the_folder_that_spark_would_otherwise_mount_itself() -> None:
    """Spark leaves volumes of this name alone. With another it adds its own: the API server refuses both."""
    world = World()
    world.round()
    world.executor_comes()
    [driver], [executor] = (
        world.children[ObjectRef("v1", "Pod", "research", name)]["spec"]["containers"]
        for name in ("pi-driver-1", "pi-exec-1")
    )

    shuffled = {
        mount["mountPath"] for mount in executor["volumeMounts"] if mount["name"].startswith("spark-local-dir-")
    }
    assert shuffled == {"/var/data/spark"}
    assert {"name": "SPARK_LOCAL_DIRS", "value": "/var/data/spark"} in driver["env"]
    assert "SPARK_LOCAL_DIRS" not in {each["name"] for each in executor["env"]}


def test_the_gang_is_announced_before_the_driver_exists() -> None:
    world = World(executor={"instances": 3, "cores": 2, "memory": "4g"})
    kinds = [action.ref.kind for action in world.round().actions if isinstance(action, Apply)]

    group = world.children[ObjectRef("allotment.dev/v1alpha1", "PodGroup", "research", "pi-spark")]["spec"]
    assert kinds.index("PodGroup") < kinds.index("Pod")
    assert group["minMember"] == 4
    assert group["expected"][0] | {"tolerations": None} == {
        "name": "executor",
        "count": 3,
        "requests": {"cpu": "2", "memory": "5734Mi"},
        "nodeSelector": {},
        "tolerations": None,
    }
    assert world.driver()["metadata"]["labels"]["allotment.dev/pod-group"] == "pi-spark"


def test_a_program_that_ends_well_is_completed_and_its_executors_are_gone() -> None:
    world = World()
    world.round()
    world.becomes("Running")
    world.executor_comes()
    world.round()
    assert (world.state, world.manifest["status"]["executorState"]) == ("RUNNING", {"pi-exec-1": "RUNNING"})
    world.becomes("Succeeded")
    outcome = world.round()
    world.round()

    assert world.state == "COMPLETED"
    assert world.pods() == ["pi-driver-1"]
    ready = find(outcome.conditions, "Ready")
    assert ready is not None
    assert ready.status == "True"


def test_a_waiting_driver_says_what_the_scheduler_says() -> None:
    world = World()
    world.round()
    world.becomes("Pending", placed=False)
    world.round(later=100_000)

    assert (world.state, world.message) == ("SUBMITTED", "AboveLimit: 8 of 8 cpu")


def test_a_driver_that_runs_is_running_whatever_its_conditions_say() -> None:
    world = World()
    world.round()
    world.becomes("Running", placed=False)
    world.driver()["spec"]["nodeName"] = "n1"
    world.driver()["metadata"]["creationTimestamp"] = world.now.isoformat()
    world.round()

    assert world.state == "RUNNING"


def test_a_driver_that_never_starts_after_finding_a_node_has_failed() -> None:
    world = World(startTimeoutSeconds=60)
    world.round()
    world.becomes("Pending")
    world.driver()["status"]["containerStatuses"] = [{"state": {"waiting": {"reason": "ImagePullBackOff"}}}]
    outcome = world.round(later=30)
    assert (world.state, outcome.requeue_after) == ("SUBMITTED", 30)
    world.round(later=31)

    assert world.state == "FAILED"
    assert "did not start within 60 s" in world.message
    assert "ImagePullBackOff" in world.message


def test_failures_are_repeated_with_growing_pauses_as_often_as_the_owner_said() -> None:
    policy = {"type": "OnFailure", "onFailureRetries": 2, "onFailureRetryInterval": 10}
    world = World(restartPolicy=policy)
    pauses = []
    for _ in range(2):
        world.round()
        world.becomes("Failed", exit_code=1)
        outcome = world.round()
        pauses.append(outcome.requeue_after)
        assert world.state == "PENDING_RERUN"
        assert world.pods() == []
        world.round(later=float(outcome.requeue_after or 0) - 2)
        assert world.state == "PENDING_RERUN"
        world.round(later=2)
        assert world.state == "SUBMITTED"
    world.becomes("Failed", exit_code=137)
    world.round()

    assert pauses == [10, 20]
    assert (world.state, world.manifest["status"]["executionAttempts"]) == ("FAILED", 3)
    assert "exit code 137" in world.message


@pytest.mark.parametrize("how", ["marked", "vanished"])
def test_an_eviction_is_nobodys_failure(how: str) -> None:
    world = World()
    world.round()
    world.becomes("Running")
    world.round()
    if how == "marked":
        world.becomes("Failed", exit_code=143, evicted=True)
    else:
        world.children = {ref: child for ref, child in world.children.items() if ref.kind != "Pod"}
    world.round()
    world.round()

    assert world.state == "SUBMITTED"
    assert world.pods() == ["pi-driver-2"]
    assert world.manifest["status"]["failedAttempts"] == 0


def test_a_driver_that_used_up_its_node_has_failed() -> None:
    """Begun again at once and uncounted, it would go on to fill the next node's disk."""
    world = World(restartPolicy={"type": "Never"})
    world.round()
    world.becomes("Failed", exit_code=137, evicted=True)
    used = "The node was low on resource: ephemeral-storage."
    world.driver()["status"] |= {"reason": "Evicted", "message": used}
    world.round()

    assert (world.state, world.message) == ("FAILED", used)


def test_a_stream_runs_again_when_it_ends() -> None:
    world = World(restartPolicy={"type": "Always"})
    world.round()
    world.becomes("Succeeded")
    world.round()
    world.round()

    assert (world.state, world.pods()) == ("SUBMITTED", ["pi-driver-2"])


def test_suspending_stops_the_program_and_resuming_starts_it_afresh() -> None:
    world = World()
    world.round()
    world.becomes("Running")
    world.executor_comes()
    world.manifest["spec"]["suspend"] = True
    world.round()
    assert (world.state, world.pods()) == ("SUSPENDED", [])
    world.manifest["spec"]["suspend"] = False
    world.round()

    assert (world.state, world.pods()) == ("SUBMITTED", ["pi-driver-2"])


def test_a_program_that_runs_too_long_is_stopped() -> None:
    world = World(maxRuntimeSeconds=100)
    world.round()
    world.becomes("Running")
    outcome = world.round(later=40)
    assert outcome.requeue_after == 60
    world.round(later=61)

    assert world.state == "FAILED"
    assert "spec.maxRuntimeSeconds (100 s)" in world.message


def test_a_finished_application_is_deleted_when_its_time_to_live_is_over() -> None:
    world = World(timeToLiveSeconds=60)
    world.round()
    world.becomes("Succeeded")
    outcome = world.round()
    assert (world.gone, outcome.requeue_after) == (False, 60)
    world.round(later=61)

    assert world.gone


def test_a_crash_after_any_round_changes_nothing_because_nothing_is_remembered_elsewhere() -> None:
    world = World()
    world.round()
    status = copy.deepcopy(world.manifest["status"])
    again = World()
    again.manifest["status"], again.children = status, copy.deepcopy(world.children)
    again.seconds = world.seconds
    again.round(later=0)

    noted = ("executionAttempts", "failedAttempts", "lastSubmissionAttemptTime")
    assert [again.manifest["status"][name] for name in noted] == [status[name] for name in noted]
    assert again.pods() == ["pi-driver-1"]


def test_without_a_guarantee_for_what_it_requests_the_condition_says_what_to_change() -> None:
    world = World(preemptible=False, executor={"instances": 1, "gpu": {"quantity": 1}})
    outcome = world.round()

    said = find(outcome.conditions, "GuaranteeIncomplete")
    assert said is not None
    assert (said.status, "nvidia.com/gpu" in said.message) == ("True", True)
    assert world.driver()["metadata"]["labels"]["allotment.dev/preemptible"] == "true"


class TestADriverIsLetOut:
    """To the API server, which makes its executors."""

    @staticmethod
    def egress(*places: tuple[str, int]) -> list[dict[str, Any]]:
        kind = SparkApplicationKind(api_server=lambda: places)
        outcome = kind.plan(SparkApplication.parse(World().manifest), Observed(tenant=TENANT), now=START)
        [policy] = [
            action.manifest
            for action in outcome.actions
            if isinstance(action, Apply)
            and action.ref.kind == "NetworkPolicy"
            and "driver" in action.manifest["spec"]["podSelector"]["matchLabels"].values()
        ]
        found: list[dict[str, Any]] = policy["spec"]["egress"]
        return found

    def test_where_the_cluster_publishes_that_it_is(self) -> None:
        assert self.egress(("10.96.0.1", 443), ("192.0.2.7", 6443), ("2001:db8::7", 6443)) == [
            {"ports": [{"protocol": "TCP", "port": 443}], "to": [{"ipBlock": {"cidr": "10.96.0.1/32"}}]},
            {
                "ports": [{"protocol": "TCP", "port": 6443}],
                "to": [{"ipBlock": {"cidr": "192.0.2.7/32"}}, {"ipBlock": {"cidr": "2001:db8::7/128"}}],
            },
        ]

    def test_on_the_usual_ports_where_nothing_is_published(self) -> None:
        [rule] = self.egress()

        assert [port["port"] for port in rule["ports"]] == [443, 6443]
        assert all("except" in peer["ipBlock"] for peer in rule["to"])


class TestFailuresOfAProgramThatIsAlwaysBegunAgain:
    def fails_again(self, world: World, *, after: float) -> None:
        """Begin the next attempt, and let it fail after so many seconds of running."""
        while world.state != "SUBMITTED":
            world.round(later=60)
        began = world.now
        world.becomes("Running")
        world.driver()["status"]["containerStatuses"] = [{"state": {"running": {"startedAt": began.isoformat()}}}]
        world.round(later=after)
        ended = {"exitCode": 1, "startedAt": began.isoformat(), "finishedAt": world.now.isoformat()}
        world.becomes("Failed")
        world.driver()["status"]["containerStatuses"] = [{"state": {"terminated": ended}}]
        world.round()

    def test_count_while_none_of_its_attempts_lasts(self) -> None:
        world = World(restartPolicy={"type": "Always", "onFailureRetryInterval": 10})
        world.round()

        for _ in range(4):
            self.fails_again(world, after=30)

        assert world.manifest["status"]["failedAttempts"] == 4
        assert "the next begins after 80 s" in world.message

    def test_are_forgotten_once_an_attempt_has_run_for_long(self) -> None:
        world = World(restartPolicy={"type": "Always", "onFailureRetryInterval": 10})
        world.round()
        for _ in range(4):
            self.fails_again(world, after=30)

        self.fails_again(world, after=3600)

        assert world.manifest["status"]["failedAttempts"] == 1
        assert "the next begins after 10 s" in world.message

    def test_count_for_good_where_the_owner_named_a_number_of_retries(self) -> None:
        world = World(restartPolicy={"type": "OnFailure", "onFailureRetries": 2, "onFailureRetryInterval": 10})
        world.round()
        for _ in range(3):
            self.fails_again(world, after=3600)

        assert world.state == "FAILED"
        assert world.manifest["status"]["failedAttempts"] == 3
