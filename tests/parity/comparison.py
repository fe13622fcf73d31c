"""kube-scheduler's verdicts beside ours, on one case at a time; and the smallest case that still tells them apart."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

from parity import ours
from parity.referee import PodName, Referee, Verdict

Object = dict[str, Any]

_PATIENT: Final = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds before a doubted verdict is asked for again: a late watch has come by then."""

_HASTY: Final = (0.2, 1.0)
"""The same while a case is being shrunk, where a wrong answer costs only size."""


class _PlainDumper(yaml.SafeDumper):
    """Writes what occurs twice twice."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - as in the base class
        return True


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A pod on which we and kube-scheduler disagree, also when asked again and again."""

    pod: PodName
    theirs: Verdict
    live: frozenset[str] | None
    offline: frozenset[str] | None

    def __str__(self) -> str:
        told = "" if self.live == self.offline else f"; offline {_listed(self.offline)}"
        theirs = f"kube-scheduler {_listed(self.theirs.nodes)} ({self.theirs.message})"
        return f"{'/'.join(self.pod)}: {theirs}; ours {_listed(self.live)}{told}"


@dataclass(slots=True)
class Tally:
    """How much was compared."""

    cases: int = 0
    pods: int = 0
    nodes: int = 0
    """Verdicts on a pod and a node."""
    everywhere: int = 0
    somewhere: int = 0
    """Pods that could start on some nodes, but not on all: where filters decide."""
    nowhere: int = 0
    untried: int = 0
    asked_again: int = 0

    def __str__(self) -> str:
        return (
            f"{self.pods} pods in {self.cases} clusters, {self.nodes} verdicts on a pod and a node "
            f"({self.somewhere} pods fit on some nodes, {self.nowhere} on none, {self.everywhere} on all, "
            f"{self.untried} are gated; {self.asked_again} asked again)"
        )


async def compare(
    referee: Referee, objects: Sequence[Object], tally: Tally, *, pauses: Sequence[float] = _PATIENT
) -> list[Disagreement]:
    """Put a case before kube-scheduler and before our engine, and take it away again."""
    try:
        held = await referee.put(objects)
        theirs = await referee.verdicts(held)
        live, offline = ours.live(held), ours.offline(held)
        found = []
        for pod, verdict in theirs.items():
            if not live[pod] == offline[pod] == verdict.nodes:
                tally.asked_again += 1
                manifest = next(each for each in objects if each["kind"] == "Pod" and _name(each) == pod)
                verdict = await _lasting(referee, manifest, verdict, live[pod], pauses)  # noqa: PLW2901 - the last word
                if not live[pod] == offline[pod] == verdict.nodes:
                    found.append(Disagreement(pod, verdict, live[pod], offline[pod]))
        _count(tally, theirs, sum(each["kind"] == "Node" for each in objects))
        return found
    finally:
        await referee.clear()


async def shrunk(referee: Referee, objects: Sequence[Object], pod: PodName) -> list[Object]:
    """The case with everything left out that the disagreement on a pod does not need."""
    judged = [each for each in objects if each["kind"] == "Pod" and _name(each) == pod]
    entries = [entry for each in judged for entry in each["spec"].get("resourceClaims", ())]
    used = {(pod[0], entry["resourceClaimName"]) for entry in entries}  # without them it is never tried
    judged = [each for each in objects if each["kind"] == "ResourceClaim" and _name(each) in used] + judged
    rest = [each for each in objects if each not in judged and (each["kind"] != "Pod" or each["spec"].get("nodeName"))]

    async def still(kept: list[Object]) -> bool:
        return bool(await compare(referee, [*kept, *judged], Tally(), pauses=_HASTY))

    size = len(rest) // 2
    while size >= 1:
        start = 0
        while start < len(rest):
            fewer = rest[:start] + rest[start + size :]
            if await still(fewer):
                rest = fewer
            else:
                start += size
        size //= 2
    return [*rest, *judged]


def as_yaml(objects: Sequence[Object]) -> str:
    """A case as text: what a regression case begins with."""
    return yaml.dump(list(objects), Dumper=_PlainDumper, sort_keys=False, width=120)


async def _lasting(
    referee: Referee, manifest: Object, verdict: Verdict, wanted: frozenset[str] | None, pauses: Sequence[float]
) -> Verdict:
    for pause in pauses:
        if verdict.nodes == wanted:
            break
        await asyncio.sleep(pause)
        verdict = await referee.ask_again(manifest)
    return verdict


def _count(tally: Tally, verdicts: dict[PodName, Verdict], nodes: int) -> None:
    tally.cases += 1
    tally.pods += len(verdicts)
    for verdict in verdicts.values():
        if verdict.nodes is None:
            tally.untried += 1
            continue
        tally.nodes += nodes
        tally.everywhere += len(verdict.nodes) == nodes
        tally.nowhere += not verdict.nodes
        tally.somewhere += 0 < len(verdict.nodes) < nodes


def _name(manifest: Object) -> PodName:
    return manifest["metadata"]["namespace"], manifest["metadata"]["name"]


def _listed(nodes: frozenset[str] | None) -> str:
    return "never tries it" if nodes is None else f"[{' '.join(sorted(nodes))}]"
