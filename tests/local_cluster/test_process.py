"""Processes are known by id and start time: nothing else is ever signalled."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from allotment_local import process
from allotment_local.process import ProcessRecord


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[ProcessRecord]:
    """A process that sleeps until it is ended."""
    record = process.spawn(["/bin/sleep", "600"], log=tmp_path / "log", environment={})
    yield record
    process.terminate(record, grace=300)


def test_a_spawned_process_is_running_until_it_is_terminated(sleeper: ProcessRecord) -> None:
    assert sleeper.is_running()

    assert process.terminate(sleeper, grace=300)
    assert not sleeper.is_running()


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    program = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "print('ready', flush=True); time.sleep(600)"
    )
    log = tmp_path / "log"
    record = process.spawn([sys.executable, "-c", program], log=log, environment={})
    while not log.exists() or "ready" not in log.read_text():
        assert record.is_running()

    assert not process.terminate(record, grace=0.2)
    assert not record.is_running()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda record: replace(record, started="1"), id="another process took the id"),
        pytest.param(lambda record: replace(record, boot="earlier"), id="the machine was booted meanwhile"),
        pytest.param(lambda record: replace(record, started=""), id="it ended before its start was read"),
    ],
)
def test_a_stale_record_never_harms_the_process_that_has_its_id_now(
    sleeper: ProcessRecord, change: Callable[[ProcessRecord], ProcessRecord]
) -> None:
    stale = change(sleeper)

    assert not stale.is_running()
    assert process.terminate(stale, grace=0)
    assert sleeper.is_running()


def test_our_own_process_is_recognised() -> None:
    assert process.current().is_running()
    assert process.current().pid == os.getpid()


def test_a_zombie_counts_as_dead_and_tells_how_it_ended(tmp_path: Path) -> None:
    record = process.spawn(["/bin/sh", "-c", "exit 7"], log=tmp_path / "log", environment={})
    os.waitid(os.P_PID, record.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody collected it

    assert not record.is_running()
    assert process.reap(record.pid) == "exit status 7"
    assert not process.reap(record.pid)


def test_a_killed_process_tells_the_signal(sleeper: ProcessRecord) -> None:
    os.kill(sleeper.pid, signal.SIGKILL)
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)

    assert process.reap(sleeper.pid) == "signal SIGKILL"


def test_a_name_with_spaces_and_parentheses_does_not_confuse_the_start_time(tmp_path: Path) -> None:
    program = tmp_path / "odd) S 1 ("
    program.symlink_to("/bin/sleep")
    record = process.spawn([str(program), "600"], log=tmp_path / "log", environment={})

    assert record.started.isdigit()
    assert record.is_running()
    process.terminate(record, grace=300)


def test_a_record_survives_the_disk(sleeper: ProcessRecord, tmp_path: Path) -> None:
    sleeper.save(tmp_path / "pid.json")

    assert ProcessRecord.load(tmp_path / "pid.json") == sleeper


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"pid": 1}', '{"pid": "x", "started": "", "boot": "", "command": []}']
)
def test_a_damaged_record_is_no_record(tmp_path: Path, content: str) -> None:
    path = tmp_path / "pid.json"
    path.write_text(content)

    assert ProcessRecord.load(path) is None


def test_output_goes_to_the_log_and_signals_are_not_inherited(tmp_path: Path) -> None:
    log = tmp_path / "log"
    record = process.spawn(["/bin/sh", "-c", "echo out; echo err >&2; ps -o sid= -p $$"], log=log, environment={})
    os.waitid(os.P_PID, record.pid, os.WEXITED | os.WNOWAIT)
    process.reap(record.pid)

    assert log.read_text().split() == ["out", "err", str(record.pid)]
    assert log.stat().st_mode & 0o077 == 0


def test_a_missing_program_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        process.spawn(["/nonexistent"], log=tmp_path / "log", environment={})


def test_start_times_by_ps_are_stable() -> None:
    started = process._start_time_by_ps(os.getpid())

    assert started == process._start_time_by_ps(os.getpid())
    assert started
    assert process._start_time_by_ps(2**22 + 1) is None
