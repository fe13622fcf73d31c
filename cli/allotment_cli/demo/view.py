"""How a picture of the cluster is shown: a page for terminals, lines for everything else.

The page is a pure function of the scenes and one observation. The lines are the difference between two pictures, one
for each change worth telling, so that a log of a run reads as its story.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from allotment_api.quantities import CPU, GPU
from allotment_cli.demo.director import Scene
from allotment_cli.demo.facts import SERVICE_KINDS, Observation, ServiceFact, TenantFact

WIDTH: Final = 110
"""Columns of the page."""
_BAR: Final = 32
_POOLS: Final = ("general", "high-memory", "a100", "t4")
_MOST_REASONS: Final = 4


def page(scenes: Sequence[Scene], seen: Observation, *, acts: int) -> RenderableType:
    """Everything at once."""
    middle = Table.grid(expand=True, padding=(0, 1))
    middle.add_column(ratio=1)
    middle.add_column(ratio=1)
    middle.add_row(_services(seen), Group(_machines(seen), _programme(scenes, acts)))
    return Group(_header(scenes, acts), _tenants(seen), middle, _reasons(seen))


def _header(scenes: Sequence[Scene], acts: int) -> RenderableType:
    if not scenes:
        return Panel("Getting ready", width=WIDTH)
    scene = scenes[-1]
    text = Text.assemble((scene.act.sentence, "bold"), "\n", (scene.verdict.said or "at work …", "cyan"))
    title = f"Act {len(scenes)} of {acts}: {scene.act.name}"
    return Panel(text, title=title, title_align="left", subtitle="simulated nodes, real API server", width=WIDTH)


def _tenants(seen: Observation) -> RenderableType:
    table = Table(
        "TENANT",
        "WEIGHT",
        "DOMINANT SHARE (│ entitled)",
        "",
        "OF",
        "RUNS",
        "WAITS",
        box=None,
        header_style="bold",
        width=WIDTH,
    )
    for depth, tenant in _tree(seen):
        leaf = not seen.children(tenant.name)
        namespaces = seen.namespaces_of(tenant.name)
        runs = sum(1 for pod in seen.pods if pod.holds_room and pod.namespace in namespaces)
        waits = len(seen.waiting(tenant.name))
        table.add_row(
            f"{'  ' * depth}{tenant.name}",
            f"{tenant.weight:g}",
            bar(tenant.share, entitled=_entitled(tenant, seen), colour="green" if leaf else "blue"),
            f"{tenant.share:6.1%}",
            _short(tenant.resource),
            str(runs),
            f"[yellow]{waits}[/]" if waits else "0",
        )
    return table


def bar(share: float, *, entitled: float | None = None, colour: str = "green", width: int = _BAR) -> Text:
    """A bar of a fraction, with a mark where another fraction ends."""
    filled = round(min(1.0, max(0.0, share)) * width)
    text = Text("█" * filled, style=colour)
    text.append("·" * (width - filled), style="dim")
    if entitled is not None:
        at = min(width - 1, round(min(1.0, max(0.0, entitled)) * width))
        return Text.assemble(text[:at], ("│", "bold red"), text[at + 1 :])
    return text


def _services(seen: Observation) -> RenderableType:
    table = Table("SERVICE", "STATE", box=None, header_style="bold")
    for kind in SERVICE_KINDS:
        for service in sorted(
            (each for each in seen.services.values() if each.kind == kind), key=lambda each: (each.namespace, each.name)
        ):
            table.add_row(f"{kind} {service.name}", _state(service))
    if not seen.services:
        table.add_row("[dim]none yet[/]", "")
    return table


def _state(service: ServiceFact) -> str:
    extra = f", {service.agents} agents" if service.kind == "JenkinsAgentPool" else ""
    if service.ready:
        return f"[green]Ready[/]{' (simulated)' if service.simulated else ''}{extra}"
    return f"[yellow]{escape(service.state or service.reason or 'new')}[/]{extra}"


def _machines(seen: Observation) -> RenderableType:
    table = Table("POOL", "CPU", "", "GPU", box=None, header_style="bold")
    for pool in _POOLS:
        held, room = seen.used(CPU, pool=pool), seen.capacity(CPU, pools=(pool,))
        gpus, all_gpus = seen.used(GPU, pool=pool), seen.capacity(GPU, pools=(pool,))
        fraction = held / room if room else 0.0
        table.add_row(
            pool,
            bar(fraction, colour="magenta", width=12),
            f"{held / 1000:g}/{room // 1000}",
            f"{gpus}/{all_gpus}" if all_gpus else "",
        )
    return table


def _programme(scenes: Sequence[Scene], acts: int) -> RenderableType:
    words = [
        f"[green]✓[/] {scene.act.name} [dim]{scene.seconds:.0f} s[/]"
        if scene.happened
        else f"[red]✗[/] {scene.act.name}"
        if scene.over
        else f"[cyan]▶ {scene.act.name}[/]"
        for scene in scenes
    ]
    left = acts - len(scenes)
    return Text.from_markup("\n" + "  ".join([*words, *([f"[dim]{left} to come[/]"] if left else [])]))


def _reasons(seen: Observation) -> RenderableType:
    table = Table("WAITING", "PODS", "WHY, IN THE SCHEDULER'S WORDS", box=None, header_style="bold", width=WIDTH)
    waiting = [pod for pod in seen.pods if pod.waiting and pod.namespace in seen.tenants]
    counted = Counter((pod.namespace, pod.owner, pod.reason) for pod in waiting)
    for (namespace, owner, reason), count in counted.most_common(_MOST_REASONS):
        message = next(
            pod.message for pod in waiting if (pod.namespace, pod.owner, pod.reason) == (namespace, owner, reason)
        )
        words = message or reason or "not looked at yet"
        table.add_row(f"{namespace}/{owner}", str(count), Text(words))
    if not counted:
        table.add_row("[dim]nothing waits[/]", "", "")
    return table


def _tree(seen: Observation, parent: str = "", depth: int = 0) -> Iterator[tuple[int, TenantFact]]:
    for tenant in seen.children(parent):
        yield depth, tenant
        yield from _tree(seen, tenant.name, depth + 1)


def _entitled(tenant: TenantFact, seen: Observation) -> float | None:
    """The entitlement to the tenant's dominant resource as a fraction; GPUs of two prices make none."""
    room = seen.capacity(tenant.resource) if tenant.resource not in ("", GPU) else 0
    amount = tenant.entitlement.get(tenant.resource)
    return None if not room or amount is None else amount / room


