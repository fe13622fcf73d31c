"""Whatever a file holds, it loads, or it is refused by file, document and field; and what kubectl accepts, loads."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from allotment_scheduler.core.cycle import Engine
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.core.report import tenants_report
from allotment_scheduler.core.state.cluster import ClusterState
from allotment_scheduler.manifests import ManifestError, Manifests

GROUND: list[dict[str, Any]] = [
    {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "labels": {"zone": "z"}},
     "spec": {"taints": [{"key": "k", "effect": "PreferNoSchedule"}]}, "status": {"allocatable": {"cpu": "4"}}},
    {"apiVersion": "allotment.dev/v1alpha1", "kind": "Tenant", "metadata": {"name": "a"},
     "spec": {"namespaces": ["a"], "weight": 2, "limits": {"cpu": 3}, "pools": {"default": {"limits": {"cpu": "2"}}}}},
    {"apiVersion": "allotment.dev/v1alpha1", "kind": "PodGroup", "metadata": {"name": "g", "namespace": "a"},
     "spec": {"minMember": 2}},
    {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b", "namespace": "a"},
     "spec": {"minAvailable": "50%", "selector": {"matchLabels": {"x": "y"}}}},
    {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "high"}, "value": 5},
    {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "a", "labels": {"x": "y"},
     "creationTimestamp": "2026-01-01T00:00:00Z", "annotations": {"allotment.dev/max-runtime": "60"}},
     "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "500m"}}}], "priorityClassName": "high",
              "tolerations": [{"operator": "Exists"}],
              "topologySpreadConstraints": [{"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule",
                                             "labelSelector": {"matchLabels": {"x": "y"}}}]}},
    {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j", "namespace": "a"},
     "spec": {"parallelism": 2, "completions": 2, "template": {"spec": {"containers": [{"name": "c"}]}}}},
    {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "s", "namespace": "a"},
     "spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "c"}]}}, "volumeClaimTemplates": [
         {"metadata": {"name": "data"}, "spec": {"resources": {"requests": {"storage": "1Gi"}}}}]}},
]  # fmt: skip
"""One object of every sort that is read in a way of its own."""

JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**25), 10**25), st.floats(), st.text(max_size=8), st.just([]),
    st.just({}), st.just([{}]), st.just({"a": {}}),
    st.sampled_from(["2026-13-45", "-1", "1e99", "9Ei", "100%", "\x00", "2026-01-01"]),
)  # fmt: skip


def paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in an object."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here, *(path for key, each in inner for path in paths(each, (*here, key)))]


@st.composite
def spoilt(draw: Callable[..., Any]) -> list[Any]:
    """The ground with some of its values replaced, removed or moved."""
    objects: list[Any] = copy.deepcopy(GROUND)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(paths(objects)[1:]))
        holder: Any = objects
        for key in path[:-1]:
            holder = holder[key]
        if draw(st.booleans()):
            holder[path[-1]] = copy.deepcopy(draw(JUNK))  # what is drawn is shared by all examples
        elif isinstance(holder, dict):
            del holder[path[-1]]
        else:
            holder.append(copy.deepcopy(holder[path[-1]]))
    return objects


def read(path: Path, content: str | bytes) -> list[ev.Event]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    return Manifests.read([path]).events()


def loads_or_is_refused(path: Path, content: str | bytes) -> None:
    refusal, events = "", []
    try:
        events = read(path, content)
    except ManifestError as error:
        refusal = str(error)
    if refusal:
        assert refusal.split(": ")[0].startswith(str(path))
        assert len(refusal) < 2100
        return
    state = ClusterState()
    state.apply_all(events)
    tenants_report(Engine(state))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(objects=spoilt())
def test_any_object_loads_or_is_refused(tmp_path: Path, objects: list[Any]) -> None:
    loads_or_is_refused(tmp_path / "f.json", json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_text_loads_or_is_refused(tmp_path: Path, data: st.DataObject) -> None:
    text = yaml.safe_dump_all(GROUND)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        gap = data.draw(st.integers(0, 12))
        put = data.draw(
            st.sampled_from(["", "\t", "*a", "&a ", "<<: ", "!!int ", "? ", "{", "]", "- ", "\n", "'", "|", "%"])
        )
        text = text[:at] + put + text[at + gap :]
    loads_or_is_refused(tmp_path / "f.yaml", text)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60))
def test_any_bytes_load_or_are_refused(tmp_path: Path, content: bytes) -> None:
    loads_or_is_refused(tmp_path / "f.yaml", content)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000, "{a: " * 100_000, '{"kind":' * 100_000, "- " * 20_000 + "x",
        '{"kind": "Pod", "metadata": {"name": "p"}, "spec": ' + "[" * 900 + "]" * 900 + "}",
        "&a {kind: List, items: [*a]}", "kind: Pod\nmetadata: &m {name: p, labels: *m}",
        "kind: Tenant\nmetadata: {name: a}\nspec: &s {pools: *s}",
        "a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{y}: &{y} [{', '.join(['*' + x] * 9)}]\n" for x, y in zip("abcdefgh", "bcdefghi", strict=True))
        + "kind: Pod\nmetadata: {name: p}\nspec: {containers: *i}",
        "kind: Deployment\nmetadata: {name: d}\nspec: {replicas: 2000000000, template: {spec: {}}}",
    ],
    ids=["flow", "maps", "json", "block", "deep", "lists", "labels", "tenant", "laughs", "replicas"],
)  # fmt: skip
def test_depth_and_size_are_bounded(tmp_path: Path, text: str) -> None:
    loads_or_is_refused(tmp_path / "f.yaml", text)


POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: a}\nspec: "
ONE = "{containers: [{name: c}]}"


@pytest.mark.parametrize(
    "spec",
    [
        "{containers: [{name: c, resources: {requests: {cpu: 1, memory: 1e3}}}]}",
        "{containers: [{name: c, resources: {requests: {cpu: 0.5}, limits: null}}], tolerations: null, volumes: null}",
        "{containers: [{name: c, resources: null, ports: null}], affinity: {nodeAffinity: null}, nodeSelector: null}",
        "{containers: [{name: c}]}\nstatus: {phase: Running, startTime: 2026-01-01T00:00:00Z}",
        "{priorityClassName: system-node-critical, containers: [{name: c}]}\nstatus: null",
    ],
)
def test_what_kubectl_accepts_is_accepted(tmp_path: Path, spec: str) -> None:
    (event,) = read(tmp_path / "f.yaml", POD + spec)
    assert isinstance(event, ev.PodSeen)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (POD + "{containers: [{name: c, resources: {requests: {cpu: 1x}}}]}",
         "Pod p: spec.containers[0].resources.requests.cpu: '1x' has no known suffix"),
        (POD + "{containers: [{name: c, resources: {requests: {cpu: true}}}]}", "requests.cpu: true is no quantity"),
        (POD + "{tolerations: [{operator: Maybe}]}", "spec.tolerations[0].operator: 'Maybe' is not one of"),
        (POD + "{priority: 99999999999}", "spec.priority: 99999999999 does not fit into 32 bits"),
        (POD + ONE + "\nstatus: {startTime: yesterday}", "status.startTime: 'yesterday' is no time"),
        (POD + ONE + "\n---\n" + POD + "{priority: 1}", "Pod p: stands in FILE, document 1 already"),
        ("kind: Pod\nspec: {}", "Pod: metadata.name: is required"),
        ("kind: List\nitems: x", "List: items: must be a list"),
        ("kind: Pod\nkind: Pod", "the key 'kind' stands there twice"),
        ("kind: Tenant\nmetadata: {name: a}\nspec: {wait: 1}", "Tenant a: spec.wait: is no field of this kind"),
        ("kind: Job\nmetadata: {name: j}\nspec: {parallelism: 1, template: {spec: {priority: x}}}",
         "Job j: spec.template.spec.priority: 'x' is not a whole number"),
        ("kind: Job\nmetadata: {name: j}", "Job j: spec.template.spec: is required"),
        ("kind: StatefulSet\nmetadata: {name: s}\nspec: {template: {spec: {volumes: 5}}}",
         "StatefulSet s: spec.template.spec.volumes: 5 is not a list"),
        ("kind: PodDisruptionBudget\nmetadata: {name: b}\nspec: {minAvailable: abc%}", "spec.minAvailable: 'abc%' is"),
    ],
)  # fmt: skip
def test_faults_name_file_document_and_field_once(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "f.yaml"
    with pytest.raises(ManifestError) as caught:
        read(path, text)

    told = str(caught.value)
    assert said.replace("FILE", str(path)) in told
    assert told.replace(f"stands in {path}", "").count(str(path)) == 1


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(ManifestError, match=f"{tmp_path}: cannot be read: Permission denied"):
        Manifests.read([tmp_path])


def test_a_device_whose_version_is_no_text_is_read_without_it(tmp_path: Path) -> None:
    device = "{name: d, attributes: {driverVersion: {version: 1}}}"
    about = "{driver: d.example.com, nodeName: n, pool: {name: n, generation: 1, resourceSliceCount: 1}"
    kind = "apiVersion: resource.k8s.io/v1\nkind: ResourceSlice\nmetadata: {name: s}"
    found = read(tmp_path / "f.yaml", f"{kind}\nspec: {about}, devices: [{device}]}}")
    assert len(found) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (POD.replace("name: p,", "name: p, annotations: {allotment.dev/max-runtime: forever},") + ONE, "forever"),
        (POD.replace("name: p,", 'name: p, labels: {allotment.dev/preemptible: "no"},') + ONE, "is taken for"),
        (POD + "{nodeName: ghost}", "there is no Node ghost"),
        (
            POD + "{containers: [{name: c, resources: {request: {cpu: 1}}}]}",
            "spec.containers[0].resources.request: is not read: is requests meant?",
        ),
        (
            "kind: Job\nmetadata: {name: j}\nspec: {template: {spec: {containers: [{name: c}], nodeSelecter: {a: b}}}}",
            "Job j: spec.template.spec.nodeSelecter: is not read: is nodeSelector meant?",
        ),
        (
            "kind: Job\nmetadata: {name: j}\nspec: {paralelism: 3, template: {spec: {containers: [{name: c}]}}}",
            "Job j: spec.paralelism: is not read: is parallelism meant?",
        ),
        ("kind: Tenant\nmetadata: {name: a}\nspec: {pools: {x: {limits: {cpu: 1}}}}", "no NodePool of that name"),
        ("apiVersion: allotment.dev/v1alpha1\nkind: KafkaCluster\nmetadata: {name: k}", "the operator makes its pods"),
    ],
)
def test_probable_mistakes_are_warned_of(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "f.yaml").write_text(text)
    manifests = Manifests.read([tmp_path / "f.yaml"])
    manifests.events()

    assert [said in warning for warning in manifests.warnings] == [True]


def test_kinds_are_told_by_their_group(tmp_path: Path) -> None:
    groups = ("scheduling.volcano.sh/v1beta1", "serving.knative.dev/v1")
    text = "\n---\n".join(
        f"apiVersion: {group}\nkind: {kind}\nmetadata: {{name: x}}\nspec: {{replicas: many}}"
        for group, kind in zip(groups, ("PodGroup", "Job"), strict=True)
    )
    (tmp_path / "f.yaml").write_text(text)
    manifests = Manifests.read([tmp_path / "f.yaml"])

    assert manifests.events() == []
    assert manifests.ignored == {"PodGroup of scheduling.volcano.sh": 1, "Job of serving.knative.dev": 1}


def pods(path: Path, *objects: dict[str, Any]) -> dict[str, ev.PodSeen]:
    events = read(path, json.dumps({"apiVersion": "v1", "kind": "List", "items": [*GROUND[:2], *objects]}))
    return {event.spec.name: event for event in events if isinstance(event, ev.PodSeen)}


def workload(kind: str, version: str = "apps/v1", **spec: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "w"}}, "spec": {"containers": [{"name": "c"}], "restartPolicy": "Never"}}
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "w", "namespace": "a"},
            "spec": {"selector": {"matchLabels": {"app": "w"}}, "template": template, **spec}}  # fmt: skip


def made(name: str, kind: str, owner: str, phase: str = "Running") -> dict[str, Any]:
    owners = [{"apiVersion": "v1", "kind": kind, "name": owner, "uid": "u", "controller": True}]
    metadata = {"name": name, "namespace": "a", "labels": {"app": "w"}, "ownerReferences": owners}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata,
            "spec": {"containers": [{"name": "c"}]}, "status": {"phase": phase}}  # fmt: skip


@pytest.mark.parametrize(
    ("objects", "want"),
    [
        ([workload("Job", "batch/v1", parallelism=3, completions=5)], {"w-0", "w-1", "w-2"}),
        ([{**workload("Job", "batch/v1", parallelism=3, completions=3), "status": {"failedIndexes": "0-1"}}], {"w-0"}),
        ([workload("Job", "batch/v1", parallelism=3, suspend=True)], set()),
        ([workload("Job", "batch/v1", parallelism=3, completions=3), made("w-x", "Job", "w"),
          made("w-y", "Job", "w", "Succeeded")], {"w-x", "w-0"}),
        ([workload("Deployment", replicas=2), made("w-5f-x", "ReplicaSet", "w-5f")], {"w-5f-x", "w-0"}),
        ([workload("ReplicaSet")], {"w-0"}),
        ([workload("StatefulSet", replicas=2), made("w-0", "StatefulSet", "w")], {"w-0", "w-1"}),
        ([workload("ReplicationController", "v1", replicas=2)], {"w-0", "w-1"}),
    ],
)  # fmt: skip
def test_templates_stand_for_the_pods_that_are_still_to_come(
    tmp_path: Path, objects: list[dict[str, Any]], want: set[str]
) -> None:
    found = pods(tmp_path / "f.json", *objects)

    assert found.keys() == want
    assert all(event.spec.ours and event.spec.recreated and not event.spec.fragile for event in found.values())


def test_a_stateful_set_brings_its_claims(tmp_path: Path) -> None:
    found = pods(tmp_path / "f.json", GROUND[-1])

    assert found["s-1"].spec.scheduling.claims == ("data-s-1",)


@pytest.mark.parametrize(
    ("namespace", "scheduler", "uid", "ours"),
    [
        ("a", None, "", True), ("a", "default-scheduler", "", True), ("a", "default-scheduler", "u", False),
        ("a", "volcano", "", False), ("other", None, "", False), ("other", "allotment", "", True),
    ],
)  # fmt: skip
def test_admission_names_the_scheduler_of_new_pods_in_tenants_namespaces(
    tmp_path: Path, namespace: str, scheduler: str | None, uid: str, ours: bool
) -> None:
    spec = {"containers": [{"name": "c"}], **({"schedulerName": scheduler} if scheduler else {})}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": namespace, "uid": uid},
        "spec": spec,
    }

    assert pods(tmp_path / "f.json", pod)["p"].spec.ours is ours
