"""What benchmarks write down: every target as a row, and a run of a part leaves the other rows."""

import json
from pathlib import Path

import pytest

from builders.figures import Figure, keep
from builders.live_figures import Run, figures, ratios


def run(workload: str, contender: str, rate: float, cpu: float, *, turn: int = 0, p99: float = 0.2) -> Run:
    return Run(
        workload,
        contender,
        turn,
        pods=4000,
        pods_per_second=rate,
        seconds_to_first=1.0,
        latency_p50=0.1,
        latency_p99=p99,
        cpu_seconds=cpu,
        cpu_milliseconds_per_pod=cpu,
        server_cpu_milliseconds_per_pod=1.0,
        writes_per_pod=1.0,
        memory_megabytes=100.0,
        stolen=0.0,
    )


def rows(path: Path) -> dict[str, dict[str, object]]:
    return {row["name"]: row for row in json.loads(path.read_text())}


def test_a_part_of_the_benchmarks_replaces_its_own_rows_only(tmp_path: Path) -> None:
    path = tmp_path / "build" / "bench.json"
    keep(path, [Figure("one", 5.0, "s", 4, higher=False), Figure("other", 5.0, "pods/s", 4, higher=True)])
    keep(path, [Figure("one", 3.0, "s", 4, higher=False)])

    assert rows(path) == {
        "one": {"name": "one", "value": 3.0, "unit": "s", "target": 4, "ok": True},
        "other": {"name": "other", "value": 5.0, "unit": "pods/s", "target": 4, "ok": True},
    }


@pytest.mark.parametrize("text", ["{}", "[", '{"medians": {}}'], ids=["another form", "cut short", "an older form"])
def test_a_file_of_another_form_is_replaced(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bench.json"
    path.write_text(text)
    keep(path, [Figure("one", 3.0, "s", 4, higher=False)])
    assert list(rows(path)) == ["one"]


def test_live_targets_are_medians_of_the_ratios_within_a_turn() -> None:
    """The machine was twice as fast in the second turn, and the third was cut short."""
    runs = [run("simple", "allotment", rate, 1.0, turn=turn) for turn, rate in enumerate((250.0, 500.0, 100.0, 90.0))]
    runs += [run("simple", "kube-scheduler", rate, 8.0, turn=turn) for turn, rate in enumerate((100.0, 200.0, 100.0))]
    runs += [run("simple", "ceiling", 625.0, 1.0, turn=1), run("spread", "allotment", 500.0, 3.0)]
    runs += [run("spread", "kube-scheduler", 100.0, 8.0)]
    restart = {"secondsToFirstBinding": 21.0, "bytesPerRunningPod": 2000.0}

    found = {figure.name: (figure.value, figure.ok) for figure in figures(ratios(runs), restart)}

    assert found == {
        "simple/timesTheRateOfKubeScheduler": (2.5, True),
        "simple/partOfItsCpuPerPod": (0.125, True),
        "simple/partOfTheCeiling": (0.8, False),
        "spread/timesTheRateOfKubeScheduler": (5.0, False),
        "spread/partOfItsCpuPerPod": (0.375, False),
        "restart/secondsToFirstBinding": (21.0, False),
        "restart/bytesPerRunningPod": (2000.0, True),
    }


def test_latency_beside_running_pods_is_held_to_that_without_them() -> None:
    runs = [run("stream", "allotment", 100.0, 1.0, turn=turn, p99=0.02) for turn in range(3)]
    runs += [
        run("stream-full", "allotment", 100.0, 1.0, turn=turn, p99=p99) for turn, p99 in enumerate((0.9, 0.03, 0.02))
    ]

    [figure] = figures(ratios(runs), {})

    assert figure.name == "stream-full/timesTheP99WithoutRunningPods"
    assert figure.value == pytest.approx(1.5)
    assert not figure.ok


def test_nothing_is_said_of_what_was_not_measured() -> None:
    assert figures(ratios([run("simple", "allotment", 500.0, 1.0)]), {}) == []
