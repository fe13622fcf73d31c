"""A settings file that changes while the scheduler runs: what takes effect, what waits, and what is refused."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from allotment_kube.program.logs import fields_of
from allotment_kube.program.settings import Sources
from allotment_scheduler.shell.main import LiveSettings
from allotment_scheduler.shell.metrics import Metrics
from allotment_scheduler.shell.settings import FIXED, Settings


@pytest.fixture(autouse=True)
def level_of_logging() -> Iterator[None]:
    """Settings set the level of all logging."""
    before = logging.getLogger().level
    yield
    logging.getLogger().setLevel(before)


class Changing:
    """Settings in force, and the file that they are read from."""

    def __init__(self, file: Path, content: str) -> None:
        self.file = file
        self.metrics = Metrics()
        self._written = 0
        self._write(content)
        self.live = LiveSettings(Sources(Settings, file, {}, {}), self.metrics)
        self.changes = 0
        self.live.changed = self._count

    def _count(self) -> None:
        self.changes += 1

    def _write(self, content: str) -> None:
        self.file.write_text(content)
        self._written += 1
        os.utime(self.file, (self._written, self._written))

    def change(self, content: str) -> Settings:
        """The file is changed and looked at."""
        self._write(content)
        self.live.look()
        return self.live()

    @property
    def good(self) -> float | None:
        return self.metrics.registry.get_sample_value("allotment_scheduler_settings_good")


@pytest.mark.parametrize(
    "wrong", ["startsPerCycle: 0", "quarantineSeconds: often", "noSuchSetting: 1", "quarantineSeconds: [", ""]
)
def test_a_wrong_version_is_refused_and_every_value_of_the_last_good_one_stays(tmp_path: Path, wrong: str) -> None:
    settings = Changing(tmp_path / "settings.yaml", "startsPerCycle: 7")
    good = settings.change("{startsPerCycle: 8, quarantineSeconds: 20}")
    assert (good.starts_per_cycle, good.quarantine_seconds) == (8, 20)

    if wrong:
        assert settings.change(f"evictionSeconds: 5\n{wrong}\n") is good
    else:
        settings.file.unlink()
        settings.live.look()
        assert settings.live() is good
    assert (settings.changes, settings.good) == (1, 0)

    assert settings.change("startsPerCycle: 9").starts_per_cycle == 9
    assert (settings.changes, settings.good) == (2, 1)


def test_what_needs_a_restart_is_in_force_nowhere_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    settings = Changing(tmp_path / "settings.yaml", "leaseSeconds: 60")
    before = settings.live()
    changed = settings.change(
        "{leaseSeconds: 6, connections: 8, sharePolicy: hdrf, namespace: elsewhere, httpPort: 1, startsPerCycle: 3}"
    )
    assert {name: getattr(changed, name) for name in FIXED} == {name: getattr(before, name) for name in FIXED}
    assert changed.starts_per_cycle == 3
    told = next(record for record in caplog.records if "new settings" in record.getMessage())
    assert fields_of(told)["after_restart"] == "connections, httpPort, leaseSeconds, namespace, sharePolicy"
    again = settings.change("{leaseSeconds: 60, startsPerCycle: 4}")
    assert (again.lease_seconds, again.starts_per_cycle) == (60, 4)
