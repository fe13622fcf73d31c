"""The chart's programs as pods: restricted, under a uid that no image names, healthy, one scheduler leading."""

import json
import time
from typing import Any

import pytest

from allotment_local.real_node.images import recipes
from builders.helm_chart import NAMESPACE
from builders.real_cluster import RealCluster
from builders.real_platform import PROGRAMS

pytestmark = pytest.mark.real_node

_WHO = "import json, os; print(json.dumps([os.getuid(), os.getgid(), os.access('/', os.W_OK)]))"
_ASK = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8080/{}', timeout=10).status)"


def _pods(cluster: RealCluster, program: str) -> list[str]:
    component = program.removeprefix("allotment-")
    found = cluster.get("-n", NAMESPACE, "pods", "-l", f"app.kubernetes.io/component={component}")["items"]
    return [pod["metadata"]["name"] for pod in found if "deletionTimestamp" not in pod["metadata"]]


def _holder(cluster: RealCluster, lease: str) -> str:
    """The pod that leads; the Lease names it with a suffix of its own."""
    identity = cluster.get("-n", NAMESPACE, "lease", lease)["spec"].get("holderIdentity") or ""
    return str(identity.partition("_")[0])


@pytest.mark.parametrize("program", PROGRAMS)
def test_its_pods_run_our_image_without_a_name_or_a_right_too_many(platform: RealCluster, program: str) -> None:
    for pod in _pods(platform, program):
        [container] = platform.get("-n", NAMESPACE, "pod", pod)["spec"]["containers"]
        assert container["image"] == recipes.allotment().reference
        assert platform.run_python(NAMESPACE, pod, _WHO) == [65532, 65532, False]


@pytest.mark.parametrize("program", PROGRAMS)
def test_it_says_itself_that_it_is_healthy(platform: RealCluster, program: str) -> None:
    """Ready by the kubelet's probes is what the installation waited for; this is the programs' own answer."""
    for pod in _pods(platform, program):
        for question in ("healthz", "readyz", "metrics"):
            assert _answer(platform, pod, question) == 200


def _answer(platform: RealCluster, pod: str, question: str) -> Any:
    """What a program answers. One that has lost its Lease, on a machine that is too busy, ends and is started again."""
    until = time.monotonic() + 60
    while True:
        try:
            return platform.run_python(NAMESPACE, pod, _ASK.format(question))
        except AssertionError:
            if time.monotonic() > until:
                raise
            time.sleep(1)


def test_one_operator_and_one_of_two_schedulers_lead(platform: RealCluster) -> None:
    for program in PROGRAMS:
        platform.wait("-n", NAMESPACE, f"lease/{program}", "--for=jsonpath={.spec.holderIdentity}")

    assert [_holder(platform, "allotment-operator")] == _pods(platform, "allotment-operator")
    schedulers = _pods(platform, "allotment-scheduler")
    assert len(schedulers) == 2
    assert _holder(platform, "allotment-scheduler") in schedulers


def test_the_second_scheduler_leads_when_the_first_goes(platform: RealCluster) -> None:
    leader = _holder(platform, "allotment-scheduler")

    platform.kubectl("-n", NAMESPACE, "delete", "pod", leader)
    platform.rolled_out(NAMESPACE, "deployment/allotment-scheduler", timeout=180)

    platform.until(lambda: _holder(platform, "allotment-scheduler") in _pods(platform, "allotment-scheduler"))
    assert _holder(platform, "allotment-scheduler") != leader


def test_the_programs_namespace_admits_restricted_pods_only(platform: RealCluster) -> None:
    privileged = {"name": "c", "image": recipes.base().reference, "securityContext": {"privileged": True}}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "root", "namespace": NAMESPACE},
        "spec": {"containers": [privileged]},
    }

    done = platform.kubectl("apply", "-f", "-", stdin=json.dumps(pod), check=False)

    assert 'violates PodSecurity "restricted' in done.stderr
