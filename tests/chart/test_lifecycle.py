"""The chart on a real API server: accepted, installed, upgraded, and gone without a trace."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
import yaml

from builders.api_server import ApiServer
from builders.helm_chart import CHART, NAMESPACE, RELEASE, Release, of_kind, render
from builders.program_process import eventually
from builders.tenant_objects import await_default_service_account, namespace_object, pod


class ClusterLike(Protocol):
    """What these tests need of the shared fixture `cluster`."""

    @property
    def kubeconfig(self) -> Path: ...

    def kubectl(self, *args: str, stdin: str | None = None, check: bool = True) -> "CompletedText": ...


class CompletedText(Protocol):
    """A finished command."""

    @property
    def stdout(self) -> str: ...

    @property
    def stderr(self) -> str: ...


OURS = "app.kubernetes.io/name=allotment,app.kubernetes.io/managed-by=Helm"
KINDS = ",".join(sorted({it["kind"] for it in render({"rbac.platformAdminGroups": ["x"]})}))


def installed(cluster: ClusterLike) -> list[str]:
    """Every object of the chart on the cluster."""
    listed = cluster.kubectl("get", KINDS, "-A", "-l", OURS, "-o", "json").stdout
    return sorted(f"{it['kind']} {it['metadata']['name']}" for it in json.loads(listed)["items"])


@pytest.fixture
def release(cluster: ClusterLike) -> Iterator[Release]:
    """A cluster without the chart."""
    release = Release(cluster.kubeconfig)
    release.uninstall()
    yield release
    release.uninstall()


def test_the_api_server_accepts_every_object(cluster: ClusterLike) -> None:
    """Warnings count as well: the API server reports unknown fields and what is deprecated by them."""
    objects = render({"rbac.platformAdminGroups": ["platform-team"], "scheduler.config": {"a": 1}})
    cluster.kubectl("create", "namespace", NAMESPACE, check=False)

    done = cluster.kubectl(
        "apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-",
        stdin=yaml.safe_dump_all(objects),
    )  # fmt: skip

    assert len(done.stdout.splitlines()) == len(objects)
    assert "Warning" not in done.stderr


def test_the_programs_pods_pass_the_restricted_profile(cluster: ClusterLike) -> None:
    name = "chart-restricted"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(namespace_object(name, **labels)))
    try:
        for deployment in of_kind(render(), "Deployment"):
            spec = {**deployment["spec"]["template"]["spec"], "serviceAccountName": "default"}
            manifest = {**pod(name, deployment["metadata"]["name"]), "spec": spec}

            done = cluster.kubectl("create", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(manifest), check=False)

            assert "violates PodSecurity" not in done.stderr
    finally:
        cluster.kubectl("delete", "namespace", name, "--wait=false")


def test_install_upgrade_uninstall(cluster: ClusterLike, release: Release) -> None:
    release.put()
    after_install = installed(cluster)
    release.put({"scheduler.replicas": 3, "rbac.platformAdminGroups": ["platform-team"]})
    after_upgrade = installed(cluster)
    replicas = cluster.kubectl(
        "get", "deployment", "allotment-scheduler", "-n", NAMESPACE, "-o", "jsonpath={.spec.replicas}"
    ).stdout
    release.uninstall()

    assert after_install == sorted(f"{it['kind']} {it['metadata']['name']}" for it in render())
    assert set(after_upgrade) - set(after_install) == {"ClusterRoleBinding allotment-platform-admin"}
    assert replicas == "3"
    assert installed(cluster) == []


def test_after_uninstalling_nothing_is_refused_any_more(cluster: ClusterLike, release: Release) -> None:
    """Tenants' namespaces stay as they are; whoever cleans them up must be able to."""
    name = "chart-left-over"
    cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(namespace_object(name, "retail")))
    api = ApiServer(cluster.kubeconfig)
    await_default_service_account(api.admin(), name)
    try:
        release.install()
        release.uninstall()
        free = pod(name, spec={"schedulerName": "another", "tolerations": [{"operator": "Exists"}]})
        # The API server learns by a watch of its own that its policies are gone.
        answer = eventually(lambda: (it := api.admin().create(free, dry_run=True)).accepted and it)

        assert answer.body["spec"]["schedulerName"] == "another"
    finally:
        api.close()
        cluster.kubectl("delete", "namespace", name, "--wait=false")


def test_a_second_release_is_refused(release: Release) -> None:
    release.put()

    done = release.helm("install", "second", str(CHART), "--namespace", NAMESPACE, check=False)

    assert done.returncode
    assert "cannot be imported into the current release" in done.stderr


def test_a_dry_run_that_does_not_ask_the_cluster_says_so(release: Release) -> None:
    release.put()
    upgrade = ("upgrade", RELEASE, str(CHART), "--namespace", NAMESPACE)

    blind = release.helm(*upgrade, "--dry-run=client", check=False)
    asking = release.helm(*upgrade, "--dry-run=server", check=False)

    assert "or nobody looked" in blind.stderr
    assert "use --dry-run=server" in blind.stderr
    assert asking.returncode == 0, asking.stderr


def test_an_upgrade_stops_while_the_definitions_are_behind(cluster: ClusterLike, release: Release) -> None:
    release.put()
    path = "/spec/versions/0/schema/openAPIV3Schema/description"
    older = json.dumps([{"op": "replace", "path": path, "value": "An older one."}])
    definition = ("customresourcedefinition", "nodepools.allotment.dev")
    cluster.kubectl("patch", *definition, "--type=json", "-p", older)
    try:
        done = release.helm("upgrade", RELEASE, str(CHART), "--namespace", NAMESPACE, check=False)
        skipped = release.helm(
            "upgrade", RELEASE, str(CHART), "--namespace", NAMESPACE, "--set", "crds.check=false", check=False
        )
    finally:
        cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CHART / "crds"))
    again = release.helm("upgrade", RELEASE, str(CHART), "--namespace", NAMESPACE, check=False)

    assert "The resource definition nodepools.allotment.dev on the cluster differs from this chart's" in done.stderr
    assert "kubectl apply --server-side --force-conflicts -f" in done.stderr
    assert skipped.returncode == 0, skipped.stderr
    assert again.returncode == 0, again.stderr
