"""A plain client of the real API server for tests: any user by impersonation, answers as they came.

It exists beside kubectl because tables of hundreds of requests would spend their time starting processes, and beside
the product's own client because the tests of rights must not depend on it.
"""

import base64
import json
import ssl
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3
import yaml

Manifest = Mapping[str, Any]

PLURALS = {
    "Binding": "bindings",
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
    "ConfigMap": "configmaps",
    "CronJob": "cronjobs",
    "DaemonSet": "daemonsets",
    "Deployment": "deployments",
    "EndpointSlice": "endpointslices",
    "Endpoints": "endpoints",
    "Job": "jobs",
    "Lease": "leases",
    "LimitRange": "limitranges",
    "Namespace": "namespaces",
    "NetworkPolicy": "networkpolicies",
    "Node": "nodes",
    "PersistentVolume": "persistentvolumes",
    "PersistentVolumeClaim": "persistentvolumeclaims",
    "Pod": "pods",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "PodGroup": "podgroups",
    "ResourceQuota": "resourcequotas",
    "RoleBinding": "rolebindings",
    "Secret": "secrets",
    "Service": "services",
    "ServiceAccount": "serviceaccounts",
    "StatefulSet": "statefulsets",
    "Tenant": "tenants",
    "TenantPolicy": "tenantpolicies",
}


@dataclass(frozen=True)
class Answer:
    """What the API server said: the HTTP status, the object or Status, and the warnings that kubectl would print."""

    status: int
    body: dict[str, Any]
    warnings: tuple[str, ...] = ()

    @property
    def accepted(self) -> bool:
        return self.status < 400

    @property
    def message(self) -> str:
        return "" if self.accepted else str(self.body.get("message", ""))


class Actor:
    """One user's view of the API server."""

    def __init__(self, pool: urllib3.HTTPSConnectionPool, headers: Mapping[str, str], groups: tuple[str, ...]) -> None:
        self._pool = pool
        self._headers = urllib3.HTTPHeaderDict(headers)
        for group in groups:
            self._headers.add("Impersonate-Group", group)

    def request(
        self, method: str, path: str, body: Any = None, *, content_type: str = "application/json", timeout: float = 120
    ) -> Answer:
        """Send one request; refusals are answers, not errors."""
        headers = self._headers.copy()
        headers["Content-Type"] = content_type
        response = self._pool.request(
            method, path, body=None if body is None else json.dumps(body).encode(), headers=headers, timeout=timeout
        )
        text = response.data.decode()
        warnings = tuple(part.partition('"')[2].rstrip('"') for part in response.headers.getlist("Warning"))
        return Answer(response.status, json.loads(text) if text.startswith("{") else {"message": text}, warnings)

    def create(self, manifest: Manifest, *, dry_run: bool = False, subresource: str = "") -> Answer:
        """Create an object, or POST to a subresource of the object that its metadata names."""
        path = object_path(manifest) + f"/{subresource}" if subresource else collection_path(manifest)
        return self.request("POST", path + ("?dryRun=All" if dry_run else ""), dict(manifest))

    def get(self, manifest: Manifest) -> Answer:
        return self.request("GET", object_path(manifest))

    def patch(self, manifest: Manifest, change: Manifest, *, dry_run: bool = False, subresource: str = "") -> Answer:
        """Merge a change into an object or its subresource."""
        path = object_path(manifest) + (f"/{subresource}" if subresource else "")
        return self.request(
            "PATCH",
            path + ("?dryRun=All" if dry_run else ""),
            dict(change),
            content_type="application/merge-patch+json",
        )

    def delete(self, manifest: Manifest, *, dry_run: bool = False) -> Answer:
        return self.request("DELETE", object_path(manifest) + ("?dryRun=All" if dry_run else ""))

    def allowed(
        self, verb: str, resource: str, *, group: str = "", namespace: str = "", name: str = "", subresource: str = ""
    ) -> bool:
        """What the authorizer says about this user, admission aside."""
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {
                "resourceAttributes": {
                    "verb": verb,
                    "group": group,
                    "resource": resource,
                    "subresource": subresource,
                    "namespace": namespace,
                    "name": name,
                }
            },
        }
        answer = self.request("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
        assert answer.accepted, answer.message
        return bool(answer.body["status"]["allowed"])


class ApiServer:
    """The API server of a kubeconfig whose user may impersonate."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        server = urllib3.util.parse_url(config["clusters"][0]["cluster"]["server"])
        context = ssl.create_default_context(
            cadata=_credential(config["clusters"][0]["cluster"], "certificate-authority")
        )
        user = config["users"][0]["user"]
        with tempfile.NamedTemporaryFile("w") as pem:  # ssl loads client certificates from files only
            pem.write(_credential(user, "client-certificate") + "\n" + _credential(user, "client-key"))
            pem.flush()
            context.load_cert_chain(pem.name)
        self._pool = urllib3.HTTPSConnectionPool(
            str(server.host), server.port, ssl_context=context, maxsize=8, retries=False
        )

    def admin(self) -> Actor:
        """The kubeconfig's own user, a cluster administrator."""
        return Actor(self._pool, {}, ())

    def user(self, name: str, groups: Iterable[str] = ()) -> Actor:
        """A person, as the identity provider would name him."""
        return Actor(self._pool, {"Impersonate-User": name}, (*groups, "system:authenticated"))

    def service_account(self, namespace: str, name: str) -> Actor:
        """A program."""
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
        return Actor(self._pool, {"Impersonate-User": f"system:serviceaccount:{namespace}:{name}"}, groups)

    def node(self, name: str) -> Actor:
        """A kubelet."""
        return Actor(self._pool, {"Impersonate-User": f"system:node:{name}"}, ("system:nodes", "system:authenticated"))

    def close(self) -> None:
        self._pool.close()


def collection_path(manifest: Manifest) -> str:
    """Path of the collection that the object belongs to."""
    version, namespace = manifest["apiVersion"], manifest["metadata"].get("namespace")
    prefix = f"/api/{version}" if version == "v1" else f"/apis/{version}"
    scope = f"/namespaces/{namespace}" if namespace else ""
    return f"{prefix}{scope}/{PLURALS[manifest['kind']]}"


def object_path(manifest: Manifest) -> str:
    """Path of the object itself."""
    return f"{collection_path(manifest)}/{manifest['metadata']['name']}"


def _credential(source: Mapping[str, str], key: str) -> str:
    inline = source.get(f"{key}-data")
    return base64.b64decode(inline).decode() if inline else Path(source[key]).read_text()
