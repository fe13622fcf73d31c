"""The demo from end to end, as anybody would run it; once in peace, and once with both programs killed on the way.

Where and when the programs are killed is drawn from a seed that is printed; ALLOTMENT_TEST_SEED repeats a run.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from allotment_cli.demo.acts import MOST_AGENTS, PLAY
from allotment_local.process import ProcessRecord

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(1800),
]  # a minute and a half, on a machine with nothing else to do
PROGRAMS = ("allotment-operator", "allotment-scheduler")


class Run:
    """One run of `allot demo` with a state folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.report = folder / "report.json"
        self.lines: list[str] = []
        # A run in the background hands down that interrupts are ignored; a person's terminal does not.
        hears = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
        program = f"{hears}; from allotment_cli.main import main; main()"
        command = [sys.executable, "-c", program, "demo", "--no-color"]
        self.process = subprocess.Popen(
            [*command, "--report", str(self.report)],
            env={**os.environ, "ALLOTMENT_STATE": str(self.state)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def told(self) -> Iterator[str]:
        """Every line it tells, as it comes."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            yield self.lines[-1]

    def act_of(self, line: str) -> int:
        """Number of the act that begins with a line, 0 where none does."""
        found = re.search(r"Act (\d+) of \d+,", line)
        return int(found[1]) if found else 0

    def kill(self, program: str) -> int:
        """End a program as a power cut would; returns the id that it had."""
        [path] = self.state.glob(f"clusters/*/demo/{program}.json")
        record = ProcessRecord.load(path)
        assert record is not None
        if record.is_running():
            os.kill(record.pid, signal.SIGKILL)
        return record.pid

    def summary(self) -> dict[str, Any]:
        """Wait for the end; what it says happened."""
        assert self.process.wait(timeout=300) == 0, "\n".join(self.lines[-60:])
        found: dict[str, Any] = json.loads(self.report.read_text())
        return found

    def end(self) -> None:
        """Interrupt it if it still runs, and let it clean up."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=300)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    running = Run(tmp_path)
    yield running
    running.end()
    assert not list(running.state.glob("clusters/*/cluster.json")), "a cluster is left"


def test_every_act_happens_and_nothing_is_left(run: Run) -> None:
    for _ in run.told():
        pass

    found = run.summary()
    assert [act["name"] for act in found["acts"] if act["happened"]] == [act.name for act in PLAY]
    assert found["violations"] == []
    assert found["mostAgents"] == MOST_AGENTS
    assert set(found["restarts"]) == set(PROGRAMS)  # on a starved machine a program may lose its Lease, and comes back
    assert any("allot demo --keep" in line for line in run.lines)


@pytest.mark.soak  # it is the demo once more, and waits for two Leases besides: two minutes
def test_killed_programs_come_back_and_nothing_is_doubled_or_lost(run: Run) -> None:
    seed = int(os.environ.get("ALLOTMENT_TEST_SEED") or time.time_ns() % 10**6)
    rng = random.Random(seed)
    # From the services on: before, there is nothing to double. Each program dies once, in an act of its own drawing.
    plan = {program: (rng.randint(3, len(PLAY) - 1), rng.uniform(0, 4)) for program in PROGRAMS}
    print(f"ALLOTMENT_TEST_SEED={seed}: {plan}")  # noqa: T201 - what a failed run is repeated with

    for line in run.told():
        for program, (act, delay) in plan.items():
            if run.act_of(line) == act:
                time.sleep(delay)  # a moment within the act: there is no event to wait for
                run.kill(program)

    found = run.summary()
    assert found["happened"]
    assert found["violations"] == []
    assert all(found["restarts"][program] >= 1 for program in PROGRAMS)


def test_an_interrupted_demo_leaves_nothing(run: Run) -> None:
    for line in run.told():
        if run.act_of(line) == 1:
            run.process.send_signal(signal.SIGINT)

    assert run.process.wait(timeout=300) == 130, "\n".join(run.lines[-60:])
    assert not list(run.state.glob("clusters/*"))
