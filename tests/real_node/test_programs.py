"""The chart's programs as pods: restricted, under a uid that no image names, healthy, one scheduler leading."""

import functools
import json

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


def _answers(cluster: RealCluster, program: str, python: str) -> set[str]:
    """What a Python program prints in a program's pods. One that is being started again says why it cannot.

    On a machine that is too busy a program loses its Lease, ends, and comes back.
    """
    answers = set()
    for pod in _pods(cluster, program):
        try:
            answers.add(str(cluster.run_python(NAMESPACE, pod, python)))
        except AssertionError as error:
            answers.add(str(error))
    return answers


def _holder(cluster: RealCluster, lease: str) -> str:
    """The pod that leads; the Lease names it with a suffix of its own."""
    identity = cluster.get("-n", NAMESPACE, "lease", lease)["spec"].get("holderIdentity") or ""
    return str(identity.partition("_")[0])


@pytest.mark.parametrize("program", PROGRAMS)
def test_its_pods_run_our_image_without_a_name_or_a_right_too_many(platform: RealCluster, program: str) -> None:
    deployment = platform.get("-n", NAMESPACE, "deployment", program)
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == recipes.allotment().reference
    platform.comes_to({str([65532, 65532, False])}, lambda: _answers(platform, program, _WHO))


@pytest.mark.parametrize("program", PROGRAMS)
def test_it_says_itself_that_it_is_healthy(platform: RealCluster, program: str) -> None:
    """Ready by the kubelet's probes is what the installation waited for; this is the programs' own answer."""
    for question in ("healthz", "readyz", "metrics"):
        platform.comes_to({"200"}, functools.partial(_answers, platform, program, _ASK.format(question)))


def test_one_operator_and_one_of_two_schedulers_lead(platform: RealCluster) -> None:
    for program, count in zip(PROGRAMS, (1, 2), strict=True):
        _leader(platform, program, of=count)


def _leader(platform: RealCluster, program: str, *, of: int) -> str:
    """Wait until one of so many pods of a program leads; its name. A Lease may be free for a moment."""

    def state() -> tuple[str, list[str]]:
        return _holder(platform, program), _pods(platform, program)

    platform.wait("-n", NAMESPACE, f"lease/{program}", "--for=create")
    leader, _ = platform.until(lambda seen: seen[0] in seen[1] and len(seen[1]) == of, state)
    return leader


def test_the_second_scheduler_leads_when_the_first_goes(platform: RealCluster) -> None:
    first = _leader(platform, "allotment-scheduler", of=2)

    platform.kubectl("-n", NAMESPACE, "delete", "pod", first)
    platform.rolled_out(NAMESPACE, "deployment/allotment-scheduler")

    assert _leader(platform, "allotment-scheduler", of=2) != first


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
