"""The `allot` command: names the command groups, and loads the one that is asked for.

Most of what `allot` can do needs libraries that take longer to load than the answer takes to find. So a group is only
imported when it runs: until then its line in `GROUPS` stands for it in the help. A test holds these lines to the
groups' own words.
"""

from importlib import import_module
from typing import Any, Final, NamedTuple

import typer
from typer.core import TyperGroup


class Group(NamedTuple):
    """Where a command, or a group of them, is defined, and the first sentence of its help."""

    module: str
    attribute: str
    summary: str


GROUPS: Final = {
    "local": Group(
        "local", "app",
        "A real Kubernetes control plane with simulated nodes on this machine; root for real nodes only."
    ),
    "demo": Group(
        "demo.command", "demo",
        "A bank on one cluster: eight tenants, their services and jobs, on a real API server with 40 simulated nodes.",
    ),
    "simulate": Group(
        "simulate", "simulate",
        "Run the scheduler on manifests until nothing more can be decided, and print what it did."
    ),
    "tenants": Group(
        "tenants", "tenants",
        "List every tenant: leaves in the order in which they would be served next, then inner tenants.",
    ),
    "top": Group(
        "top", "top", "Show the live cluster's load: what runs, what waits and why, and the tenants in serving order."
    ),
    "uninstall": Group(
        "uninstall", "uninstall", "Take Allotment off a cluster, in an order that leaves nothing stuck."
    ),
    "what-if": Group("what_if", "app", "Compare the outcome of a change with the outcome without it."),
    "why": Group(
        "why", "why", "Explain why a pod waits, with numbers, and name the smallest change that would start it."
    ),
}  # fmt: skip


def load(name: str) -> Any:  # noqa: ANN401 - typer's own kind of command has no public name
    """Import a command or group, and build it as it would stand alone."""
    group = GROUPS[name]
    found = getattr(import_module(f"allotment_cli.{group.module}"), group.attribute)
    if not isinstance(found, typer.Typer):
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")
        alone.command(name)(found)
        found = alone
    command = typer.main.get_command(found)
    command.name = name
    return command


class OnDemand(TyperGroup):
    """A group whose commands are imported when they are run or completed, and only named in its help."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:  # noqa: ANN401 - as above
        """Put the real command in the place of the one that only bears its name."""
        name, named, rest = super().resolve_command(ctx, args)
        return name, named if name is None else load(name), rest


app = typer.Typer(
    name="allot",
    help="One Kubernetes cluster, shared fairly: tenants, services, shares, and why a pod waits.",
    cls=OnDemand,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for _name, _group in GROUPS.items():
    app.command(_name, help=_group.summary)(lambda: None)


@app.callback()
def allot() -> None:
    """Give every command group a common parent."""


def main() -> None:
    """Run `allot` as a program."""
    app()
