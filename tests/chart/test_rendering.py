"""The chart renders under every sensible setting, and says plainly what is wrong with a bad one."""

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

import pytest
import yaml
from pydantic.alias_generators import to_camel

from allotment_api import __version__
from allotment_cli.uninstall import CHART_KINDS, POLICY_KINDS
from allotment_kube.program.settings import Sources
from allotment_operator.settings import Settings as OperatorSettings
from allotment_scheduler.manifests.admission import BUILT_IN
from allotment_scheduler.shell.settings import FIXED, Settings
from builders.helm_chart import CHART, NAMESPACE, helm, named, of_kind, refusal, render

WORKLOADS = ("operator", "scheduler")
LONGEST_GRACE = "admission.maxTerminationGracePeriodSeconds"
COMMENTED_TOGETHER = {"tolerations", "affinity", "enabled", "maxUnavailable"}

SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "everything off": {
        "admission.enabled": False,
        "networkPolicy.enabled": False,
        "metrics.services": False,
        "scheduler.podDisruptionBudget.enabled": False,
        "scheduler.api.enabled": False,
        "criticalPodsQuota.enabled": False,
        "rbac.aggregateToBuiltinRoles": False,
        "priorityClasses": [],
        "priorityClassName": "",
        "crds.check": False,
    },
    "everything set": {
        "image.repository": "images.bank/platform/allotment",
        "image.digest": "sha256:" + "a" * 64,
        "image.pullSecrets": ["registry"],
        "commonLabels": {"cost-centre": "4711"},
        "operator.nodeSelector": {"kubernetes.io/os": "linux"},
        "operator.tolerations": [{"key": "control-plane", "operator": "Exists"}],
        "operator.affinity": {"nodeAffinity": {}},
        "operator.extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy.bank:3128"}],
        "operator.podAnnotations": {"team": "platform"},
        "scheduler.replicas": 3,
        "scheduler.config": {"minimumRuntimeSeconds": 300},
        "scheduler.affinity": {"nodeAffinity": {}},
        "scheduler.podDisruptionBudget.maxUnavailable": "50%",
        "scheduler.api.certificateSecret": "scheduler-api-tls",
        "metrics.dashboard": True,
        "metrics.rules": True,
        "metrics.rulesLabels": {"release": "prometheus"},
        "dns.namespace": "openshift-dns",
        "dns.port": 5353,
        "networkPolicy.schedulerApiFrom": [{"namespaceSelector": {"matchLabels": {"name": "portal"}}}],
        "networkPolicy.metricsFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
        "networkPolicy.operatorExtraEgress": [{"ports": [{"port": 8443, "protocol": "TCP"}]}],
        "rbac.platformAdminGroups": ["platform-team"],
        "admission.audit": False,
    },
}


def test_lint_finds_nothing() -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART)).stdout


def test_the_chart_is_of_the_packages_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())

    assert chart["appVersion"] == __version__
    assert chart["version"] == __version__


