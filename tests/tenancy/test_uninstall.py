"""`allot uninstall` on a control plane of its own: it takes away what the other tests stand on."""

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from allotment_cli.main import app
from allotment_local.cluster import LocalCluster
from allotment_local.progress import reporter
from allotment_operator.tenancy.furniture import POD_SECURITY
from builders.api_server import Actor, ApiServer
from builders.helm_chart import Release
from builders.program_process import OperatorProcess, eventually, kubeconfig_of_account, lease
from builders.tenant_objects import deployment, expect, namespace_object, retained_volume, tenant

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

LEASES = "/apis/coordination.k8s.io/v1/namespaces/allotment-system/leases"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"


class Installation:
    """A cluster with the chart, the operator, two tenants, and one service."""

    def __init__(self, kubeconfig: Path, admin: Actor, operator: OperatorProcess) -> None:
        self.kubeconfig = kubeconfig
        self.admin = admin
        self.operator = operator

    def fill(self) -> None:
        """One namespace that was there before, one that the operator made, and a service in it."""
        expect(self.admin, namespace_object("old"))
        for name, spec in (
            ("group", {}),
            ("blue", {"parent": "group", "namespaces": ["old"]}),
            ("red", {"parent": "group", "namespaces": ["new", "kept"]}),
        ):
            expect(self.admin, tenant(name, **spec))
        eventually(lambda: self._ready("blue") and self._ready("red"), because=self.operator.tail)
        volume, claim = retained_volume("kept")
        expect(self.admin, volume)
        eventually(lambda: self.admin.create(claim).accepted)  # once its quota is counted
        eventually(lambda: self.admin.get(claim).body["status"]["phase"] == "Bound")
        topic = {
            "apiVersion": "allotment.dev/v1alpha1",
            "kind": "KafkaTopic",
            "metadata": {"name": "orders", "namespace": "new"},
            "spec": {"cluster": "none"},
        }
        path = "/apis/allotment.dev/v1alpha1/namespaces/new/kafkatopics"
        eventually(lambda: self.admin.request("POST", path, topic).accepted)  # once its quota is counted
        eventually(
            lambda: "finalizers" in self.admin.request("GET", f"{path}/orders").body["metadata"],
            because=self.operator.tail,
        )

    def uninstall(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, ["uninstall", "--kubeconfig", str(self.kubeconfig), *arguments])

    def listed(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.uninstall("--dry-run", "-o", "json").stdout)
        return found

    def check_gone(self) -> None:
        """Nothing of Allotment is left, and nothing is stuck or blocked."""
        assert all(not step["objects"] for step in self.listed()["steps"])
        assert not [each["metadata"]["name"] for each in self._items("/api/v1/namespaces/allotment-system/secrets")]
        groups = [each["spec"]["group"] for each in self._items(DEFINITIONS)]
        assert "allotment.dev" not in groups
        assert not [each for each in self._items(POLICIES) if each["metadata"]["name"].startswith("allotment")]
        spaces = {each["metadata"]["name"]: each for each in self._items("/api/v1/namespaces")}
        assert "new" not in spaces
        assert not [name for name, each in spaces.items() if "deletionTimestamp" in each["metadata"]]
        assert spaces["old"]["metadata"]["labels"] == {"kubernetes.io/metadata.name": "old", **POD_SECURITY}
        assert not self._items("/apis/networking.k8s.io/v1/namespaces/old/networkpolicies")
        assert not self._items("/apis/rbac.authorization.k8s.io/v1/namespaces/old/rolebindings")
        assert "allotment.dev/tenant" not in spaces["kept"]["metadata"]["labels"]
        assert self.admin.get(retained_volume("kept")[1]).body["status"]["phase"] == "Bound"
        account = self.admin.request("GET", "/api/v1/namespaces/old/serviceaccounts/default").body
        assert "automountServiceAccountToken" not in account
        assert "labels" not in account["metadata"]
        # The API server learns by a watch of its own that the policies are gone.
        eventually(lambda: self.admin.create(deployment("old"), dry_run=True).accepted)
        ends = [namespace_object("old"), namespace_object("kept"), retained_volume("kept")[0]]
        for each in ends:
            self.admin.delete(each)
        eventually(lambda: not any(self.admin.get(each).accepted for each in ends))

    def _ready(self, name: str) -> bool:
        status = self.admin.get(tenant(name)).body.get("status") or {}
        return any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions", ()))

    def _items(self, path: str) -> list[dict[str, Any]]:
        answer = self.admin.request("GET", path)
        assert answer.accepted, answer.message
        return list(answer.body["items"])


