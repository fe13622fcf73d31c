"""`allot uninstall`: takes Allotment off a cluster, in the one order that leaves nothing stuck.

    services → tenants (leaves first) → admission policies → programs and rights → resource definitions

Each step needs what the later ones take away: the operator lets go of services and tenants (their finalizers); the
policies deny pods whose TenantPolicy cannot be found, so they go before its definition; deleting a definition deletes
every object of its kind, so that comes last, when none is left.

It refuses while services exist, unless told to delete them (`--cascade`). Where the operator does not run nobody would
take finalizers off: then it refuses too, unless told to do the operator's part itself (`--force`).

A tenant's namespace that the operator made goes with its tenant, and everything in it. What stays: the release's own
namespace, namespaces that were there before their tenant, and those in which services have left volumes, as their
deletion policy says.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer
import yaml

from allotment_api.labels import API_VERSION, FINALIZER, GROUP, TENANT_LABEL
from allotment_kube import (
    ApiError,
    Client,
    KubernetesError,
    MergePatch,
    NotFoundError,
    load_configuration,
)
from allotment_kube.configuration import Configuration
from allotment_kube.resources import (
    CUSTOM_RESOURCE_DEFINITIONS,
    LEASES,
    NAMESPACES,
    PERSISTENT_VOLUME_CLAIMS,
    SECRETS,
    Resource,
)
from allotment_operator.plans.ownership import MANAGED_BY_LABEL, MANAGER
from allotment_operator.plans.storage import retained
from allotment_operator.tenancy.estate import SERVICE_KINDS, NamespaceFacts

LEASE: Final = "allotment-operator"
LEASES_OF_PROGRAMS: Final = (LEASE, "allotment-scheduler")
POLL_SECONDS: Final = 1.0
OURS: Final = "app.kubernetes.io/name=allotment,app.kubernetes.io/managed-by=Helm,app.kubernetes.io/instance={release}"
ADMISSION: Final = "admissionregistration.k8s.io/v1"
POLICY_KINDS: Final = (
    # A binding without its policy is harmless, a policy without bindings is idle: bindings go first.
    (ADMISSION, "ValidatingAdmissionPolicyBinding"),
    (ADMISSION, "MutatingAdmissionPolicyBinding"),
    (ADMISSION, "ValidatingAdmissionPolicy"),
    (ADMISSION, "MutatingAdmissionPolicy"),
)
CHART_KINDS: Final = (
    # The programs first: without their rights they would only fill the log.
    ("apps/v1", "Deployment"),
    ("policy/v1", "PodDisruptionBudget"),
    ("v1", "Service"),
    ("v1", "ConfigMap"),
    ("v1", "Secret"),
    ("monitoring.coreos.com/v1", "PrometheusRule"),
    ("v1", "ResourceQuota"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"),
    ("v1", "ServiceAccount"),
    ("scheduling.k8s.io/v1", "PriorityClass"),
)
FURNITURE_KINDS: Final = (
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("v1", "ResourceQuota"),
    ("v1", "LimitRange"),
    (API_VERSION, "TenantPolicy"),
)


class RefusedError(Exception):
    """Nothing was done; the message says what to do first."""


class StuckError(Exception):
    """A step did not come to its end; the message says what is in its way."""


@dataclass(frozen=True, slots=True, order=True)
class Item:
    """One object that is to go."""

    api_version: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


@dataclass(slots=True)
class Inventory:
    """What there is of Allotment on the cluster, by the step that takes it away."""

    services: list[Item] = field(default_factory=list)
    tenants: list[Item] = field(default_factory=list)
    namespaces: list[Item] = field(default_factory=list)
    """Those that the operator made: they go with their tenants, unless volumes are left in them."""
    volumes: Counter[str] = field(default_factory=Counter)
    """How many volumes services have in which namespace."""
    policies: list[Item] = field(default_factory=list)
    programs: list[Item] = field(default_factory=list)
    definitions: list[Item] = field(default_factory=list)
    operator_at_work: bool = False
    namespace: str = "allotment-system"
    elsewhere: str = ""
    """How to name the release, where the one on the cluster is another than the one that was named."""

    def steps(self) -> list[tuple[str, list[Item]]]:
        """Return the steps in order, each with its objects."""
        return [
            ("services", self.services),
            ("tenants", self.tenants),
            ("tenants' namespaces", self.namespaces),
            ("admission policies", self.policies),
            ("programs and rights", self.programs),
            ("resource definitions", self.definitions),
        ]

    def remark(self, item: Item) -> str:
        """Say what decides over a namespace that may stay; empty for all else."""
        count = self.volumes[item.name] if item.kind == "Namespace" else 0
        volumes = f"{count} volume{'s' if count > 1 else ''}"
        return f"stays, without its tenant, if services retain what they have in it: {volumes}" if count else ""

    def refusal(self, *, cascade: bool, force: bool) -> str:
        """Say why nothing should be done; empty if all is well."""
        if self.elsewhere:
            return f"the release on this cluster is another one: say {self.elsewhere}"
        if self.services and not cascade:
            return (
                f"{len(self.services)} services are running: {_few(self.services)}. Delete them first, or use "
                "--cascade to have them deleted, with their data where their deletionPolicy says so: namespaces in "
                "which they retain volumes stay."
            )
        if (self.services or self.tenants) and not self.operator_at_work and not force:
            return (
                "the operator is not at work, and only it takes down what belongs to services and tenants. Start it "
                f"(kubectl -n {self.namespace} scale deployment/allotment-operator --replicas=1), or use --force to "
                "let go of them without it: what they made is then left to Kubernetes' garbage collector, and all "
                "volumes stay."
            )
        return ""


class Uninstaller:
    """Carries out the steps.

    Args:
        client: with an administrator's rights.
        namespace: of the release.
        release: name of the helm release.
        tell: shows progress.
        timeout: seconds that one step may take.
    """

    def __init__(
        self, client: Client, *, namespace: str, release: str, tell: Callable[[str], None], timeout: float
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._release = release
        self._tell = tell
        self._timeout = timeout

    async def look(self) -> Inventory:
        """Find everything, and whether the operator is at work."""
        found, at_work = await asyncio.gather(self._find(), self._operator_at_work())
        return replace(found, operator_at_work=at_work)

    async def _find(self) -> Inventory:
        definitions = [
            _item(each, "apiextensions.k8s.io/v1", "CustomResourceDefinition")
            for each in await self._client.list(CUSTOM_RESOURCE_DEFINITIONS)
            if each["spec"]["group"] == GROUP
        ]
        label = OURS.format(release=self._release)
        return Inventory(
            services=[item for kind in SERVICE_KINDS for item in await self._items(API_VERSION, kind)],
            tenants=_leaves_first(await self._manifests(API_VERSION, "Tenant")),
            policies=[item for pair in POLICY_KINDS for item in await self._items(*pair, label)],
            programs=[
                *[item for pair in CHART_KINDS for item in await self._items(*pair, label)],
                *[
                    Item("v1", "Secret", self._namespace, each["metadata"]["name"])
                    for each in await self._client.list(
                        SECRETS, namespace=self._namespace, label_selector=f"owner=helm,name={self._release}"
                    )
                ],
            ],
            definitions=definitions,
            namespaces=await self._made_namespaces(),
            volumes=await self._volumes(),
            namespace=self._namespace,
            elsewhere=await self._elsewhere(),
        )

    async def carry_out(self, found: Inventory, *, cascade: bool, force: bool) -> list[Item]:
        """Take everything away, step by step.

        Args:
            found: what `look` has found.
            cascade: delete services, also those that came into being since; else a tenant waits for them.
            force: do the operator's part where it is not at work.

        Returns:
            Namespaces that stay, because services have left volumes in them.

        Raises:
            StuckError: a step did not come to its end; those after it were not begun.
        """
        namespaces = await self._tenant_namespaces()
        await self._remove_held("services", found.services, force=force and not found.operator_at_work)
        # One by one from the leaves up: a tenant waits for those below it.
        if found.tenants:
            for item in found.tenants:
                await self._prepare(item, cascade=cascade)
            if force and not found.operator_at_work:
                await self._clear_namespaces()
            await self._remove_held("tenants", found.tenants, force=force and not found.operator_at_work)
        await self._until_gone("tenants' namespaces", lambda: self._terminating(namespaces))
        await self._remove("admission policies", found.policies)
        await self._remove("programs and rights", found.programs)
        left = [item for kind in (*SERVICE_KINDS, "Tenant") for item in await self._items(API_VERSION, kind)]
        if left:
            raise StuckError(f"{_few(left)} came into being meanwhile: run the command again")
        await self._remove("resource definitions", found.definitions)
        for lease in LEASES_OF_PROGRAMS:
            await self._delete(Item("coordination.k8s.io/v1", "Lease", self._namespace, lease))
        volumes = await self._volumes()
        return [item for item in await self._present(found.namespaces) if volumes[item.name]]

    async def _remove(self, step: str, items: list[Item]) -> None:
        if not items:
            return
        self._tell(f"Removing {len(items)} {step}")
        for item in items:
            await self._delete(item)
        await self._until_gone(step, lambda: self._present(items))

    async def _remove_held(self, step: str, items: list[Item], *, force: bool) -> None:
        """Delete what has the operator's finalizer; take that off ourselves only if told to."""
        if not items:
            return
        self._tell(f"Removing {len(items)} {step}")
        for item in items:
            await self._delete(item)
            if force:
                await self._let_go(item)
        await self._until_gone(step, lambda: self._present(items))

    async def _prepare(self, item: Item, *, cascade: bool) -> None:
        """Have the operator act for a tenant, and delete its services only if told to."""
        policy = {"deletionPolicy": "Cascade"} if cascade else {}
        await self._patch(item, {"spec": {"paused": False, **policy}})

    async def _let_go(self, item: Item) -> None:
        """Take the operator's finalizer off, and no other."""
        resource = await self._client.discover(item.api_version, item.kind)
        live = await self._client.find(resource, item.name, namespace=item.namespace)
        if live is not None:
            kept = [each for each in live["metadata"].get("finalizers") or () if each != FINALIZER]
            await self._patch(item, {"metadata": {"finalizers": kept}})

    async def _clear_namespaces(self) -> None:
        """Do the operator's part on the tenants' namespaces: delete what it would delete, open the others again."""
        made, volumes = await self._made_namespaces(), await self._volumes()
        for name in await self._tenant_namespaces():
            item = Item("v1", "Namespace", "", name)
            if item in made and not volumes[name]:
                await self._delete(item)
                continue
            label = f"{MANAGED_BY_LABEL}={MANAGER},{GROUP}/kind=Tenant"
            for api_version, kind in FURNITURE_KINDS:
                for furniture in await self._items(api_version, kind, label, namespace=name):
                    await self._delete(furniture)
            account = Item("v1", "ServiceAccount", name, "default")
            marks = dict.fromkeys([MANAGED_BY_LABEL, f"{GROUP}/kind", f"{GROUP}/instance"])
            await self._patch(account, {"automountServiceAccountToken": None, "metadata": {"labels": marks}})
            # Pod Security stays: what the tenant's members left must not start with more rights than they had.
            await self._patch(item, {"metadata": {"labels": {TENANT_LABEL: None}}})

    async def _until_gone(self, step: str, left: Callable[[], Any]) -> None:
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._timeout
        while remaining := await left():
            if clock() > deadline:
                raise StuckError(
                    f"{step}: after {self._timeout:.0f} s these are still there: {_few(remaining)}. "
                    f"{await self._reason(remaining[0])}Nothing after this step was touched; run the command again."
                )
            await asyncio.sleep(POLL_SECONDS)

    async def _reason(self, item: Item) -> str:
        """Say what an object that is being deleted waits for, in its own words."""
        try:
            resource = await self._client.discover(item.api_version, item.kind)
            live = await self._client.find(resource, item.name, namespace=item.namespace)
        except ApiError:
            return ""
        conditions = ((live or {}).get("status") or {}).get("conditions") or ()
        said = [
            each["message"]
            for each in conditions
            if (each["type"] == "Ready" and each["status"] != "True")
            or (item.kind == "Namespace" and each["status"] == "True" and each.get("message"))
        ]
        return f"{item} says: {' '.join(said)} " if said else ""

    async def _present(self, items: list[Item]) -> list[Item]:
        found = []
        for item in items:
            try:
                resource = await self._client.discover(item.api_version, item.kind)
                if await self._client.find(resource, item.name, namespace=item.namespace) is not None:
                    found.append(item)
            except NotFoundError:
                continue
        return found

    async def _terminating(self, names: Iterable[str]) -> list[Item]:
        found = []
        for name in names:
            live = await self._client.find(NAMESPACES.untyped, name)
            if live is not None and live["metadata"].get("deletionTimestamp"):
                found.append(Item("v1", "Namespace", "", name))
        return found

    async def _made_namespaces(self) -> list[Item]:
        """Return the tenants' namespaces that the operator made."""
        found = await self._client.list(NAMESPACES.untyped, label_selector=TENANT_LABEL)
        return sorted(_item(each, "v1", "Namespace") for each in found if NamespaceFacts.of(each).made_by_us)

    async def _volumes(self) -> Counter[str]:
        """Count the services' volumes in each namespace."""
        label = f"{MANAGED_BY_LABEL}={MANAGER}"
        claims = await self._client.list(PERSISTENT_VOLUME_CLAIMS.untyped, label_selector=label)
        return Counter(each["metadata"]["namespace"] for each in claims if retained(each))

    async def _tenant_namespaces(self) -> list[str]:
        found = await self._client.list(NAMESPACES.untyped, label_selector=TENANT_LABEL)
        return [each["metadata"]["name"] for each in found]

    async def _elsewhere(self) -> str:
        """Name the release that is there, unless it is the one that we were told.

        The binding of the operator's rights knows both: it is the cluster's, so no tenant can make one, and there is
        one release per cluster, so its name is fixed.
        """
        resource = await self._client.discover("rbac.authorization.k8s.io/v1", "ClusterRoleBinding")
        binding = await self._client.find(resource, LEASE)
        labels = binding["metadata"].get("labels") or {} if binding else {}
        if binding is None or labels.get("app.kubernetes.io/name") != "allotment":
            return ""
        release = labels.get("app.kubernetes.io/instance", self._release)
        namespace = next(
            (each["namespace"] for each in binding.get("subjects") or () if "namespace" in each), self._namespace
        )
        there = (release, namespace) == (self._release, self._namespace)
        return "" if there else f"--release {release} --namespace {namespace}"

    async def _operator_at_work(self) -> bool:
        """Say whether somebody renews the operator's Lease: its dates are by a clock that may not agree with ours."""
        first = await self._client.find(LEASES.untyped, LEASE, namespace=self._namespace)
        spec = (first or {}).get("spec") or {}
        if first is None or not spec.get("holderIdentity"):
            return False
        clock = asyncio.get_running_loop().time
        deadline = clock() + float(spec.get("leaseDurationSeconds") or 15)
        while clock() < deadline:
            await asyncio.sleep(POLL_SECONDS)
            now = await self._client.find(LEASES.untyped, LEASE, namespace=self._namespace)
            if now is None or now["metadata"]["resourceVersion"] != first["metadata"]["resourceVersion"]:
                return bool(((now or {}).get("spec") or {}).get("holderIdentity"))
        return False

    async def _items(self, api_version: str, kind: str, label: str = "", *, namespace: str = "") -> list[Item]:
        found = await self._manifests(api_version, kind, label, namespace=namespace)
        return sorted(_item(each, api_version, kind) for each in found)

    async def _manifests(
        self, api_version: str, kind: str, label: str = "", *, namespace: str = ""
    ) -> list[dict[str, Any]]:
        try:
            resource = await self._client.discover(api_version, kind)
            return await self._client.list(resource, namespace=namespace, label_selector=label)
        except NotFoundError:
            return []

    async def _delete(self, item: Item) -> None:
        try:
            resource = await self._client.discover(item.api_version, item.kind)
            await self._client.delete(resource, item.name, namespace=item.namespace)
        except NotFoundError:
            return

    async def _patch(self, item: Item, change: dict[str, Any]) -> None:
        try:
            resource: Resource[dict[str, Any]] = await self._client.discover(item.api_version, item.kind)
            await self._client.patch(resource, item.name, MergePatch(change), namespace=item.namespace)
        except NotFoundError:
            return