@pytest.mark.parametrize("values", SETTINGS.values(), ids=SETTINGS)
def test_every_object_is_whole_and_named_once(values: dict[str, Any]) -> None:
    objects = render(values)

    names = Counter((it["kind"], it["metadata"].get("namespace"), it["metadata"]["name"]) for it in objects)
    assert [name for name, count in names.items() if count > 1] == []
    assert all(it["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm" for it in objects)
    # Where the API server is, and whose certificates it trusts, is published elsewhere and may be seen only there.
    elsewhere = {(namespace, name) for _, namespace, name in names if namespace not in (None, NAMESPACE)}
    of_api = {("kube-system", "allotment-scheduler-api")} if values.get("scheduler.api.enabled", True) else set()
    assert elsewhere == {("default", "allotment-operator-api-server"), *of_api}


def test_turning_off_leaves_nothing_behind() -> None:
    kinds = {it["kind"] for it in render(SETTINGS["everything off"])}

    assert kinds == {
        "Lease",
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
        "Role",
        "RoleBinding",
        "ConfigMap",
        "Deployment",
    }


def test_the_image_by_digest_wins() -> None:
    objects = render(SETTINGS["everything set"])

    for deployment in of_kind(objects, "Deployment"):
        [container] = deployment["spec"]["template"]["spec"]["containers"]
        assert container["image"] == "images.bank/platform/allotment@sha256:" + "a" * 64


@pytest.mark.parametrize("program", WORKLOADS)
def test_a_programs_settings_arrive_as_they_were_written(program: str) -> None:
    settings = {"workers": 32, "pools": {"gpu": {"placement": "Pack"}}}
    objects = render({f"{program}.config": settings})
    [container] = named(objects, "Deployment", f"allotment-{program}")["spec"]["template"]["spec"]["containers"]

    text = named(objects, "ConfigMap", f"allotment-{program}")["data"][f"{program}.yaml"]

    assert yaml.safe_load(text) == settings
    assert container["command"] == [f"allotment-{program}", "--config", f"/etc/allotment/{program}.yaml"]
    assert container["volumeMounts"][0] == {"name": "config", "mountPath": "/etc/allotment", "readOnly": True}


def _checksum(program: str, config: dict[str, Any]) -> str:
    template = named(render({f"{program}.config": config}), "Deployment", f"allotment-{program}")["spec"]["template"]
    return str(template["metadata"]["annotations"]["allotment.dev/config-checksum"])


def test_a_change_of_the_operators_settings_rolls_its_pods() -> None:
    assert _checksum("operator", {"a": 1}) == _checksum("operator", {"a": 1})
    assert _checksum("operator", {"a": 1}) != _checksum("operator", {"a": 2})


@pytest.mark.parametrize(
    ("key", "instead"),
    [
        ("operator.config.logLevel", "operator.logLevel"),
        ("operator.config.httpPort", ""),
        ("operator.config.dnsNamespace", "dns.namespace"),
        ("operator.config.dnsPort", "dns.port"),
        ("scheduler.config.logLevel", "scheduler.logLevel"),
        ("scheduler.config.apiPort", "scheduler.api.enabled"),
        ("scheduler.config.longestGraceSeconds", "admission.maxTerminationGracePeriodSeconds"),
        ("scheduler.config.namespace", "the release's namespace"),
        ("scheduler.config.apiCertificate", "scheduler.api.certificateSecret"),
    ],
)
def test_a_setting_that_the_chart_itself_makes_is_refused_in_the_programs_file(key: str, instead: str) -> None:
    program, _, name = key.split(".")
    message = refusal({f"{program}.config": {name: "x"}, "scheduler.api.certificateSecret": "tls"})

    assert f"{key} has no effect" in message
    assert ("take it out" + (f", and use {instead} instead" if instead else "")) in message


MADE_BY_THE_CHART = {"namespace", "httpPort", "podName", "podUid", "apiPort"}


@pytest.mark.parametrize("name", sorted({to_camel(name) for name in FIXED} - MADE_BY_THE_CHART))
def test_a_setting_that_the_scheduler_reads_once_rolls_its_pods(name: str) -> None:
    assert _checksum("scheduler", {name: 1}) == _checksum("scheduler", {name: 1, "startsPerCycle": 3})
    assert _checksum("scheduler", {name: 1}) != _checksum("scheduler", {name: 2})


@pytest.mark.parametrize(
    ("given", "bound"), [({}, "3600"), ({LONGEST_GRACE: 7200}, "7200"), ({LONGEST_GRACE: None}, "3600")]
)
def test_evictions_and_admission_bound_grace_periods_alike(given: dict[str, Any], bound: str) -> None:
    objects = render(given)
    pod = named(objects, "Deployment", "allotment-scheduler")["spec"]["template"]["spec"]
    env = {variable["name"]: variable.get("value") for variable in pod["containers"][0]["env"]}
    policy = json.dumps(named(objects, "ValidatingAdmissionPolicy", "allotment-tenant-pods"))

    assert env["ALLOTMENT_LONGEST_GRACE_SECONDS"] == bound
    assert Settings.model_validate({"longest_grace_seconds": bound}).longest_grace_seconds == int(bound)
    assert f"terminationGracePeriodSeconds.orValue(30) <= {bound}" in policy


def test_the_operator_is_never_there_twice_and_the_scheduler_always_is() -> None:
    objects = render()
    operator = named(objects, "Deployment", "allotment-operator")["spec"]
    scheduler = named(objects, "Deployment", "allotment-scheduler")["spec"]

    assert (operator["replicas"], operator["strategy"]["type"]) == (1, "Recreate")
    assert (scheduler["replicas"], scheduler["strategy"]["type"]) == (2, "RollingUpdate")
    assert named(objects, "PodDisruptionBudget", "allotment-scheduler")["spec"]["maxUnavailable"] == 1


@pytest.mark.parametrize("program", WORKLOADS)
@pytest.mark.parametrize("values", SETTINGS.values(), ids=SETTINGS)
def test_a_programs_pod_is_restricted_and_observable(program: str, values: dict[str, Any]) -> None:
    pod = named(render(values), "Deployment", f"allotment-{program}")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    env = {variable["name"]: variable.get("value") for variable in container["env"]}

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert not any("hostPath" in volume for volume in pod["volumes"])
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert container["command"][0] == f"allotment-{program}"
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]
    assert [container[probe]["httpGet"]["path"] for probe in ("livenessProbe", "readinessProbe")] == [
        "/healthz",
        "/readyz",
    ]
    api = [{"name": "api", "containerPort": 8443}]
    served = program == "scheduler" and values.get("scheduler.api.enabled") is not False
    assert container["ports"] == [{"name": "http", "containerPort": 8080}, *(api if served else [])]
    assert env["PYTHONSAFEPATH"] == "1"
    assert {"ALLOTMENT_NAMESPACE", "ALLOTMENT_POD_NAME"} <= env.keys()