@pytest.fixture(scope="module")
def own_cluster(cluster_state: Path) -> Iterator[Path]:
    """A control plane for this module alone."""
    with reporter() as progress:
        running = LocalCluster("uninstall", state=cluster_state, progress=progress)
        running.up(tied_to_us=True)
    try:
        yield running.kubeconfig
    finally:
        running.down()


@pytest.fixture
def installation(own_cluster: Path) -> Iterator[Installation]:
    """Everything installed and at work."""
    api = ApiServer(own_cluster)
    admin = api.admin()
    Release(own_cluster).ensure()
    admin.request("POST", LEASES, {**lease(OperatorProcess.account), "spec": {}})
    with tempfile.TemporaryDirectory(prefix="allotment-uninstall-") as folder:
        credentials = kubeconfig_of_account(own_cluster, admin, Path(folder), account=OperatorProcess.account)
        operator = OperatorProcess(credentials, Path(folder, "log"), {"leaseSeconds": 8}, supervised=True)
        operator.start()
        try:
            yield Installation(own_cluster, admin, operator)
        finally:
            operator.kill()
            api.close()


def test_it_refuses_while_services_exist_then_takes_everything_away_in_order(installation: Installation) -> None:
    installation.fill()

    listed = installation.listed()
    assert [step["step"] for step in listed["steps"]] == [
        "services",
        "tenants",
        "tenants' namespaces",
        "admission policies",
        "programs and rights",
        "resource definitions",
    ]
    assert listed["steps"][0]["objects"] == ["KafkaTopic new/orders"]
    assert listed["steps"][1]["objects"] == ["Tenant blue", "Tenant red", "Tenant group"]
    assert listed["steps"][2]["objects"] == ["Namespace kept", "Namespace new"]
    assert listed["volumes"] == {"kept": 1}
    refused = installation.uninstall("--yes")
    assert refused.exit_code == 1
    assert "KafkaTopic new/orders" in refused.stderr
    elsewhere = installation.uninstall("--yes", "--force", "--release", "platform", "--namespace", "platform")
    assert elsewhere.exit_code == 1
    assert "--release allotment --namespace allotment-system" in elsewhere.stderr
    asked = CliRunner().invoke(
        app, ["uninstall", "--kubeconfig", str(installation.kubeconfig), "--cascade"], input="n\n"
    )
    assert asked.exit_code == 1
    assert "services: KafkaTopic new/orders\n" in asked.stderr
    assert (
        "Namespace kept stays, without its tenant, if services retain what they have in it: 1 volume." in asked.stderr
    )
    assert re.search(r"Remove these \d+ objects from https://127\.0\.0\.1:\d+\?", asked.stderr)
    assert installation.listed() == listed

    done = installation.uninstall("--yes", "--cascade", "--timeout", "200")

    assert done.exit_code == 0, done.stderr + installation.operator.tail()
    assert "Namespace kept: services retained volumes in it." in done.stderr
    installation.check_gone()


def test_without_the_operator_it_needs_force_and_then_does_the_operators_part(installation: Installation) -> None:
    installation.fill()
    installation.operator.kill()
    eventually(lambda: not installation.listed()["operatorAtWork"])

    refused = installation.uninstall("--yes", "--cascade")
    assert refused.exit_code == 1
    assert "the operator is not at work" in refused.stderr

    done = installation.uninstall("--yes", "--force", "--timeout", "200")

    assert done.exit_code == 0, done.stderr
    installation.check_gone()


def test_on_a_bare_cluster_it_says_that_there_is_nothing(own_cluster: Path) -> None:
    done = CliRunner().invoke(app, ["uninstall", "--kubeconfig", str(own_cluster), "--yes"])

    assert done.exit_code == 0
    assert "nothing of Allotment" in done.stderr
