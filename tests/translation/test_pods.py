"""What a pod means to the core."""

from typing import Any

import msgspec
import pytest

from allotment_api.quantities import QuantityError
from allotment_kube.pods import Pod
from allotment_scheduler.translation.pods import has_finished, pod_spec


def pod(*, metadata: dict[str, Any] | None = None, status: dict[str, Any] | None = None, **spec: Any) -> Pod:
    content = {
        "metadata": {"name": "p", "namespace": "a", "uid": "u", **(metadata or {})},
        "spec": {"schedulerName": "allotment", "containers": [container(cpu="1")], **spec},
        "status": status or {},
    }
    return msgspec.convert(content, Pod)


def container(*, restart: str = "", limits: dict[str, str] | None = None, **requests: str) -> dict[str, Any]:
    resources = {"requests": requests, "limits": limits or {}}
    return {"name": "c", "resources": resources, **({"restartPolicy": restart} if restart else {})}


@pytest.mark.parametrize(
    ("found", "want"),
    [
        (pod(containers=[container(cpu="1"), container(cpu="500m")]), 1500),
        (pod(initContainers=[container(cpu="3")]), 3000),
        (pod(initContainers=[container(cpu="1", restart="Always")]), 2000),
        (pod(overhead={"cpu": "100m"}), 1100),
        (pod(containers=[container(limits={"cpu": "2"})]), 2000),
        (pod(resources={"requests": {"cpu": "4"}}), 4000),
    ],
)
def test_requests_follow_kubernetes_arithmetic(found: Pod, want: int) -> None:
    assert dict(pod_spec(found).scheduling.requests)["cpu"] == want


def test_an_uncountable_request_is_refused() -> None:
    with pytest.raises(QuantityError):
        pod_spec(pod(containers=[container(memory="9Ei")]))


@pytest.mark.parametrize(
    ("phase", "finished"), [("Pending", False), ("Running", False), ("Succeeded", True), ("Failed", True)]
)
def test_finished_pods_hold_nothing(phase: str, finished: bool) -> None:
    assert has_finished(pod(status={"phase": phase})) is finished


RESTARTING = {"name": "c", "restartPolicyRules": [{"action": "Restart"}, {"action": "RestartAllContainers"}]}


@pytest.mark.parametrize(
    ("spec", "want"),
    [
        ({}, ()),
        ({"containers": [{"name": "c", "restartPolicyRules": [{"action": "Restart"}]}]}, ()),
        ({"containers": [RESTARTING]}, ("RestartAllContainersOnContainerExits",)),
        ({"initContainers": [RESTARTING]}, ("RestartAllContainersOnContainerExits",)),
        ({"hostNetwork": True, "hostUsers": False}, ("UserNamespacesHostNetworkSupport",)),
        ({"hostNetwork": True, "hostUsers": True}, ()),
    ],
)
def test_what_a_pod_needs_its_kubelet_to_be_able_to_do(spec: dict[str, Any], want: tuple[str, ...]) -> None:
    assert pod_spec(pod(**spec)).scheduling.features == want


def test_the_label_of_a_pod_group_comes_before_its_jobs_gang() -> None:
    labelled = pod(metadata={"labels": {"allotment.dev/pod-group": "g"}})
    assert pod_spec(labelled, gang="job/j").group == "g"
    assert pod_spec(pod(), gang="job/j").group == "job/j"


@pytest.mark.parametrize(
    ("annotation", "deadline", "want"),
    [("60", None, 60), (None, 30, 30), ("60", 30, 30), ("soon", None, None), ("-1", None, None), ("inf", None, None)],
)
def test_the_shorter_of_declared_runtime_and_deadline_counts(
    annotation: str | None, deadline: int | None, want: float | None
) -> None:
    annotations = {"allotment.dev/max-runtime": annotation} if annotation else {}
    found = pod(metadata={"annotations": annotations}, activeDeadlineSeconds=deadline)
    assert pod_spec(found).max_runtime == want


def test_equal_pods_share_one_scheduling_spec() -> None:
    one = pod(nodeSelector={"b": "2", "a": "1"}, tolerations=[{"key": "k", "operator": "Exists"}])
    two = pod(tolerations=[{"key": "k", "operator": "Exists"}], nodeSelector={"a": "1", "b": "2"})
    assert pod_spec(one).scheduling == pod_spec(two).scheduling
    assert hash(pod_spec(one).scheduling) == hash(pod_spec(two).scheduling)


ZONE_A = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
NEAR = {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "x"}}}


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"containers": [container(cpu="1"), container(memory="1Gi", limits={"cpu": "2"})]},
        {"containers": [container(cpu="1") | {"ports": [{"hostPort": 80}, {"hostPort": 2**70}]}]},
        {"containers": [container(cpu="1") | {"ports": [{"containerPort": 80}]}], "hostNetwork": True},
        {"hostNetwork": True, "hostUsers": False},
        {"initContainers": [container(cpu="3", restart="Always")], "overhead": {"cpu": "1"}},
        {"resources": {"requests": {"cpu": "4"}}},
        {"nodeSelector": {"zone": "a"}, "tolerations": [{"key": "k", "operator": "Exists"}]},
        {"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 3, "preference": ZONE_A}]}}},
        {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [NEAR]}}},
        {"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 3, "podAffinityTerm": NEAR}]}}},
        {"topologySpreadConstraints": [{"topologyKey": "zone", "maxSkew": 1, "labelSelector": {}}]},
        {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}, {"name": "own", "ephemeral": {}}]},
    ],
)  # fmt: skip
def test_a_template_is_translated_the_same_whether_or_not_it_is_remembered(spec: dict[str, Any]) -> None:
    long: dict[str, Any] = {"name": "c", "image": "x" * 10_000}  # too long to be remembered, and decides nothing
    first, again = (pod_spec(pod(**spec)).scheduling for _ in range(2))
    containers = [*spec.get("containers", [container(cpu="1")]), long]
    unremembered = pod_spec(pod(**{**spec, "containers": containers})).scheduling

    assert first is again
    assert first == unremembered