@pytest.mark.parametrize("program", WORKLOADS)
def test_what_selects_a_programs_pods_selects_them(program: str) -> None:
    objects = render()
    labels = named(objects, "Deployment", f"allotment-{program}")["spec"]["template"]["metadata"]["labels"].items()
    selectors = [
        named(objects, "Deployment", f"allotment-{program}")["spec"]["selector"]["matchLabels"],
        named(objects, "Service", f"allotment-{program}-metrics")["spec"]["selector"],
        named(objects, "NetworkPolicy", f"allotment-{program}")["spec"]["podSelector"]["matchLabels"],
        named(objects, "NetworkPolicy", "allotment-default-deny")["spec"]["podSelector"]["matchLabels"],
    ]

    assert all(selector.items() <= labels for selector in selectors)


def test_critical_pods_are_admitted_where_clusters_restrict_them() -> None:
    quota = named(render(), "ResourceQuota", "allotment-critical-pods")["spec"]

    assert quota["scopeSelector"]["matchExpressions"][0]["values"] == ["system-cluster-critical"]
    assert int(quota["hard"]["pods"]) == 6


def test_beside_the_clusters_own_critical_pods_none_are_counted() -> None:
    assert "ResourceQuota" not in {it["kind"] for it in render(namespace="kube-system")}


@pytest.mark.parametrize("program", WORKLOADS)
@pytest.mark.parametrize(
    ("values", "ports"), [({}, [53]), (SETTINGS["everything set"], [53, 5353])], ids=["usual", "OpenShift"]
)
def test_programs_ask_the_clusters_name_servers(program: str, values: dict[str, Any], ports: list[int]) -> None:
    rule = named(render(values), "NetworkPolicy", f"allotment-{program}")["spec"]["egress"][0]

    assert [(each["port"], each["protocol"]) for each in rule["ports"]] == [
        (port, protocol) for port in ports for protocol in ("UDP", "TCP")
    ]


def test_the_operator_is_told_where_the_clusters_name_servers_are() -> None:
    deployment = named(render(SETTINGS["everything set"]), "Deployment", "allotment-operator")
    environment = {
        each["name"]: each["value"]
        for each in deployment["spec"]["template"]["spec"]["containers"][0]["env"]
        if "value" in each
    }
    told = Sources(OperatorSettings, None, environment, {}).read()

    assert (told.dns_namespace, told.dns_port) == ("openshift-dns", 5353)


