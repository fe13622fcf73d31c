"""The `allot` command: assembles the command groups and turns errors into exit codes."""

import typer

from allotment_cli import local, simulate, tenants, uninstall, what_if, why
from allotment_cli.demo import command as demo

app = typer.Typer(
    name="allot",
    help="One Kubernetes cluster, shared fairly: tenants, services, shares, and why a pod waits.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


app.add_typer(local.app)
app.command("demo")(demo.demo)
app.command("simulate")(simulate.simulate)
app.command("tenants")(tenants.tenants)
app.command("uninstall")(uninstall.uninstall)
app.command("what-if")(what_if.what_if)
app.command("why")(why.why)


@app.callback()
def allot() -> None:
    """Give every command group a common parent."""


def main() -> None:
    """Run `allot` as a program."""
    app()