def test_pods_of_one_template_keep_what_is_their_own() -> None:
    ephemeral: dict[str, Any] = {"volumes": [{"name": "v", "ephemeral": {}}]}
    resized = {"containerStatuses": [{"name": "c", "resources": {"requests": {"cpu": "3"}}}]}

    one, other = (pod_spec(pod(metadata={"name": name, "uid": name}, **ephemeral)).scheduling for name in ("m", "n"))
    plain, larger = pod_spec(pod()).scheduling, pod_spec(pod(status=resized)).scheduling

    assert (one.claims, one.ephemeral) == (("m-v",), (("m-v", "m"),))
    assert (other.claims, other.ephemeral) == (("n-v",), (("n-v", "n"),))
    assert (dict(plain.requests)["cpu"], dict(larger.requests)["cpu"]) == (1000, 3000)
    assert pod_spec(pod()).scheduling is plain


def test_only_a_controlled_pod_is_recreated() -> None:
    owner = {"kind": "ReplicaSet", "name": "r", "uid": "r-uid", "controller": True}
    owned = pod_spec(pod(metadata={"ownerReferences": [owner]}))
    assert (owned.recreated, owned.owner, owned.owner_kind) == (True, "r-uid", "ReplicaSet")
    assert not pod_spec(pod()).recreated


def test_ports_of_the_host_network_are_host_ports() -> None:
    port = {"containerPort": 80}
    plain = pod(containers=[{"name": "c", "ports": [port]}])
    hosted = pod(containers=[{"name": "c", "ports": [port]}], hostNetwork=True)
    assert pod_spec(plain).scheduling.host_ports == ()
    assert pod_spec(hosted).scheduling.host_ports == (("0.0.0.0", "TCP", 80),)


def test_a_pod_names_its_group_by_our_label_or_by_its_scheduling_group() -> None:
    named = pod(schedulingGroup={"podGroupName": "g"})
    labelled = pod(metadata={"labels": {"allotment.dev/pod-group": "ours"}}, schedulingGroup={"podGroupName": "g"})
    assert pod_spec(named, gang="job/j").group == "scheduling.k8s.io/g"
    assert pod_spec(labelled).group == "ours"
    assert pod_spec(pod(schedulingGroup={}), gang="job/j").group == "job/j"


def terms(count: int, *values: str) -> list[dict[str, Any]]:
    operator = "NotIn" if values else "DoesNotExist"
    return [{"key": f"k{number}", "operator": operator, "values": list(values)} for number in range(count)]


def on_nodes(expressions: list[dict[str, Any]]) -> dict[str, Any]:
    required = {"nodeSelectorTerms": [{"matchExpressions": expressions}]}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}}


def apart_from(count: int, expressions: list[dict[str, Any]]) -> dict[str, Any]:
    term = {"topologyKey": "zone", "labelSelector": {"matchExpressions": expressions}}
    return {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term] * count}}}


def asking_for(resources: int) -> list[dict[str, Any]]:
    return [{"name": "c", "resources": {"requests": {f"x/r{number}": "1" for number in range(resources)}}}]


@pytest.mark.parametrize(
    ("spec", "want"),
    [
        ({"containers": asking_for(65)}, "65 different resources"),
        ({"containers": asking_for(64)}, ""),
        (on_nodes(terms(257)), "257 conditions"),
        (on_nodes(terms(256)), ""),
        (on_nodes(terms(1, *(f"n{it}" for it in range(4097)))), "4097 values"),
        (on_nodes(terms(1, *(f"n{it}" for it in range(4096)))), ""),
        ({"nodeSelector": {f"k{it}": "v" for it in range(300)}}, "conditions"),
        ({"tolerations": [{"key": f"k{it}", "operator": "Exists"} for it in range(300)]}, "300 conditions"),
        (apart_from(100, terms(2)), "300 conditions"),
        (apart_from(2, terms(2)), ""),
    ],
)
def test_a_waiting_pod_that_names_too_much_counts_for_nothing_and_says_why(spec: dict[str, Any], want: str) -> None:
    found = pod_spec(pod(**spec))

    assert want in found.invalid
    assert bool(found.invalid) is bool(want)
    assert (found.scheduling.requests == ()) is bool(want)


def test_a_bound_pod_costs_what_it_costs_whatever_it_names() -> None:
    found = pod_spec(pod(containers=asking_for(65), nodeName="n"))

    assert (found.invalid, len(found.scheduling.requests)) == ("", 65)
