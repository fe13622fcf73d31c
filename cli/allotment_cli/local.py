"""`allot local`: a real Kubernetes control plane on this machine, without a container engine.

Results go to stdout, progress and errors to stderr. Exit codes: 0 done; 1 it failed; 2 the command line or a file is
wrong, and nothing was changed; 3 the cluster does not exist or does not run as it should. `kubectl` passes on its own.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from allotment_cli.outputs import Output, OutputOption, show_data
from allotment_local.cluster import ClusterStatus, LocalCluster
from allotment_local.errors import ExitCode, InvalidInputError, LocalClusterError
from allotment_local.kubeconfig import users_kubeconfig
from allotment_local.layout import DEFAULT_CLUSTER, Layout
from allotment_local.progress import Progress, reporter
from allotment_local.prune import prune as prune_cache
from allotment_local.real_node.state import real_node_count
from allotment_local.specification import Specification

if TYPE_CHECKING:  # see `up`
    from allotment_local.pools import PoolFile

_EPILOG = "Exit codes: 0 done, 1 failed, 2 wrong usage or file, 3 not running."
_INTERRUPTED = 130
_WORTH_A_LINE = 1_000_000
"""Bytes from which on something that `prune` removes is named."""

app = typer.Typer(
    name="local",
    help="A real Kubernetes control plane with simulated nodes on this machine; root for real nodes only.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    epilog=_EPILOG,
)


def _known_names(incomplete: str) -> list[str]:
    """Complete --name with the clusters that exist."""
    return [name for name in Layout.from_environment().cluster_names() if name.startswith(incomplete)]


NameOption = Annotated[
    str,
    typer.Option(
        "--name",
        envvar="ALLOTMENT_CLUSTER",
        autocompletion=_known_names,
        help="Which cluster; several run side by side.",
    ),
]


@app.command(epilog=_EPILOG)
def up(  # noqa: PLR0917 - typer makes options of them; nobody calls it by position
    name: NameOption = DEFAULT_CLUSTER,
    nodes: Annotated[
        Path | None, typer.Option("--nodes", help="Node pool file (YAML); examples/local/ holds some.", dir_okay=False)
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Also add the context to your own kubeconfig and make it current.")
    ] = False,
    with_kube_scheduler: Annotated[
        bool, typer.Option("--with-kube-scheduler", help="Run kube-scheduler too, to compare.")
    ] = False,
    port: Annotated[
        int | None,
        typer.Option("--port", min=1, max=65535, help="Port of a new cluster's API server; default a free one."),
    ] = None,
    node: Annotated[
        bool, typer.Option("--node", help="Add a real node that runs containers (Linux, root); see docs/real-node.md.")
    ] = False,
    node_count: Annotated[
        int | None, typer.Option("--node-count", min=1, max=16, help="Add this many real nodes; implies --node.")
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option(
            "--image", help="Image that real nodes shall hold (repeatable); default all: see docs/real-node.md."
        ),
    ] = None,
    output: OutputOption = Output.table,
) -> None:
    """Start a cluster, or what is missing of it, and wait until it is ready."""
    from allotment_local.pools import read_pools  # noqa: PLC0415 - half a second that only this command pays

    with _reported() as progress:
        pools = read_pools(nodes) if nodes else None
        cluster = LocalCluster(name, progress=progress)
        started = time.monotonic()
        merge_into = users_kubeconfig() if merge else None
        if node or node_count or real_node_count(cluster.folder):
            spec = _up_with_real_nodes(
                cluster,
                count=node_count,
                images=image,
                port=port,
                pools=pools,
                merge_into=merge_into,
                progress=progress,
            )
        else:
            spec = cluster.up(pools=pools, merge_into=merge_into, with_scheduler=with_kube_scheduler, api_port=port)
        seconds = time.monotonic() - started
        status = cluster.status()
    if output is not Output.table:
        show_data(_status_data(status), output)
        return
    real = status.real_nodes
    kinds = f"{status.nodes - real} simulated and {real} real nodes" if real else f"{status.nodes} nodes"
    typer.echo(f"Cluster {name} is ready at {spec.server} after {seconds:.1f} s, with {kinds}.")
    option = "" if name == DEFAULT_CLUSTER else f" --name {name}"
    if merge:
        typer.echo(f"kubectl uses it by the context {spec.context} in {spec.merged_into}.")
    else:
        typer.echo(f"Use it:   allot local kubectl{option} get nodes\nor:       export KUBECONFIG={spec.kubeconfig}")
    typer.echo(f"End it:   allot local down{option}")


def _up_with_real_nodes(
    cluster: LocalCluster,
    *,
    count: int | None,
    images: list[str] | None,
    port: int | None,
    pools: "PoolFile | None",
    merge_into: Path | None,
    progress: Progress,
) -> Specification:
    from allotment_local.real_node.fleet import API_PORT, Fleet  # noqa: PLC0415 - only who has real nodes pays
    from allotment_local.real_node.images.recipes import chosen  # noqa: PLC0415 - as above

    if port not in {None, API_PORT}:
        raise InvalidInputError(f"With real nodes the API server listens on {API_PORT}.", hint="Leave out --port.")
    return Fleet(cluster, progress=progress).up(
        count=count or 1, images=chosen(images), pools=pools, merge_into=merge_into
    )


@app.command(epilog=_EPILOG)
def down(
    name: NameOption = DEFAULT_CLUSTER,
    every: Annotated[bool, typer.Option("--all", help="Every cluster of this user.")] = False,
) -> None:
    """End a cluster and remove all of it: processes, data, logs, merged context.

    Works on whatever is left of it, also after a crash or a reboot. A cluster that is not there is no error.
    """
    with _reported() as progress:
        names = Layout.from_environment().cluster_names() if every else [name]
        for each in names:
            there = LocalCluster(each, progress=progress).down()
            typer.echo(f"Cluster {each} is gone." if there else f"There is no cluster {each}.")
        if not names:
            typer.echo("There are no clusters.")


@app.command(epilog=_EPILOG)
def status(
    name: Annotated[str | None, typer.Option("--name", autocompletion=_known_names, help="Only this cluster.")] = None,
    output: OutputOption = Output.table,
) -> None:
    """Show every cluster: components, nodes, and what a dead component said last.

    Ends with 3 if a cluster does not run as it should, or if there is none.
    """
    with _reported():
        names = [name] if name else Layout.from_environment().cluster_names()
        states = [LocalCluster(each).status() for each in names]
    if output is not Output.table:
        data = [_status_data(state) for state in states]
        show_data(data[0] if name else data, output)
    else:
        _print_status(states)
    if not states or not all(state.healthy for state in states):
        raise typer.Exit(ExitCode.NOT_RUNNING)


@app.command(epilog=_EPILOG)
def logs(
    component: Annotated[str | None, typer.Argument(help="etcd, kube-apiserver, …, or audit; default all.")] = None,
    name: NameOption = DEFAULT_CLUSTER,
    lines: Annotated[int, typer.Option("--lines", min=0, help="How many of the last lines; 0 for all.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines until interrupted.")] = False,
) -> None:
    """Print the components' logs, each line with its component where there are several."""
    with _reported():
        folder = LocalCluster(name).specification.logs
        known = {path.stem: path for path in sorted(folder.glob("*.log"))}
        if component is not None and component not in known:
            raise InvalidInputError(f"There is no log of {component!r}.", hint=f"There are: {', '.join(known)}.")
        chosen = {component: known[component]} if component else known
        _print_logs(chosen, lines=lines, follow=follow)


