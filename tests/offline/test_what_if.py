"""What a change is said to do is what admission, the controllers and the scheduler would make of it live."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from allotment_cli.main import app
from allotment_scheduler.core.objects.events import PodSeen
from allotment_scheduler.manifests import ManifestError, Manifests

Manifest = dict[str, Any]


def thing(kind: str, name: str, version: str = "v1", **fields: Any) -> Manifest:
    metadata = {"name": name, "namespace": "a", **fields.pop("metadata", {})}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **fields}


def node(name: str = "n", **allocatable: str) -> Manifest:
    return thing("Node", name, status={"allocatable": {"pods": "100", **(allocatable or {"cpu": "4"})}})


def containers(**requests: str) -> list[Manifest]:
    return [{"name": "c", "resources": {"requests": requests}}]


def workload(kind: str, version: str, **spec: Any) -> Manifest:
    pod = spec.pop("pod", {})
    return thing(kind, "w", version, spec={"template": {"spec": {"containers": containers(cpu="1"), **pod}}, **spec})


def owned(name: str, kind: str, owner: str = "w", **fields: Any) -> Manifest:
    owners = [{"apiVersion": "v1", "kind": kind, "name": owner, "uid": "u", "controller": True}]
    return thing("Pod", name, metadata={"uid": name, "ownerReferences": owners, **fields.pop("metadata", {})}, **fields)


TENANT = thing("Tenant", "a", "allotment.dev/v1alpha1", metadata={"namespace": None}, spec={"namespaces": ["a"]})


def ask(folder: Path, there: list[Manifest], *words: str, **change: list[Manifest]) -> tuple[int, Any, str]:
    """Ask `what-if`: exit code, answer, and what it says beside it."""
    command = ["what-if", "-o", "json", *words]
    for option, objects in {"file": [TENANT, *there], **change}.items():
        (folder / f"{option}.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
        command += [f"--{option}", str(folder / f"{option}.json")]
    done = CliRunner().invoke(app, command)
    return done.exit_code, json.loads(done.stdout) if done.stdout else None, done.stderr


def storage_class(name: str = "fast", *, default: bool = True, mode: str = "WaitForFirstConsumer") -> Manifest:
    annotations = {"storageclass.kubernetes.io/is-default-class": "true"} if default else {}
    return thing("StorageClass", name, "storage.k8s.io/v1", metadata={"annotations": annotations, "namespace": None},
                 provisioner="csi.example.com", volumeBindingMode=mode)  # fmt: skip


def claim_spec(**more: Any) -> Manifest:
    return {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, **more}


def volume(**spec: Any) -> Manifest:
    return thing("PersistentVolume", "v", metadata={"namespace": None},
                 spec={"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], **spec})  # fmt: skip


@pytest.mark.parametrize(
    ("there", "claim"),
    [
        ([storage_class()], claim_spec()),
        ([storage_class(mode="Immediate")], claim_spec()),
        ([storage_class("slow", default=False, mode="Immediate")], claim_spec(storageClassName="slow")),
        ([volume()], claim_spec(storageClassName="")),
        ([volume()], claim_spec(storageClassName="", volumeName="v")),
    ],
    ids=["default class", "default class that binds at once", "class that binds at once", "volume", "named volume"],
)
@pytest.mark.parametrize("ephemeral", [False, True])
def test_claims_are_bound_as_the_controllers_of_volumes_would(
    tmp_path: Path, there: list[Manifest], claim: Manifest, *, ephemeral: bool
) -> None:
    added = workload("StatefulSet", "apps/v1", volumeClaimTemplates=[{"metadata": {"name": "data"}, "spec": claim}])
    if ephemeral:
        data = {"name": "data", "ephemeral": {"volumeClaimTemplate": {"spec": claim}}}
        added = thing("Pod", "w-0", spec={"containers": containers(cpu="1"), "volumes": [data]})
    code, answer, _ = ask(tmp_path, [node(), *there], add=[added])

    assert (code, answer["starts"]) == (0, [{"namespace": "a", "pod": "w-0", "node": "n"}])


@pytest.mark.parametrize(
    ("there", "claim"), [([], claim_spec()), ([volume()], claim_spec(storageClassName="", volumeName="other"))]
)
def test_a_claim_that_nobody_would_bind_waits(tmp_path: Path, there: list[Manifest], claim: Manifest) -> None:
    added = workload("StatefulSet", "apps/v1", volumeClaimTemplates=[{"metadata": {"name": "data"}, "spec": claim}])

    assert ask(tmp_path, [node(), *there], add=[added])[0] == 2


@pytest.mark.parametrize("named", [{"volumeName": "v"}, {}], ids=["named", "found"])
@pytest.mark.parametrize("name", ["fast", ""])
def test_a_volume_goes_to_one_claim(tmp_path: Path, named: Manifest, name: str) -> None:
    of = {"storageClassName": name}
    fast = {**storage_class("fast"), "provisioner": "kubernetes.io/no-provisioner"}
    claim = {"metadata": {"name": "data"}, "spec": claim_spec(**of, **named)}
    added = workload("StatefulSet", "apps/v1", replicas=2, volumeClaimTemplates=[claim])
    code, answer, _ = ask(tmp_path, [node(), fast, volume(**of)], add=[added])

    assert (code, [each["pod"] for each in answer["starts"]]) == (2, ["w-0"])
    assert ("is another claim's" if named else "cannot bind claim data-w-1") in answer["waits"][0]["message"]


def test_the_youngest_of_several_default_classes_counts(tmp_path: Path) -> None:
    old, new = storage_class("old"), storage_class("new")
    old["metadata"]["creationTimestamp"], new["metadata"]["creationTimestamp"] = (
        "2025-01-01T00:00:00Z",
        "2026-01-01T00:00:00Z",
    )
    new["allowedTopologies"] = [{"matchLabelExpressions": [{"key": "zone", "values": ["nowhere"]}]}]
    added = workload("StatefulSet", "apps/v1", volumeClaimTemplates=[{"metadata": {"name": "d"}, "spec": claim_spec()}])

    assert ask(tmp_path, [node(), old, new], add=[added])[0] == 2


def test_containers_that_request_nothing_request_what_the_limit_range_says(tmp_path: Path) -> None:
    job = workload("Job", "batch/v1", parallelism=50, completions=50, pod={"containers": [{"name": "c"}]})
    _, answer, _ = ask(tmp_path, [node(cpu="4", memory="100Gi")], add=[job])
    _, small, _ = ask(tmp_path, [node(cpu="400", memory="1Gi")], add=[job])
    _, plain, _ = ask(tmp_path, [node(cpu="4")], add=[job])

    assert [len(each["starts"]) for each in (answer, small, plain)] == [40, 8, 40]


@pytest.mark.parametrize("option", ["add", "change"])
@pytest.mark.parametrize("content", ["", "# nothing\n", "{kind: List, apiVersion: v1, items: []}"])
def test_a_file_without_objects_is_no_yes(tmp_path: Path, option: str, content: str) -> None:
    (tmp_path / "nothing.yaml").write_text(content)
    code, _, stderr = ask(tmp_path, [node()], f"--{option}", str(tmp_path / "nothing.yaml"))

    assert code == 3
    assert "holds no object" in stderr


def test_a_folder_without_manifests_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="holds no file that ends in"):
        Manifests.read([tmp_path])


@pytest.mark.parametrize(
    "status",
    [{"conditions": [{"type": "Failed", "status": "True"}]}, {"succeeded": 2}],
    ids=["failed", "succeeded"],
)
def test_a_job_that_is_over_is_not_begun_anew_by_a_change(tmp_path: Path, status: Manifest) -> None:
    job = workload("Job", "batch/v1", parallelism=2, completions=2)
    code, answer, _ = ask(tmp_path, [node(), {**job, "status": status}], change=[job])

    assert (code, answer["starts"]) == (0, [])


def test_a_change_leaves_what_others_wrote_on_an_object(tmp_path: Path) -> None:
    tenant = {**TENANT, "spec": {}}
    there = thing("Namespace", "b", metadata={"namespace": None, "labels": {"allotment.dev/tenant": "a"}})
    edited = thing("Namespace", "b", metadata={"namespace": None, "labels": {"mine": "x"}})
    pod = owned("p", "Job", metadata={"namespace": "b"}, spec={"containers": containers(cpu="1")})
    larger = {**node(), "status": None, "spec": {"unschedulable": False}}
    code, answer, _ = ask(tmp_path, [tenant, node(), there, pod][1:], change=[edited, larger])

    assert (code, answer["waits"], answer["displaced"]) == (0, [], [])


@pytest.mark.parametrize(
    ("kind", "version", "more", "fewer"),
    [("StatefulSet", "apps/v1", {"replicas": 3}, {"replicas": 1}),
     ("Job", "batch/v1", {"parallelism": 2}, {"parallelism": 2, "suspend": True})],
)  # fmt: skip
def test_pods_that_a_change_makes_too_many_are_named(
    tmp_path: Path, kind: str, version: str, more: Manifest, fewer: Manifest
) -> None:
    pods = [owned(f"w-{number}", kind, spec={"nodeName": "n", "containers": containers(cpu="1")})
            for number in range(next(iter(more.values())))]  # fmt: skip
    _, _, stderr = ask(
        tmp_path, [node(), workload(kind, version, **more), *pods], change=[workload(kind, version, **fewer)]
    )

    assert "2 pods more than it asks for are there: they stay here" in stderr


LAUGHS = "x: &x0 [0, 0]\n" + "".join(f"y{n}: &x{n + 1} [*x{n}, *x{n}]\n" for n in range(40))
POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: "


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LAUGHS + POD + "{x: *x40}\n---\n" + LAUGHS + POD + "{x: *x40}\n", "aliases stand for more than"),
        ("t: &t [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]\n" + "s: &s [" + "*t, " * 1000 + "]\nr: [" + "*s, " * 1000 + "]\n" + POD,
         "aliases stand for more than"),
        ("x: &x0 {a: 1}\n" + "".join(f"y{n}: &x{n + 1} {{<<: [*x{n}, *x{n}]}}\n" for n in range(30)) + POD,
         "aliases stand for more than"),
        (POD + "&s {x: *s}\n---\n" + POD + "&s {x: *s}\n", "an alias stands for what it stands in"),
        ("x: &x0 [0]\n" + "".join(f"y{n}: &x{n + 1} [*x{n}]\n" for n in range(300)) + POD, "levels deep"),
    ],
    ids=["laughs", "lists", "merges", "endless", "deep"],
)  # fmt: skip
def test_a_small_file_may_not_stand_for_a_huge_object(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "f.yaml").write_text(text)
    with pytest.raises(ManifestError) as caught:
        Manifests.read([tmp_path / "f.yaml"])

    assert said in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'f.yaml'}: ")


def test_anchors_as_people_use_them_are_read(tmp_path: Path) -> None:
    text = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, labels: &l {a: b}}\nspec: {nodeSelector: {<<: *l, c: d}}"
    (tmp_path / "f.yaml").write_text(text)
    (document,) = Manifests.read([tmp_path / "f.yaml"]).documents

    assert document.spec["nodeSelector"] == {"a": "b", "c": "d"}


@pytest.mark.parametrize(
    "field",
    ['metadata: {name: "x\\e[2J"}\nkind: Pod', 'metadata: {name: x}\nkind: "Pod\\e"',
     'metadata: {name: x, namespace: "a\\n"}\nkind: Pod',
     'metadata: {name: x}\nkind: Pod\nspec: {nodeSelector: {"\\e[2J": [1]}}'],
)  # fmt: skip
def test_no_name_of_a_file_is_obeyed_by_the_terminal(tmp_path: Path, field: str) -> None:
    (tmp_path / "f.yaml").write_text(f"apiVersion: v1\n{field}")
    done = CliRunner().invoke(app, ["simulate", "-f", str(tmp_path / "f.yaml")])

    assert done.exit_code == 2
    assert done.stderr.removesuffix("\n").isprintable()


def test_no_value_of_a_file_is_obeyed_by_the_terminal(tmp_path: Path) -> None:
    pod = thing("Pod", "p", spec={"containers": containers(cpu="1"), "nodeSelector": {"\x1b[2J": "\x1b[2J"}})
    tenant = {**TENANT, "spec": {"namespaces": ["a"], "limits": {"cpu": "1"}}}
    (tmp_path / "f.json").write_text(json.dumps({"kind": "List", "items": [tenant, node(), pod]}))
    done = CliRunner().invoke(app, ["why", "p", "-f", str(tmp_path / "f.json")])

    assert done.exit_code == 1
    assert "\x1b" not in done.output


@pytest.mark.parametrize(
    ("spec", "said"),
    [({"replicas": -1}, "spec.replicas: -1 is no number of pods"),
     ({"status": {"failedIndexes": "a"}, "completions": 2}, "status.failedIndexes: 'a' is no list of indexes")],
)  # fmt: skip
def test_impossible_sizes_are_refused(tmp_path: Path, spec: Manifest, said: str) -> None:
    status = spec.pop("status", {})
    job = {**workload("Job" if status else "Deployment", "batch/v1" if status else "apps/v1", **spec), "status": status}
    code, _, stderr = ask(tmp_path, [node()], add=[job])

    assert code == 3
    assert said in stderr


@pytest.mark.parametrize(
    ("spec", "said"),
    [({"containers": []}, "spec.containers: is required"),
     ({"containers": [{"name": "c", "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1500m"}}}]},
      "spec.containers[0].resources.requests.cpu: 2 is more than the limit, which is 1500m"),
     ({"containers": containers(), "initContainers": containers(**{"nvidia.com/gpu": "500m"})},
      'spec.initContainers[0].resources.requests["nvidia.com/gpu"]: 500m is no whole number'),
     ({"containers": containers(cpu="1x")}, "spec.containers[0].resources.requests.cpu: '1x'")],
)  # fmt: skip
def test_containers_that_the_server_would_refuse_are_refused(tmp_path: Path, spec: Manifest, said: str) -> None:
    code, _, stderr = ask(tmp_path, [node()], add=[thing("Pod", "p", spec=spec)])
    job = thing("Job", "j", "batch/v1", spec={"template": {"spec": spec}})
    of_template = ask(tmp_path, [node()], add=[job])
    there = ask(tmp_path, [node(), thing("Pod", "q", metadata={"uid": "u"}, spec=spec)], "--drain", "n")

    assert (code, of_template[0]) == (3, 3)
    assert f"Pod p: {said}" in stderr
    assert f"Job j: spec.template.{said}" in of_template[2]
    assert (there[0] == 3) is ("1x" in said), "what exists has passed"


@pytest.mark.parametrize(
    ("metadata", "said"),
    [({"name": "Train_Job"}, "metadata.name: 'Train_Job' is no name"), ({"name": "x" * 300}, "metadata.name: "),
     ({"name": "x", "namespace": "a.b"}, "metadata.namespace: 'a.b' is no namespace")],
)  # fmt: skip
def test_names_that_the_server_would_refuse_are_refused(tmp_path: Path, metadata: Manifest, said: str) -> None:
    code, _, stderr = ask(tmp_path, [node()], add=[thing("Job", "x", "batch/v1", metadata=metadata)])

    assert code == 3
    assert said in stderr


def test_a_name_that_the_server_would_make_is_asked_for(tmp_path: Path) -> None:
    job = workload("Job", "batch/v1")
    job["metadata"] = {"generateName": "build-", "namespace": "a"}
    code, _, stderr = ask(tmp_path, [node()], add=[job])

    assert code == 3
    assert "metadata.name: the API server makes one of generateName: add it" in stderr


def test_a_pod_on_its_way_out_leaves_no_second_successor_at_a_drain(tmp_path: Path) -> None:
    leaving = owned("w-0", "ReplicaSet", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"},
                    spec={"nodeName": "n", "containers": containers(cpu="1")})  # fmt: skip
    code, answer, _ = ask(tmp_path, [node(), node("m"), leaving], "--drain", "n")

    assert (code, answer["displaced"]) == (0, [])


@pytest.mark.parametrize(("value", "fragile"), [("false", True), ("true", False)])
def test_a_job_that_opts_out_of_the_policy_for_disruptions_is_fragile(
    tmp_path: Path, value: str, *, fragile: bool
) -> None:
    job = workload("Job", "batch/v1", parallelism=1, completions=1, backoffLimit=0, pod={"restartPolicy": "Never"})
    job["metadata"]["annotations"] = {"allotment.dev/ignore-disruption": value}
    (tmp_path / "f.json").write_text(json.dumps(job))
    (pod,) = (it for it in Manifests.read([tmp_path / "f.json"]).events() if isinstance(it, PodSeen))

    assert pod.spec.fragile is fragile


BARE = thing("Pod", "bare", spec={"nodeName": "n", "schedulerName": "allotment", "containers": containers(cpu="4")})
GUARANTEED = [
    thing("Tenant", "b", "allotment.dev/v1alpha1", metadata={"namespace": None},
          spec={"namespaces": ["b"], "guaranteed": {"cpu": "4"}}),
    thing("Pod", "p", metadata={"namespace": "b", "labels": {"allotment.dev/preemptible": "false"}},
          spec={"nodeSelector": {"only": "n"}, "containers": containers(cpu="4")}),
]  # fmt: skip


def test_a_bare_pod_that_is_evicted_is_gone_for_good(tmp_path: Path) -> None:
    here = node()
    here["metadata"]["labels"] = {"only": "n"}
    tenant, pod = GUARANTEED
    code, answer, _ = ask(tmp_path, [tenant, here, node("m"), BARE], add=[pod])
    (tmp_path / "all.json").write_text(
        json.dumps({"kind": "List", "items": [TENANT, tenant, here, node("m"), BARE, pod]})
    )
    why = CliRunner().invoke(app, ["why", "bare", "-f", str(tmp_path / "all.json"), "-o", "json"])

    assert (code, answer["moves"], [each["reason"] for each in answer["displaced"]]) == (1, [], ["Gone"])
    assert (why.exit_code, json.loads(why.stdout)[0]["reason"]) == (1, "Gone")


def test_a_bare_pod_that_is_spared_by_a_change_does_not_start(tmp_path: Path) -> None:
    here = node()
    here["metadata"]["labels"] = {"only": "n"}
    tenant, pod = GUARANTEED
    suspended = {**tenant, "spec": {**tenant["spec"], "suspended": True}}
    code, answer, _ = ask(tmp_path, [tenant, here, BARE, pod], change=[suspended])

    assert "bare" not in {row["pod"] for rows in answer.values() for row in rows}
    assert code == 1


@pytest.mark.parametrize("name", ["done", "w"])
def test_a_pod_that_has_ended_is_told_as_such(tmp_path: Path, name: str) -> None:
    ended = owned("done", "Job", status={"phase": "Succeeded"}, spec={"nodeName": "n", "containers": containers()})
    (tmp_path / "f.json").write_text(json.dumps(ended))
    done = CliRunner().invoke(app, ["why", name, "-f", str(tmp_path / "f.json"), "-o", "json"])

    assert done.exit_code == 0
    assert json.loads(done.stdout) == [
        {"namespace": "a", "pod": "done", "reason": "Succeeded", "message": "on node n", "change": None}
    ]


def test_a_service_of_another_group_is_not_taken_for_one_that_starts_nothing(tmp_path: Path) -> None:
    code, _, stderr = ask(tmp_path, [node()], add=[thing("Service", "s", "serving.knative.dev/v1")])

    assert code == 3
    assert "is not known" in stderr


def test_a_claim_that_exists_and_is_not_bound_waits_for_its_controller(tmp_path: Path) -> None:
    claim = thing("PersistentVolumeClaim", "data", metadata={"uid": "u"}, spec=claim_spec(storageClassName="fast"))
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    pod = thing("Pod", "p", spec={"containers": containers(cpu="1"), "volumes": volumes})

    assert ask(tmp_path, [node(), storage_class(mode="Immediate"), claim], add=[pod])[0] == 2
    assert ask(tmp_path, [node(), storage_class(), claim], add=[pod])[0] == 0