def _item(manifest: dict[str, Any], api_version: str, kind: str) -> Item:
    metadata = manifest["metadata"]
    return Item(api_version, kind, metadata.get("namespace", ""), metadata["name"])


def _leaves_first(manifests: list[dict[str, Any]]) -> list[Item]:
    """Order tenants so that each comes before the one it is part of; what stands in a cycle comes as it is."""
    parents = {each["metadata"]["name"]: each["spec"].get("parent") for each in manifests}

    def depth(name: str) -> int:
        seen: list[str] = []
        here: str | None = name
        while here is not None and here not in seen:
            seen.append(here)
            here = parents.get(here)
        return len(seen)

    return [Item(API_VERSION, "Tenant", "", name) for name in sorted(parents, key=lambda name: (-depth(name), name))]


def _few(items: list[Item]) -> str:
    more = f" and {len(items) - 5} more" if len(items) > 5 else ""
    return f"{', '.join(map(str, items[:5]))}{more}"


def uninstall(
    *,
    cascade: Annotated[bool, typer.Option("--cascade", help="Delete the services too, and their tenants.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Go on where the operator does not run; implies --cascade.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would go, in order.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="The release's namespace.")] = "allotment-system",
    release: Annotated[str, typer.Option("--release", help="The helm release's name.")] = "allotment",
    kubeconfig: Annotated[
        Path | None, typer.Option("--kubeconfig", help="Which cluster; default as kubectl.", dir_okay=False)
    ] = None,
    context: Annotated[str, typer.Option("--context", help="Which context of the kubeconfig.")] = "",
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="Seconds that one step may take.")] = 300,
    output: Annotated[
        Literal["table", "json", "yaml"], typer.Option("--output", "-o", help="How to show the list.")
    ] = "table",
) -> None:
    """Take Allotment off a cluster, in an order that leaves nothing stuck.

    Exit codes: 0 done, 1 refused or stuck (the message says why), 2 wrong usage.
    """
    try:
        configuration = load_configuration(kubeconfig, context=context)
        asyncio.run(
            _run(
                configuration,
                _Wishes(cascade or force, force, dry_run, yes, namespace, release, timeout, output),
            )
        )
    except (RefusedError, StuckError, KubernetesError) as error:
        typer.echo(f"allot uninstall: {error}", err=True)
        raise typer.Exit(1) from None


