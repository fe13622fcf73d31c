"""What the runs of the live benchmark come to: medians, ratios between contenders, and the targets they are held to.

A virtual machine changes its speed within minutes, by half and more. So contenders are compared turn by turn, with
those that ran just before and after them, and the median of these ratios counts; it is not that of two medians.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from builders.figures import Figure
from builders.live_contenders import CONTENDERS

_OURS, _PEER, _CEILING = CONTENDERS
TIMES_THE_RATE: Final = {"simple": 2.5, "spread": 6.0, "affinity": 6.0, "anti-affinity": 6.0}
"""What our rate is to be of kube-scheduler's, by workload."""

FLAT: Final = 1.25
"""What latency beside 50,000 running pods is to be at most of latency without them."""


@dataclass
class Run:
    """One contender's run of one workload. Seconds, but where the name says otherwise."""

    workload: str
    contender: str
    turn: int
    pods: int
    pods_per_second: float
    seconds_to_first: float
    latency_p50: float
    latency_p99: float
    cpu_seconds: float
    cpu_milliseconds_per_pod: float
    server_cpu_milliseconds_per_pod: float
    writes_per_pod: float
    memory_megabytes: float
    stolen: float
    """Part of the machine's time that its host gave to others meanwhile."""


def summary(runs: Sequence[Run]) -> dict[str, dict[str, dict[str, float]]]:
    """Medians by workload, contender and quantity, and of the rate the slowest and the fastest run."""
    out: dict[str, dict[str, dict[str, float]]] = {}
    for workload, contender in dict.fromkeys((run.workload, run.contender) for run in runs):
        mine = [asdict(run) for run in runs if (run.workload, run.contender) == (workload, contender)]
        numbers = [name for name, value in mine[0].items() if isinstance(value, float | int)]
        rates = sorted(each["pods_per_second"] for each in mine)
        medians = {name: statistics.median(each[name] for each in mine) for name in numbers}
        more = {"slowest": rates[0], "fastest": rates[-1], "runs": len(mine)}
        out.setdefault(workload, {})[contender] = {**medians, **more}
    return out


def ratios(runs: Sequence[Run]) -> dict[str, dict[str, float]]:
    """What counts: ours by each of the others, per workload; medians over the turns that both took part in."""
    out: dict[str, dict[str, float]] = {}
    for workload in dict.fromkeys(run.workload for run in runs):
        turns = _turns(runs, workload)
        of = out.setdefault(workload, {})
        peers = [(found[_OURS], found[_PEER]) for found in turns if {_OURS, _PEER} <= found.keys()]
        if peers:
            of["timesTheRateOfKubeScheduler"] = _median(
                ours.pods_per_second / its.pods_per_second for ours, its in peers
            )
            of["partOfItsCpuPerPod"] = _median(
                ours.cpu_milliseconds_per_pod / its.cpu_milliseconds_per_pod for ours, its in peers
            )
            of["partOfItsCpuInAll"] = _median(ours.cpu_seconds / its.cpu_seconds for ours, its in peers)
        loops = [(found[_OURS], found[_CEILING]) for found in turns if {_OURS, _CEILING} <= found.keys()]
        if loops:
            of["partOfTheCeiling"] = _median(ours.pods_per_second / its.pods_per_second for ours, its in loops)
    medians = summary(runs)
    empty, full = (medians.get(name, {}).get(_OURS) for name in ("stream", "stream-full"))
    if empty and full:
        out["stream-full"]["timesTheP50WithoutRunningPods"] = full["latency_p50"] / empty["latency_p50"]
        out["stream-full"]["timesTheP99WithoutRunningPods"] = full["latency_p99"] / empty["latency_p99"]
    return out


def _turns(runs: Sequence[Run], workload: str) -> list[dict[str, Run]]:
    """Return a workload's runs by contender, turn by turn."""
    turns: dict[int, dict[str, Run]] = {}
    for run in runs:
        if run.workload == workload:
            turns.setdefault(run.turn, {})[run.contender] = run
    return list(turns.values())


def _median(values: Iterable[float]) -> float:
    return float(statistics.median(values))


def figures(compared: Mapping[str, Mapping[str, float]], restart: Mapping[str, float]) -> list[Figure]:
    """The targets, as far as these ratios and this restart say something of them."""
    out = []
    for workload, found in compared.items():
        if workload in TIMES_THE_RATE and "timesTheRateOfKubeScheduler" in found:
            rate = found["timesTheRateOfKubeScheduler"]
            out.append(
                Figure(f"{workload}/timesTheRateOfKubeScheduler", rate, "times", TIMES_THE_RATE[workload], higher=True)
            )
        if "partOfItsCpuPerPod" in found:
            part = found["partOfItsCpuPerPod"]
            out.append(Figure(f"{workload}/partOfItsCpuPerPod", part, "part", 0.25, higher=False))
        if "partOfTheCeiling" in found:
            out.append(Figure(f"{workload}/partOfTheCeiling", found["partOfTheCeiling"], "part", 0.85, higher=True))
        if (name := "timesTheP99WithoutRunningPods") in found:
            out.append(Figure(f"{workload}/{name}", found[name], "times", FLAT, higher=False))
    if restart:
        first, memory = restart["secondsToFirstBinding"], restart["bytesPerRunningPod"]
        out.append(Figure("restart/secondsToFirstBinding", first, "s", 20, higher=False))
        out.append(Figure("restart/bytesPerRunningPod", memory, "bytes", 2048, higher=False))
    return out
