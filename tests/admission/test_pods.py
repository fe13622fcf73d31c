"""What pods a tenant's developer may create, and what he reads when he may not."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from builders.api_server import Actor, ApiServer
from builders.helm_chart import tenant_policy
from builders.program_process import eventually
from builders.tenant_objects import IMAGE, expect, namespace_object, pod

Member = Callable[[str, str], Actor]

GPU = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}


def container(image: str) -> dict[str, str]:
    return {"name": "c" + str(abs(hash(image)) % 10**8), "image": image}


@pytest.mark.parametrize(
    ("want", "spec", "metadata"),
    [
        pytest.param("", {}, {}, id="an ordinary pod is admitted"),
        pytest.param("", {"schedulerName": "allotment"}, {}, id="our scheduler may be named"),
        pytest.param("", {"schedulerName": "default-scheduler"}, {}, id="the default scheduler is replaced"),
        pytest.param(
            "placed by the scheduler allotment: remove schedulerName, which is volcano",
            {"schedulerName": "volcano"},
            {},
            id="another scheduler is refused",
        ),
        pytest.param("(node-1) goes around the scheduler", {"nodeName": "node-1"}, {}, id="a chosen node is refused"),
        pytest.param("", {}, {"labels": {"allotment.dev/preemptible": "false"}}, id="preemptible false is understood"),
        pytest.param(
            'must be "true" or "false", not "no"',
            {},
            {"labels": {"allotment.dev/preemptible": "no"}},
            id="preemptible no is not",
        ),
        pytest.param("", {}, {"annotations": {"allotment.dev/max-runtime": "3600"}}, id="seconds are understood"),
        *(
            pytest.param(
                f'whole number of seconds, at least 1, such as "3600"; it is "{text}"',
                {},
                {"annotations": {"allotment.dev/max-runtime": text}},
                id=f"a runtime of {text or 'nothing'} is not",
            )
            for text in ("0", "-5", "1h", "3.5", "", "9999999999")
        ),
        pytest.param(
            "",
            {},
            {"annotations": {"allotment.dev/checkpointed-at": "2026-03-01T12:00:00.5+01:00"}},
            id="a checkpoint's time is understood",
        ),
        pytest.param(
            'must be a time such as "2026-01-31T12:00:00Z"; it is "yesterday"',
            {},
            {"annotations": {"allotment.dev/checkpointed-at": "yesterday"}},
            id="yesterday is no time",
        ),
        pytest.param(
            "must name a PodGroup", {}, {"labels": {"allotment.dev/pod-group": ""}}, id="an empty PodGroup is refused"
        ),
        pytest.param(
            "may use priorities up to 1000000000: the class system-cluster-critical is 2000000000",
            {"priorityClassName": "system-cluster-critical"},
            {},
            id="Kubernetes' own priorities are refused even without a ceiling",
        ),
    ],
)
def test_a_tenant_without_bounds(
    want: str, spec: dict[str, Any], metadata: dict[str, Any], unbounded: str, member: Member
) -> None:
    answer = member(unbounded, "developer").create(pod(unbounded, spec=spec, **metadata), dry_run=True)

    assert want in answer.message
    assert answer.accepted == (not want)


@pytest.mark.parametrize(
    ("want", "spec", "metadata"),
    [
        pytest.param("", {}, {}, id="an image below an allowed prefix is admitted"),
        pytest.param(
            "", {"containers": [container("mirror.bank/library/nginx")]}, {}, id="a prefix may end with a slash"
        ),
        pytest.param("", {"containers": [container("registry.bank/retail:2")]}, {}, id="a prefix may be a whole image"),
        pytest.param(
            "",
            {"containers": [container("registry.bank/retail@sha256:" + "0" * 64)]},
            {},
            id="a prefix may be a whole image, by digest",
        ),
        pytest.param(
            "may not pull nginx: use an image whose name begins with registry.bank/retail or mirror.bank/",
            {"containers": [container("nginx")]},
            {},
            id="a short name is refused",
        ),
        pytest.param(
            "may not pull registry.bank/retail-evil/app",
            {"containers": [container("registry.bank/retail-evil/app")]},
            {},
            id="a prefix ends at a border of the name",
        ),
        pytest.param(
            "may not pull mirror.bank.evil/app",
            {"containers": [container("mirror.bank.evil/app")]},
            {},
            id="a longer host is another host",
        ),
        pytest.param(
            "may not pull mirror.bank:5000/app",
            {"containers": [container("mirror.bank:5000/app")]},
            {},
            id="another port is another registry",
        ),
        pytest.param(
            "may not pull evil/a, evil/b",
            {"initContainers": [container("evil/b")], "containers": [container("evil/a")]},
            {},
            id="every container counts",
        ),
        pytest.param(
            "may not pull evil/model",
            {"volumes": [{"name": "model", "image": {"reference": "evil/model"}}]},
            {},
            id="a volume from an image counts",
        ),
        pytest.param("", {"priorityClassName": "allotment-high"}, {}, id="a priority at the ceiling is admitted"),
        pytest.param(
            "may use priorities up to 1000: the class allotment-service is 10000",
            {"priorityClassName": "allotment-service"},
            {},
            id="a priority above the ceiling is refused",
        ),
        pytest.param("", {"tolerations": [GPU]}, {}, id="the tenant's own tolerations are admitted"),
        pytest.param(
            "",
            {"tolerations": [{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute", "operator": "Exists"}]},
            {},
            id="patience with a lost node is admitted",
        ),
        pytest.param(
            "may not tolerate dedicated: remove the toleration, or use one of nvidia.com/gpu",
            {"tolerations": [{"key": "dedicated", "operator": "Exists"}]},
            {},
            id="a foreign toleration is refused",
        ),
        pytest.param(
            "may not tolerate (every taint)",
            {"tolerations": [{"operator": "Exists"}]},
            {},
            id="tolerating all is refused",
        ),
        pytest.param(
            "may not tolerate node.kubernetes.io/not-ready",
            {"tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists"}]},
            {},
            id="starting on a lost node is refused",
        ),
        pytest.param(
            "may not tolerate node.kubernetes.io/unschedulable",
            {"tolerations": [{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]},
            {},
            id="starting on a cordoned node is refused",
        ),
        pytest.param("", {}, {"annotations": {"allotment.dev/max-runtime": "3600"}}, id="the longest run is admitted"),
        pytest.param(
            "at most 3600 seconds: lower the annotation allotment.dev/max-runtime, which is 3601",
            {},
            {"annotations": {"allotment.dev/max-runtime": "3601"}},
            id="a longer one is refused",
        ),
        pytest.param(
            "at most 3600 seconds: lower activeDeadlineSeconds, which is 7200",
            {"activeDeadlineSeconds": 7200},
            {},
            id="a later deadline is refused",
        ),
        pytest.param("", {"terminationGracePeriodSeconds": 3600}, {}, id="an hour to end is admitted"),
        pytest.param(
            "at most 3600 seconds to end: lower terminationGracePeriodSeconds, which is 3601",
            {"terminationGracePeriodSeconds": 3601},
            {},
            id="more is refused",
        ),
    ],
)
def test_a_tenant_with_bounds(
    want: str, spec: dict[str, Any], metadata: dict[str, Any], strict: str, member: Member
) -> None:
    answer = member(strict, "developer").create(pod(strict, spec=spec, **metadata), dry_run=True)

    assert want in answer.message
    assert answer.accepted == (not want)


def test_the_scheduler_is_set_on_the_stored_pod(unbounded: str, member: Member) -> None:
    answer = member(unbounded, "ci").create(pod(unbounded), dry_run=True)

    assert answer.body["spec"]["schedulerName"] == "allotment"


def test_pods_outside_tenants_namespaces_are_left_alone(elsewhere: str, admin: Actor) -> None:
    free = {"schedulerName": "volcano", "nodeName": "node-1", "tolerations": [{"operator": "Exists"}]}

    answer = admin.create(pod(elsewhere, spec=free, labels={"allotment.dev/preemptible": "no"}), dry_run=True)

    assert answer.accepted, answer.message
    assert answer.body["spec"]["schedulerName"] == "volcano"


def test_the_daemon_set_controller_adds_its_tolerations(strict: str, api: ApiServer, admin: Actor) -> None:
    tolerations = [
        {"key": f"node.kubernetes.io/{key}", "operator": "Exists"} for key in ("unschedulable", "disk-pressure")
    ]
    controller = api.service_account("kube-system", "daemon-set-controller")

    by_controller = controller.create(pod(strict, spec={"tolerations": tolerations}), dry_run=True)
    by_admin = admin.create(pod(strict, spec={"tolerations": tolerations}), dry_run=True)

    assert by_controller.accepted, by_controller.message
    assert "may not tolerate node.kubernetes.io/unschedulable, node.kubernetes.io/disk-pressure" in by_admin.message


def test_a_namespace_without_its_tenant_policy_accepts_no_pod(admin: Actor, new_namespace: Callable[..., str]) -> None:
    namespace = new_namespace("pods-without-policy")
    policy = {
        "apiVersion": "allotment.dev/v1alpha1",
        "kind": "TenantPolicy",
        "metadata": {"name": "allotment", "namespace": namespace},
    }
    assert admin.delete(policy).accepted

    # The API server learns by a watch of its own that the policy's parameters are gone.
    answer = eventually(lambda: not (it := admin.create(pod(namespace), dry_run=True)).accepted and it)

    assert "allotment-tenant-pods" in answer.message


@pytest.fixture(scope="module")
def running(strict: str, member: Member) -> dict[str, Any]:
    manifest = pod(strict, "running", finalizers=["example.com/hold"])
    expect(member(strict, "developer"), manifest)
    return manifest


@pytest.mark.parametrize(
    ("want", "change"),
    [
        pytest.param("", {"metadata": {"labels": {"app": "x"}}}, id="an ordinary label may change"),
        pytest.param(
            "may not pull evil/app",
            {"image": "evil/app"},
            id="a foreign image cannot be slipped in",
        ),
        pytest.param(
            "may not tolerate (every taint)",
            {"tolerations": [{"operator": "Exists"}]},
            id="nor a toleration",
        ),
        pytest.param(
            "lower the annotation",
            {"metadata": {"annotations": {"allotment.dev/max-runtime": "9999"}}},
            id="nor a longer runtime",
        ),
        pytest.param(
            'must be "true" or "false"', {"metadata": {"labels": {"allotment.dev/preemptible": "x"}}}, id="nor nonsense"
        ),
    ],
)
def test_updates_of_a_pod_that_is_there(
    want: str, change: dict[str, Any], running: dict[str, Any], strict: str, member: Member
) -> None:
    there = member(strict, "developer").get(running).body["spec"]
    if "image" in change:
        change = {"spec": {"containers": [{**there["containers"][0], **change}]}}
    if "tolerations" in change:
        change = {"spec": {"tolerations": [*there["tolerations"], *change["tolerations"]]}}

    answer = member(strict, "developer").patch(running, change, dry_run=True)

    assert want in answer.message
    assert answer.accepted == (not want)


PREEMPTIBLE, GROUP = "allotment.dev/preemptible", "allotment.dev/pod-group"


@pytest.mark.parametrize(
    ("want", "created", "change"),
    [
        pytest.param("stays so", {}, {PREEMPTIBLE: "false"}, id="a pod that may be evicted stays so"),
        pytest.param("stays so", {PREEMPTIBLE: "true"}, {PREEMPTIBLE: "false"}, id="also where it says so"),
        pytest.param("", {PREEMPTIBLE: "false"}, {PREEMPTIBLE: "true"}, id="one that may not can give way"),
        pytest.param("", {PREEMPTIBLE: "false"}, {PREEMPTIBLE: None}, id="also without a word"),
        pytest.param("", {PREEMPTIBLE: "false"}, {"app": "x"}, id="one that may not stays so"),
        pytest.param("cannot change", {}, {GROUP: "train"}, id="a pod joins no gang later"),
        pytest.param("cannot change", {GROUP: "train"}, {GROUP: "test"}, id="nor another one"),
        pytest.param("cannot change", {GROUP: "train"}, {GROUP: None}, id="nor leaves its own"),
        pytest.param("", {GROUP: "train"}, {"app": "x"}, id="a gang's pod can be labelled otherwise"),
    ],
)
def test_what_a_pod_claims_holds_from_its_start(
    *, want: str, created: dict[str, str], change: dict[str, str], unbounded: str, member: Member, unique: str
) -> None:
    manifest, ci = pod(unbounded, unique, labels=created), member(unbounded, "ci")
    expect(ci, manifest)

    answer = ci.patch(manifest, {"metadata": {"labels": change}}, dry_run=True)

    assert want in answer.message
    assert answer.accepted == (not want)


@pytest.fixture(scope="module")
def bound(strict: str, member: Member, admin: Actor, scheduler: Actor) -> Iterator[dict[str, Any]]:
    """A pod on a node: only there a deletion leaves it time."""
    manifest, name = pod(strict, "bound"), f"{strict}-node"
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}
    target = {"apiVersion": "v1", "kind": "Node", "name": name}
    expect(admin, node)
    expect(member(strict, "developer"), manifest)
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "bound"}, "target": target}
    answer = scheduler.request("POST", f"/api/v1/namespaces/{strict}/pods/bound/binding", binding)
    assert answer.accepted, answer.message
    yield manifest
    admin.delete(node)


@pytest.mark.parametrize(("want", "seconds"), [("", 3600), ("at most 3600 seconds to end: lower", 3601)])
@pytest.mark.parametrize("how", ["delete", "delete all", "evict"])
def test_no_pod_outlives_its_end_by_how_it_is_deleted(
    *, how: str, want: str, seconds: int, bound: dict[str, Any], strict: str, member: Member
) -> None:
    pods, options = f"/api/v1/namespaces/{strict}/pods", {"gracePeriodSeconds": seconds, "dryRun": ["All"]}
    one = f"{pods}/{bound['metadata']['name']}"
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": bound["metadata"]}
    developer = member(strict, "developer")

    answer = {
        "delete": lambda: developer.request("DELETE", one, options),
        "delete all": lambda: developer.request("DELETE", pods, options),
        "evict": lambda: developer.request("POST", f"{one}/eviction", {**eviction, "deleteOptions": options}),
    }[how]()

    assert want in answer.message
    assert answer.accepted == (not want)


def test_a_debug_container_cannot_bring_a_foreign_image(running: dict[str, Any], strict: str, member: Member) -> None:
    def debug(image: str) -> dict[str, Any]:
        return {"spec": {"ephemeralContainers": [{"name": "debug", "image": image, "targetContainerName": "main"}]}}

    developer = member(strict, "developer")
    foreign = developer.patch(running, debug("evil/debug"), subresource="ephemeralcontainers", dry_run=True)
    own = developer.patch(running, debug(IMAGE), subresource="ephemeralcontainers", dry_run=True)

    assert "may not pull evil/debug" in foreign.message
    assert own.accepted, own.message


def test_pods_that_were_there_before_the_tenant_go_on(admin: Actor, elsewhere: str) -> None:
    manifest = pod(elsewhere, "elder")
    expect(admin, manifest)
    assert admin.patch(
        namespace_object(elsewhere), {"metadata": {"labels": {"allotment.dev/tenant": "retail"}}}
    ).accepted
    expect(admin, tenant_policy(elsewhere))
    try:
        # The API server learns by a watch of its own that the namespace is a tenant's.
        strange = pod(elsewhere, spec={"schedulerName": "volcano"})
        eventually(lambda: not admin.create(strange, dry_run=True).accepted)

        changed = admin.patch(manifest, {"metadata": {"labels": {"statefulset.kubernetes.io/pod-name": "elder"}}})

        assert changed.accepted, changed.message
        assert changed.body["spec"]["schedulerName"] == "default-scheduler"
    finally:
        freed = {"metadata": {"labels": {"allotment.dev/tenant": None}}}
        assert admin.patch(namespace_object(elsewhere), freed).accepted


def test_a_stricter_policy_does_not_hold_up_its_end(
    admin: Actor, new_namespace: Callable[..., str], member: Member
) -> None:
    namespace = new_namespace("pods-tightened")
    manifest = pod(namespace, "old", finalizers=["example.com/hold"])
    expect(member(namespace, "developer"), manifest)
    policy = {
        "apiVersion": "allotment.dev/v1alpha1",
        "kind": "TenantPolicy",
        "metadata": {"name": "allotment", "namespace": namespace},
    }
    assert admin.patch(policy, {"spec": {"allowedRegistries": ["nowhere.bank/"]}}).accepted
    eventually(lambda: "may not pull" in admin.create(pod(namespace), dry_run=True).message)

    released = member(namespace, "developer").patch(manifest, {"metadata": {"finalizers": []}})

    assert released.accepted, released.message
