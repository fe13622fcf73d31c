"""The live cluster: asked of the scheduler where its API can be reached, else read from what it wrote on the objects.

The scheduler knows at this moment (`scheduler_api`); the objects know what it wrote seconds ago (`written`). Either way
the API server decides who may see what: a member of a tenant sees the tenant's own namespaces.

Every error that ends a command says what to do about it, on stderr.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer

from allotment_cli.scheduler_api import RefusedError, UnreachableError, ask
from allotment_kube import errors
from allotment_kube.configuration import load_configuration

T = TypeVar("T")
SYSTEM = "allotment-system"

Kubeconfig = Annotated[Path | None, typer.Option(help="Of the live cluster; default: as kubectl finds it.")]
ApiUrl = Annotated[
    str,
    typer.Option(
        "--api",
        envvar="ALLOTMENT_API",
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
        help="Only the tenant that owns this namespace; it suffices to be a member. Asked of the scheduler only.",
    ),
]


@dataclass(frozen=True, slots=True)
class Where:
    """Which cluster to ask, as whom, and where its scheduler's API is if not where it says.

    Attributes:
        namespace: whose tenant is asked about; empty: all, or the kubeconfig's own for who may not see all.
    """

    kubeconfig: Path | None = None
    api: str = ""
    system: str = SYSTEM
    namespace: str = ""

    @property
    def narrowed(self) -> dict[str, str]:
        """The query of a question about tenants."""
        return {"namespace": self.namespace} if self.namespace else {}


def read_tenants(where: Where) -> list[dict[str, Any]]:
    """Every tenant, or one's own: leaves in serving order (from the objects: by weighted share), then inner tenants."""
    rows: list[dict[str, Any]] | None = _asked("/v1/tenants", where.narrowed, where)
    if rows is not None:
        return rows
    from allotment_cli import written  # noqa: PLC0415 - the module says why

    return _run(_whole(written.tenants(where.kubeconfig, where.namespace)))


def read_top(where: Where) -> dict[str, Any]:
    """The load: what runs and waits, the scheduler's pace, and the tenants by share."""
    found: dict[str, Any] | None = _asked("/v1/top", where.narrowed, where)
    if found is not None:
        return found
    from allotment_cli import written  # noqa: PLC0415 - the module says why

    return _run(_whole(written.load(where.kubeconfig, where.namespace, own=own_namespace(where))))


def read_waits(namespace: str, name: str, where: Where) -> list[dict[str, Any]]:
    """Pods of this name, or of a Job of this name, with why they wait."""
    rows: list[dict[str, Any]] | None = _asked("/v1/why", {"namespace": namespace, "name": name}, where)
    if rows:
        return rows
    from allotment_cli import written  # noqa: PLC0415 - the module says why

    return _run(written.waits(where.kubeconfig, namespace, name))


def own_namespace(where: Where) -> str:
    """The namespace of the kubeconfig's context."""
    try:
        return load_configuration(where.kubeconfig).namespace
    except errors.ConfigurationError as error:
        _end(str(error))


def _asked(path: str, query: dict[str, str], where: Where) -> Any:  # noqa: ANN401 - JSON
    """The scheduler's answer; None where the objects must be read instead."""
    try:
        return _run(ask(path, query, kubeconfig=where.kubeconfig, url=where.api, system=where.system))
    except UnreachableError as error:
        typer.echo(f"allot: the scheduler does not answer, so what it last wrote is read: {error}", err=True)
        return None
    except RefusedError as error:
        _end(f"{error}; {_remedy(error.code)}")


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
        _end(f"this namespace belongs to no tenant; {_remedy(404)}")
    except NotInstalledError:
        _end("this cluster knows no Tenants: install Allotment on it, or name another one (--kubeconfig)")


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(work)
    except errors.ForbiddenError as error:
        _end(f"{error.message}; ask an administrator for that right, or ask again when the scheduler answers")
    except errors.UnauthorizedError as error:
        _end(f"{error.message or error}; log in to the cluster again, or renew the token of your kubeconfig")
    except errors.UnreachableError as error:
        _end(f"{error.message}; see that the cluster runs, and that the kubeconfig names its address")
    except errors.KubernetesError as error:
        _end(str(error))


def _end(message: str) -> NoReturn:
    typer.echo(f"allot: {message}", err=True)
    raise typer.Exit(2)
