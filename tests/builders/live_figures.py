"""What the runs of the live benchmark come to: medians, ratios between contenders, and the targets they are held to."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from builders.figures import Figure
from builders.live_contenders import CONTENDERS

Medians = Mapping[str, Mapping[str, Mapping[str, float]]]
"""By workload, contender and quantity."""
TIMES_THE_RATE: Final = {"simple": 2.5, "spread": 6.0, "affinity": 6.0, "anti-affinity": 6.0}
"""What our rate is to be of kube-scheduler's, by workload."""


@dataclass
class Run:
    """One contender's run of one workload. Seconds, but where the name says otherwise."""

    workload: str
    contender: str
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


def summary(runs: Sequence[Run]) -> dict[str, dict[str, dict[str, float]]]:
    """Medians by workload and contender, and of the rate the slowest and the fastest run."""
    out: dict[str, dict[str, dict[str, float]]] = {}
    for workload, contender in dict.fromkeys((run.workload, run.contender) for run in runs):
        mine = [asdict(run) for run in runs if (run.workload, run.contender) == (workload, contender)]
        numbers = [name for name, value in mine[0].items() if isinstance(value, float | int)]
        rates = sorted(each["pods_per_second"] for each in mine)
        medians = {name: statistics.median(each[name] for each in mine) for name in numbers}
        more = {"slowest": rates[0], "fastest": rates[-1], "runs": len(mine)}
        out.setdefault(workload, {})[contender] = {**medians, **more}
    return out


def ratios(medians: Medians) -> dict[str, dict[str, float]]:
    """What counts: ours by each of the others, per workload."""
    out: dict[str, dict[str, float]] = {}
    for workload, found in medians.items():
        ours, peer, ceiling = (found.get(name) for name in CONTENDERS)
        of = out.setdefault(workload, {})
        if ours and peer:
            of["timesTheRateOfKubeScheduler"] = ours["pods_per_second"] / peer["pods_per_second"]
            of["partOfItsCpuPerPod"] = ours["cpu_milliseconds_per_pod"] / peer["cpu_milliseconds_per_pod"]
            of["partOfItsCpuInAll"] = ours["cpu_seconds"] / peer["cpu_seconds"]
        if ours and ceiling:
            of["partOfTheCeiling"] = ours["pods_per_second"] / ceiling["pods_per_second"]
        empty = medians.get("stream", {}).get("allotment")
        if ours and empty and workload == "stream-full":
            of["timesTheP50WithoutRunningPods"] = ours["latency_p50"] / empty["latency_p50"]
            of["timesTheP99WithoutRunningPods"] = ours["latency_p99"] / empty["latency_p99"]
    return out


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
    if restart:
        first, memory = restart["secondsToFirstBinding"], restart["bytesPerRunningPod"]
        out.append(Figure("restart/secondsToFirstBinding", first, "s", 20, higher=False))
        out.append(Figure("restart/bytesPerRunningPod", memory, "bytes", 2048, higher=False))
    return out
