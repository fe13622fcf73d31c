"""What the commands print as JSON: a stable interface, field by field.

How it thinks: one table per command, by paths into its answer; `[]` stands for the entries of a list and `.*` for the
values of a map. The reference page is generated from it, and a test holds what the commands print to it.

It must never lose a field, nor change a type: programs read them. New fields may come.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class OutputField:
    """One field: where it stands, what it is, and what it means. `type` ends in `?` where it may be null."""

    path: str
    type: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Output:
    """The answer of one command."""

    command: str
    about: str
    fields: tuple[OutputField, ...]


def _pod(prefix: str) -> tuple[OutputField, ...]:
    return (
        OutputField(f"{prefix}.namespace", "text", "Namespace of the pod."),
        OutputField(f"{prefix}.pod", "text", "Name of the pod."),
    )


def _tenant(prefix: str) -> tuple[OutputField, ...]:
    amounts = "by resource, in thousandths of a CPU, bytes, or pieces"
    return (
        OutputField(f"{prefix}.name", "text", "The tenant; NAME/own for what an inner tenant runs itself."),
        OutputField(f"{prefix}.parent", "text?", "Tenant that it is part of; null at the top."),
        OutputField(f"{prefix}.weight", "number", "Claim relative to the other children of its parent."),
        OutputField(f"{prefix}.dominantShare", "number", "Largest fraction of any resource that it uses."),
        OutputField(f"{prefix}.dominantResource", "text?", "The resource that this is of; null while nothing runs."),
        OutputField(f"{prefix}.weightedShare", "number?", "Dominant share divided by weight; null at weight 0."),
        OutputField(f"{prefix}.used.*", "integer", f"What its pods hold, {amounts}; zeros are left out."),
        OutputField(f"{prefix}.guaranteed.*", "integer", f"Its guarantee for the whole cluster, {amounts}."),
        OutputField(f"{prefix}.limits.*", "integer", f"Its limits for the whole cluster, {amounts}."),
        OutputField(f"{prefix}.entitlement.*", "number", f"What it may claim back at the present demand, {amounts}."),
        OutputField(f"{prefix}.pending", "integer", "Pods of it, and of all below it, that wait."),
    )  # fmt: skip


def _reason(prefix: str, *, change: bool) -> tuple[OutputField, ...]:
    found = (
        *_pod(prefix),
        OutputField(f"{prefix}.reason", "text", "Why it waits, as a code (see the guide to scheduling)."),
        OutputField(f"{prefix}.message", "text", "The same in a sentence with numbers; its wording may change."),
    )
    last = OutputField(f"{prefix}.change", "text?", "The smallest change that would help; null where none is known.")
    return (*found, last) if change else found


OUTPUTS: Final[tuple[Output, ...]] = (
    Output(
        "allot simulate -f FILE -o json",
        "What the scheduler would do until nothing more can be decided. Lists are chronological, a pod may occur in "
        "several; `pending` is the last word.",
        (
            OutputField("bindings[].round", "integer", "Round in which the pod started, from 1."),
            *_pod("bindings[]"),
            OutputField("bindings[].node", "text", "Node that it started on."),
            OutputField("evictions[].round", "integer", "Round in which the pod was evicted, from 1."),
            *_pod("evictions[]"),
            OutputField("evictions[].for", "text", "NAMESPACE/POD that it made room for; of a gang the first pod."),
            OutputField("evictions[].reason", "text", "The rule: `P`, `R1` or `R2`."),
            *_reason("pending[]", change=False),
            *_tenant("tenants[]"),
            OutputField("rounds", "integer", "Rounds in which anything was decided."),
        ),
    ),
    Output(
        "allot tenants [-f FILE] -o json",
        "Every tenant: leaves in the order in which they would be served next (suspended ones last), then inner ones.",
        _tenant("[]"),
    ),
    Output(
        "allot top -o json",
        "The load. Where the scheduler does not answer there are only `running`, `waiting`, `waitingByReason` and "
        "`tenants`, from what it last wrote on the objects.",
        (
            OutputField("nodes", "integer", "Nodes of the cluster."),
            OutputField("running", "integer", "Pods that have a node, or are on their way to one."),
            OutputField("waiting", "integer", "Pods that wait for a node."),
            OutputField("waitingByReason.*", "integer", "How many of them wait for which reason, by code."),
            OutputField("starting", "integer", "Starts under way: decided, and not seen on their nodes yet."),
            OutputField("leaving", "integer", "Pods that are on their way out."),
            OutputField("cycles", "integer", "Cycles since this copy of the scheduler began."),
            OutputField("lastCycleSeconds", "number", "Time that the last cycle took to decide."),
            OutputField("evictions.*", "integer", "Accepted evictions since then, by rule; empty for one tenant."),
            *_tenant("tenants[]"),
        ),
    ),
    Output(
        "allot why NAME [-f FILE] -o json",
        "The pods of that name, or of the workload of that name. `reason` is `Running` where a pod runs, `StartsNow` "
        "where it would start at once (with `-f`); from the objects' statuses also `Succeeded` and `Failed`. The live "
        "scheduler explains up to 50 pods, those that wait first; where there are more, the last entry counts the "
        "others: its `pod` is `N more`, its `reason` `Running` where all of them run and `NotShown` otherwise.",
        _reason("[]", change=True),
    ),
    Output(
        "allot what-if -f FILE --add|--change|--drain … -o json",
        "The differences that the change makes.",
        (
            *_pod("starts[]"),
            OutputField("starts[].node", "text", "Node that the pod starts on; it did not run before."),
            *_pod("moves[]"),
            OutputField("moves[].from", "text", "Node that it runs on without the change."),
            OutputField("moves[].node", "text", "Node that it runs on with it."),
            *_reason("displaced[]", change=True),
            *_reason("waits[]", change=True),
        ),
    ),
)
"""Every command whose JSON is an interface."""