@app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False},
)
def kubectl(context: typer.Context, name: NameOption = DEFAULT_CLUSTER) -> None:
    """Run kubectl on a cluster as its administrator: `allot local kubectl get pods -A`.

    Everything after the first word is kubectl's, and so is the exit code.
    """
    with _reported():
        cluster = LocalCluster(name)
        command = cluster.specification.binaries["kubectl"]
        environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
    os.execve(command[0], [*command, *context.args], environment)  # noqa: S606 - kubectl takes our place and terminal


@app.command(epilog=_EPILOG)
def prune(
    every: Annotated[
        bool,
        typer.Option("--all", help="Also current binaries and images: the next `up` makes them again, minutes long."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    output: OutputOption = Output.table,
) -> None:
    """Remove old binaries and images and the caches of builds, and say how much room that gives.

    Running clusters, their binaries and the youngest image of each name stay.
    """
    with _reported() as progress:
        removed = prune_cache(Layout.from_environment(), everything=every, dry_run=dry_run, progress=progress)
    if output is not Output.table:
        show_data([{"path": str(item.path), "bytes": item.size} for item in removed], output)
        return
    large = [item for item in removed if item.size >= _WORTH_A_LINE]
    for item in large:
        typer.echo(f"{_megabytes(item.size):>9}  {item.path}")
    if small := removed[len(large) :]:  # the largest come first
        typer.echo(f"{_megabytes(sum(item.size for item in small)):>9}  {len(small)} smaller ones")
    total = _megabytes(sum(item.size for item in removed))
    typer.echo(f"{total:>9}  {'would be' if dry_run else 'are'} free again.")


@contextmanager
def _reported() -> Iterator[Progress]:
    """Give a command its progress; print a LocalClusterError without traceback and end with its exit code."""
    try:
        with reporter() as progress:
            yield progress
    except LocalClusterError as error:
        _show_error(error)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        typer.echo("Interrupted.", err=True)
        raise typer.Exit(_INTERRUPTED) from None


def _show_error(error: LocalClusterError) -> None:
    console = Console(stderr=True)
    first, *rest = error.message.splitlines()
    console.print(f"[bold red]Error:[/] {escape(first)}", highlight=False, soft_wrap=True)
    for line in rest:
        console.print(escape(line), highlight=False, soft_wrap=True)
    if error.hint:
        console.print(f"[bold]What to do:[/] {escape(error.hint)}", highlight=False, soft_wrap=True)


def _status_data(state: ClusterStatus) -> dict[str, Any]:
    return {
        "name": state.name,
        "phase": state.phase,
        "server": state.server,
        "kubeconfig": str(state.kubeconfig),
        "apiReady": state.api_ready,
        "nodes": state.nodes,
        "nodesReady": state.nodes_ready,
        "realNodes": state.real_nodes,
        "ports": dict(state.ports),
        "components": [
            {
                "name": component.name,
                "running": component.running,
                "pid": component.pid,
                "log": str(component.log),
                "lastLines": list(component.last_lines),
            }
            for component in state.components
        ],
    }


def _print_status(states: list[ClusterStatus]) -> None:
    console = Console()
    if not states:
        console.print("There are no clusters. `allot local up` starts one.", highlight=False)
        return
    table = Table("CLUSTER", "PHASE", "SERVER", "NODES READY", "COMPONENTS", box=None, header_style="bold")
    for state in states:
        running = sum(component.running for component in state.components)
        colour = {"Running": "green", "Degraded": "red", "Stopped": "yellow"}[state.phase]
        table.add_row(
            state.name,
            f"[{colour}]{state.phase}[/]",
            state.server,
            _nodes(state),
            f"{running}/{len(state.components)} running",
        )
    console.print(table)
    for state in states:
        for component in state.components:
            if not component.running:
                console.print(f"\n{state.name}: {component.name} is dead; the end of {component.log}:", highlight=False)
                for line in component.last_lines:
                    console.print(f"  {escape(line)}", highlight=False, soft_wrap=True)


def _nodes(state: ClusterStatus) -> str:
    if not state.api_ready:
        return "?"
    return f"{state.nodes_ready}/{state.nodes}" + (f" ({state.real_nodes} real)" if state.real_nodes else "")


def _print_logs(chosen: dict[str, Path], *, lines: int, follow: bool) -> None:
    """Print the ends of logs, then on request what is appended to them."""
    files: dict[str, TextIO] = {}
    width = max((len(name) for name in chosen), default=0) if len(chosen) > 1 else 0

    def show(name: str, line: str) -> None:
        typer.echo(f"{name:{width}} | {line.rstrip()}" if width else line.rstrip())

    try:
        for name, path in chosen.items():
            files[name] = path.open(encoding="utf-8", errors="replace")
            content = files[name].readlines()
            for line in content[-lines:] if lines else content:
                show(name, line)
        while follow:
            fresh = [(name, line) for name, file in files.items() for line in file.readlines()]
            for name, line in fresh:
                show(name, line)
            if not fresh:
                time.sleep(0.3)
    finally:
        for file in files.values():
            file.close()


def _megabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
