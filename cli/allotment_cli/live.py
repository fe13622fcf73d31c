"""The live cluster: asked of the scheduler where its API can be reached, else read from what it wrote on the objects.

The scheduler knows at this moment (`scheduler_api`); the objects know what it wrote seconds ago (`written`). Either way
the API server decides who may see what: a member of a tenant sees the tenant's own namespaces.

Every error that ends a command says what to do about it, on stderr.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from allotment_cli.outputs import end, warn
from allotment_cli.scheduler_api import RefusedError, UnreachableError, ask
from allotment_kube import errors
from allotment_kube.configuration import Configuration, load_configuration

T = TypeVar("T")
SYSTEM = "allotment-system"
FAILED = 2
"""Exit code of whatever keeps a command from answering."""

Kubeconfig = Annotated[
    Path | None, typer.Option("--kubeconfig", metavar="FILE", help="Of the live cluster; default: as kubectl finds it.")
]
Context = Annotated[str, typer.Option("--context", metavar="NAME", help="Of the kubeconfig; default: its current one.")]
ApiUrl = Annotated[
    str,
    typer.Option(
        "--api",
        envvar="ALLOTMENT_API",
        metavar="URL",
        help="Address of the scheduler's API, such as a forwarded port; default: as the scheduler published it.",
    ),
]
System = Annotated[
    str,
    typer.Option(
        "--system", envvar="ALLOTMENT_SYSTEM", metavar="NAMESPACE", help="The namespace that Allotment is installed in."
    ),
]
OfNamespace = Annotated[
    str,
    typer.Option(
        "--namespace",
        "-n",
        metavar="NAMESPACE",
        help="Of the live cluster: only the tenant that owns this namespace; it suffices to be a member.",
    ),
]


@dataclass(frozen=True, slots=True)
class Where:
    """Which cluster to ask, as whom, and where its scheduler's API is if not where it says.

    Attributes:
        namespace: whose tenant is asked about; empty: all, or the kubeconfig's own for who may not see all.
    """

    kubeconfig: Path | None = None
    context: str = ""
    api: str = ""
    system: str = SYSTEM
    namespace: str = ""

    @property
    def narrowed(self) -> dict[str, str]:
        """The query of a question about tenants."""
        return {"namespace": self.namespace} if self.namespace else {}

    def configuration(self) -> Configuration:
        """The cluster's API server, and who we are to it; a kubeconfig that is wrong ends the program."""
        try:
            return load_configuration(self.kubeconfig, context=self.context)
        except errors.ConfigurationError as error:
            end(str(error), FAILED)


def read_tenants(where: Where) -> list[dict[str, Any]]:
    """Every tenant, or one's own: leaves in serving order (from the objects: by weighted share), then inner tenants."""
    cluster = where.configuration()
    rows: list[dict[str, Any]] | None = _asked("/v1/tenants", where.narrowed, cluster, where)
    if rows is not None:
        return rows
    from allotment_cli import written  # noqa: PLC0415 - the module says why

    return _run(_whole(written.tenants(cluster, where.namespace)))


def read_top(where: Where) -> dict[str, Any]:
    """The load: what runs and waits, the scheduler's pace, and the tenants by share."""
    cluster = where.configuration()
    found: dict[str, Any] | None = _asked("/v1/top", where.narrowed, cluster, where)
    if found is not None:
        return found
    from allotment_cli import written  # noqa: PLC0415 - the module says why

    return _run(_whole(written.load(cluster, where.namespace)))


def read_waits(namespace: str, name: str, where: Where) -> list[dict[str, Any]]:
    """Pods of this name, or of a Job of this name, with why they wait; without a namespace in the context's."""
    cluster = where.configuration()
    namespace = namespace or cluster.namespace
    rows: list[dict[str, Any]] | None = _asked("/v1/why", {"namespace": namespace, "name": name}, cluster, where)
    if not rows:
        from allotment_cli import written  # noqa: PLC0415 - the module says why

        rows = _run(written.waits(cluster, namespace, name))
    if not rows:
        end(f"namespace {namespace} has no pod or job {name}; write NAMESPACE/NAME for another namespace", FAILED)
    return rows


def _asked(path: str, query: dict[str, str], cluster: Configuration, where: Where) -> Any:  # noqa: ANN401 - JSON
    """The scheduler's answer; None where the objects must be read instead."""
    try:
        return _run(ask(path, query, configuration=cluster, url=where.api, system=where.system))
    except UnreachableError as error:
        warn(f"the scheduler does not answer, so what it last wrote is read: {error}")
        return None
    except RefusedError as error:
        end(f"{error}; {_remedy(error.code)}", FAILED)


def _remedy(code: int) -> str:
    """What to do about an answer of the scheduler's API that is none."""
    return {
        401: "log in to the cluster again, or renew the token of your kubeconfig",
        403: "ask about a namespace of your own tenant (--namespace), or have its owner name you in spec.members",
        404: "ask about a namespace that a Tenant lists (--namespace)",
    }.get(code, "look at the scheduler's log")


async def _whole(reading: Coroutine[Any, Any, T]) -> T:
    """Read Tenants, of which a cluster may have none."""
    from allotment_cli.written import NotInstalledError, UnownedError  # noqa: PLC0415 - as above

    try:
        return await reading
    except UnownedError:
        end(f"this namespace belongs to no tenant; {_remedy(404)}", FAILED)
    except NotInstalledError:
        end(
            "this cluster knows no Tenants: install Allotment on it, or name another one (--context, --kubeconfig)",
            FAILED,
        )


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(work)
    except errors.KubernetesError as error:
        end(_told(error), FAILED)


def _told(error: errors.KubernetesError) -> str:
    """What the API server answered, or that it did not, and what to do about it."""
    match error:
        case errors.ForbiddenError():
            return f"{error.message}; ask an administrator for that right, or ask again when the scheduler answers"
        case errors.UnauthorizedError():
            return f"{error.message or error}; {_remedy(401)}"
        case errors.UnreachableError():
            return (
                f"{error.message}; see that the cluster runs, and that the kubeconfig names its address, and a proxy "
                "that is on the way to it (proxy-url)"
            )
        case _:
            return str(error)