@dataclass(frozen=True, slots=True)
class _Wishes:
    cascade: bool
    force: bool
    dry_run: bool
    yes: bool
    namespace: str
    release: str
    timeout: float
    output: str


async def _run(configuration: Configuration, wishes: _Wishes) -> None:
    async with Client.connect(configuration, user_agent="allot") as client:
        uninstaller = Uninstaller(
            client,
            namespace=wishes.namespace,
            release=wishes.release,
            tell=lambda text: typer.echo(text, err=True),
            timeout=wishes.timeout,
        )
        found = await uninstaller.look()
        refusal = found.refusal(cascade=wishes.cascade, force=wishes.force)
        if wishes.dry_run or wishes.output != "table":
            typer.echo(_listing(found, refusal, wishes.output))
        if wishes.dry_run:
            return
        if refusal:
            raise RefusedError(refusal)
        total = sum(len(items) for _, items in found.steps())
        if not total:
            typer.echo("There is nothing of Allotment on this cluster.", err=True)
            return
        if not wishes.yes:
            typer.echo(_summary(found), err=True)
            if not typer.confirm(f"Remove these {total} objects from {configuration.server}?", err=True):
                raise RefusedError("not confirmed")
        stay = await uninstaller.carry_out(found, cascade=wishes.cascade, force=wishes.force)
        if stay:
            told = f"{_few(stay)}: services retained volumes in {'it' if len(stay) == 1 else 'them'}"
            typer.echo(f"{told}. Delete what is not needed any more.", err=True)
        typer.echo(f"Allotment is gone. The namespace {wishes.namespace} stays; delete it if it is empty.", err=True)


def _summary(found: Inventory) -> str:
    """One line per step; --dry-run lists every object."""
    lines = [f"{step}: {_few(items)}" for step, items in found.steps() if items]
    if found.namespaces:
        lines.append("The namespaces go with everything in them.")
    lines += [f"{item} {remark}." for item in found.namespaces if (remark := found.remark(item))]
    return "\n".join(lines)


def _listing(found: Inventory, refusal: str, output: str) -> str:
    data = {
        "steps": [{"step": step, "objects": [str(item) for item in items]} for step, items in found.steps()],
        "volumes": {item.name: found.volumes[item.name] for item in found.namespaces if found.volumes[item.name]},
        "operatorAtWork": found.operator_at_work,
        "refused": refusal or None,
    }
    if output == "json":
        return json.dumps(data, indent=2)
    if output == "yaml":
        return str(yaml.safe_dump(data, sort_keys=False))
    lines = []
    for number, (step, items) in enumerate(found.steps(), 1):
        lines.append(f"{number}. {step}: {len(items) or 'none'}")
        lines += [f"     {item}{f' ({remark})' if (remark := found.remark(item)) else ''}" for item in items]
    if refusal:
        lines.append(f"It would be refused: {refusal}")
    return "\n".join(lines)
