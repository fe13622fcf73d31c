"""The chart as tests see it: rendered objects, and one release on the test cluster.

The cluster holds at most one release (cluster-wide names are fixed), so installing and uninstalling go through one
place, and both may be asked for at any time.
"""

import json
import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from allotment_local import build
from allotment_local.layout import Layout
from allotment_local.progress import reporter
from builders.api_server import Answer, ApiServer
from builders.patience import LateError

CHART = Path(__file__).resolve().parents[2] / "helm" / "allotment"
RELEASE = "allotment"
NAMESPACE = "allotment-system"

Rendered = dict[str, Any]
PROTECTED = ("vault", "openshift-*")
"""Namespaces that every test release keeps from tenants."""


@cache
def helm_binary() -> str:
    """ALLOTMENT_TEST_HELM, or the helm that belongs to the local cluster, built on first use."""
    given = os.environ.get("ALLOTMENT_TEST_HELM")
    if given:
        return given
    with reporter() as progress:
        return str(build.ensure(build.HELM, layout=Layout.from_environment(), progress=progress))


def helm(*args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run helm; its output is in the result."""
    done = subprocess.run([helm_binary(), *args], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise AssertionError(f"helm {' '.join(args)}: {done.stderr}")
    return done


def render(values: dict[str, Any] | None = None, *, namespace: str = NAMESPACE) -> list[Rendered]:
    """Every object of the chart under the given values; callers share them and must not change them."""
    return _render(tuple(_settings(values)), namespace)


@cache
def _render(settings: tuple[str, ...], namespace: str) -> list[Rendered]:
    done = helm("template", RELEASE, str(CHART), "--namespace", namespace, *settings)
    return [document for document in yaml.load_all(done.stdout, yaml.CSafeLoader) if document]


def refusal(values: dict[str, Any]) -> str:
    """What helm says about values that the chart does not accept; empty if it accepts them."""
    done = helm("template", RELEASE, str(CHART), "--namespace", NAMESPACE, *_settings(values), check=False)
    return done.stderr if done.returncode else ""


def named(objects: list[Rendered], kind: str, name: str) -> Rendered:
    """The one object of that kind and name."""
    [found] = [it for it in objects if it["kind"] == kind and it["metadata"]["name"] == name]
    return found


def of_kind(objects: list[Rendered], *kinds: str) -> Iterator[Rendered]:
    """Objects of these kinds, as they were rendered."""
    return (it for it in objects if it["kind"] in kinds)


def _settings(values: dict[str, Any] | None) -> list[str]:
    return [
        argument for key, value in (values or {}).items() for argument in ("--set-json", f"{key}={json.dumps(value)}")
    ]


@dataclass(frozen=True)
class Release:
    """The one release of the chart on a cluster."""

    kubeconfig: Path

    def helm(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return helm("--kubeconfig", str(self.kubeconfig), *args, check=check)

    def put(self, values: dict[str, Any] | None = None) -> None:
        """Install or upgrade, without waiting for what the API server makes of it."""
        self.helm(
            "upgrade",
            "--install",
            RELEASE,
            str(CHART),
            "--namespace",
            NAMESPACE,
            "--create-namespace",
            *_settings({"admission.protectedNamespaces": PROTECTED, **(values or {})}),
        )

    def install(self, values: dict[str, Any] | None = None) -> None:
        """Install or upgrade, and wait until the API server enforces the policies."""
        self.put(values)
        api = ApiServer(self.kubeconfig)
        try:
            _await_enforcement(api, enforced=(values or {}).get("admission.enabled") is not False)
        finally:
            api.close()

    def ensure(self) -> None:
        """Install unless it is there."""
        if self.helm("status", RELEASE, "--namespace", NAMESPACE, check=False).returncode:
            self.install()

    def uninstall(self) -> None:
        """Take the release away; nothing to do where there is none."""
        self.helm("uninstall", RELEASE, "--namespace", NAMESPACE, "--ignore-not-found", "--wait")


def _await_enforcement(api: ApiServer, *, enforced: bool, timeout: float = 240) -> None:
    """Wait until every policy answers as it should, or none does.

    The API server learns of new policies, and of the kind of their parameters, by watches of its own; there is nothing
    to wait for but the answer to a request that they refuse, and to one that they admit.
    """
    admin = api.admin()
    name = f"allotment-canary-{uuid.uuid4().hex[:8]}"  # a namespace of the last time may still be on its way out
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {"allotment.dev/tenant": name}},
    }
    admin.create(namespace)
    admin.create(tenant_policy(name, tenant=name, maxPriority=7))
    deadline = time.monotonic() + timeout
    try:
        while problems := list(_unexpected(api, name, enforced=enforced)):
            if time.monotonic() > deadline:
                raise LateError(f"after {timeout:.0f} s the policies still do not answer: {problems}")
            time.sleep(0.1)
    finally:
        admin.delete(namespace)


def _unexpected(api: ApiServer, namespace: str, *, enforced: bool) -> Iterator[str]:
    admin = api.admin()
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "canary", "namespace": namespace},
        "spec": {"containers": [{"name": "c", "image": "canary"}], "automountServiceAccountToken": False},
    }
    yield from _unless(admin.create(pod, dry_run=True), "")
    other = {**pod, "spec": {**pod["spec"], "schedulerName": "other"}}  # type: ignore[dict-item]  # a literal above
    yield from _unless(admin.create(other, dry_run=True), "placed by the scheduler" if enforced else "")
    critical = {**pod, "spec": {**pod["spec"], "priorityClassName": "system-node-critical"}}  # type: ignore[dict-item]  # as above
    yield from _unless(admin.create(critical, dry_run=True), "may use priorities" if enforced else "")
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "canary", "namespace": namespace},
        "spec": {"type": "NodePort", "ports": [{"port": 80}]},
    }
    yield from _unless(admin.create(service, dry_run=True), "node ports" if enforced else "")


def _unless(answer: Answer, wanted: str) -> Iterator[str]:
    if wanted not in answer.message or answer.accepted == bool(wanted):
        yield f"{answer.status} {answer.message!r} instead of {wanted!r}"


def tenant_policy(namespace: str, **spec: Any) -> Rendered:
    """The TenantPolicy of a namespace, as the operator writes it."""
    return {
        "apiVersion": "allotment.dev/v1alpha1",
        "kind": "TenantPolicy",
        "metadata": {"name": "allotment", "namespace": namespace},
        "spec": {"tenant": "retail", **spec},
    }