@pytest.mark.parametrize(
    ("values", "want"),
    [
        ({"scheduler.replicas": 0}, "/scheduler/replicas"),
        ({"scheduler.replicas": "two"}, "/scheduler/replicas"),
        ({"operator.replicas": 2}, "replicas"),
        ({"operator.logLevel": "loud"}, "/operator/logLevel"),
        ({"image.digest": "latest"}, "/image/digest"),
        ({"image.pullPolicy": "Sometimes"}, "/image/pullPolicy"),
        ({"image.repository": ""}, "/image/repository"),
        ({"operator.resources": {"requests": {"memory": "lots"}}}, "/operator/resources/requests/memory"),
        ({"networkPolicy.apiServerPorts": []}, "/networkPolicy/apiServerPorts"),
        ({"dns.port": 0}, "/dns/port"),
        ({"dns.namespace": "openshift-*"}, "/dns/namespace"),
        ({"networkPolicy.apiServerPorts": [70000]}, "/networkPolicy/apiServerPorts/0"),
        ({"priorityClasses": [{"name": "system-mine", "value": 1, "description": "x"}]}, "/priorityClasses/0/name"),
        ({"priorityClasses": [{"name": "mine", "value": 2000000000, "description": "x"}]}, "/priorityClasses/0/value"),
        ({"priorityClasses": [{"name": "mine", "value": 1}]}, "description"),
        ({"commonLabels": {"allotment.dev/tenant": "mine"}}, "/commonLabels"),
        ({"commonLabels": {"team": "not a label"}}, "/commonLabels/team"),
        ({"admision.enabled": False}, "admision"),
        ({"admission.enabled": "no"}, "/admission/enabled"),
        ({"rbac.platformAdminGroups": "admins"}, "/rbac/platformAdminGroups"),
        ({"crds.check": "yes"}, "/crds/check"),
    ],
    ids=str,
)
def test_a_bad_value_is_refused_by_its_name(values: dict[str, Any], want: str) -> None:
    message = refusal(values)

    assert "values don't meet the specifications of the schema" in message
    assert want in message


def leaves(tree: dict[str, Any], stop: Collection[str], path: str = "") -> Iterator[str]:
    """Paths of a tree of values, no deeper than `stop`."""
    for key, value in tree.items():
        here = f"{path}.{key}" if path else key
        if isinstance(value, dict) and value and here not in stop:
            yield from leaves(value, stop, here)
        else:
            yield here


def test_the_schema_knows_every_value_and_no_other() -> None:
    def properties(schema: dict[str, Any]) -> dict[str, Any]:
        return {
            key: properties(part) if "properties" in part else None
            for key, part in schema.get("properties", {}).items()
        }

    whole = {"operator.resources", "scheduler.resources"}  # Kubernetes' own shape below
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())

    assert set(leaves(properties(schema), whole)) == set(leaves(values, whole))


def test_every_group_of_values_has_its_comment() -> None:
    text = (CHART / "values.yaml").read_text()
    keys = re.findall(r"(?m)^(?P<before>.*)\n(?P<indent> *)(?P<key>[a-zA-Z]+):", text)

    uncommented = [
        key for before, indent, key in keys if indent and len(indent) == 2 and not before.strip().startswith("#")
    ]

    # These share the comment of the key above them.
    assert [key for key in uncommented if key not in COMMENTED_TOGETHER] == []


def test_offline_commands_know_the_charts_priority_classes() -> None:
    classes = {it["metadata"]["name"]: it["value"] for it in of_kind(render({}), "PriorityClass")}

    assert {**BUILT_IN, **classes} == BUILT_IN
    assert {name for name in BUILT_IN if not name.startswith("system-")} == classes.keys()


def test_uninstalling_knows_every_kind_of_the_chart() -> None:
    leases = ("coordination.k8s.io/v1", "Lease")  # by name, when nobody makes them anew
    written = {
        pair
        for path in (CHART / "templates").rglob("*.yaml")
        for pair in re.findall(r"^apiVersion: (\S+)\nkind: (\S+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    rendered = {(it["apiVersion"], it["kind"]) for values in SETTINGS.values() for it in render(values)}

    assert written | rendered == {*POLICY_KINDS, *CHART_KINDS, leases}