def _short(resource: str) -> str:
    return {GPU: "GPU", CPU: "CPU"}.get(resource, resource)


def _new_reasons(before: Observation, after: Observation) -> Iterator[str]:
    told = {(pod.namespace, pod.owner, pod.reason) for pod in before.pods if pod.waiting}
    for pod in after.pods:
        key = (pod.namespace, pod.owner, pod.reason)
        if pod.waiting and pod.reason and key not in told:
            told.add(key)
            yield f"{pod.namespace}/{pod.owner} waits: {pod.message or pod.reason}"


def changes(before: Observation | None, after: Observation) -> Iterator[str]:
    """What to tell of the step from one picture to the next, a line each."""
    earlier = before or Observation()
    for name, tenant in after.tenants.items():
        known = earlier.tenants.get(name)
        if tenant.ready and (known is None or not known.ready):
            yield f"tenant {name} is ready"
    for key, service in after.services.items():
        old = earlier.services.get(key)
        if old is None or (old.ready, old.reason, old.state) != (service.ready, service.reason, service.state):
            state = f"Ready ({service.reason})" if service.ready else f"not ready: {service.reason or 'new'}"
            yield f"{service.kind} {service.namespace}/{service.name} is {state}"
    for kind, namespace, name in earlier.services.keys() - after.services.keys():
        yield f"{kind} {namespace}/{name} is gone"
    yield from _new_reasons(earlier, after)
    for name, count in after.history.restarts.items():
        if count > earlier.history.restarts.get(name, 0):
            yield f"{name} ended and was started again"
    for violation in after.history.violations[len(earlier.history.violations) :]:
        yield f"VIOLATION: {violation}"
