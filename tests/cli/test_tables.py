"""What people read: the same words on every width, never folded letter by letter, and whole where it is piped."""

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from allotment_cli.tables import amount, show_load, show_tenants, show_waits, terminal


def screen(width: int = 80) -> Console:
    return Console(file=StringIO(), width=width, highlight=False, markup=False)


def text(screen: Console) -> str:
    assert isinstance(screen.file, StringIO)
    return screen.file.getvalue()


def tenant(name: str, **given: Any) -> dict[str, Any]:
    return {
        "name": name, "parent": None, "weight": 1.0, "dominantShare": 0.25, "dominantResource": "cpu",
        "weightedShare": 0.25, "used": {"cpu": 2500, "memory": 3 << 29, "pods": 7}, "guaranteed": {},
        "limits": {"cpu": 20000}, "entitlement": {"cpu": 20000}, "pending": 3, **given,
    }  # fmt: skip


def wait(pod: str, reason: str = "NoNodeFits", message: str = "0 of 2 nodes fit", change: str | None = None) -> Any:
    return {"namespace": "red", "pod": pod, "reason": reason, "message": message, "change": change}


@pytest.mark.parametrize(
    ("resource", "units", "want"),
    [
        ("cpu", 20_000, "20"),
        ("cpu", 250, "0.25"),
        ("cpu", 12_345_000, "12345"),
        ("memory", 268_435_456, "256Mi"),
        ("memory", 3 << 29, "1.5Gi"),
        ("ephemeral-storage", 1000, "1000"),
        ("hugepages-2Mi", 2 << 20, "2Mi"),
        ("nvidia.com/gpu", 16, "16"),
    ],
)
def test_amounts_are_written_as_in_manifests(resource: str, units: int, want: str) -> None:
    assert amount(resource, units) == want


@pytest.mark.parametrize("width", [50, 60, 80, 120, 200])
def test_tenants_fit_the_screen_and_what_does_not_is_named(width: int) -> None:
    shown = screen(width)

    show_tenants([tenant("red"), tenant("blue", guaranteed={"memory": 1 << 30})], shown)

    lines = text(shown).splitlines()
    assert max(map(len, lines)) <= width
    row = next(line.split() for line in lines if line.startswith("red"))
    assert {"red", "25.0%", "3", "2.5"} <= set(row)
    assert ("no room for" in text(shown)) == (width < 100)


def test_columns_in_which_nobody_has_anything_are_left_out() -> None:
    shown = screen(200)

    show_tenants([tenant("red")], shown)

    assert text(shown).splitlines()[0].split() == [
        "tenant", "weight", "share", "of", "by", "weight", "waiting", "resource", "used", "entitled", "limit",
    ]  # fmt: skip


def test_pods_that_wait_for_the_same_are_told_once() -> None:
    shown = screen(60)

    show_waits([*(wait(f"train-{number}") for number in range(8)), wait("other", change="ask for 1 cpu less")], shown)

    assert text(shown).count("0 of 2 nodes fit") == 2
    assert "8 pods wait: NoNodeFits" in text(shown)
    assert "and 3 more" in text(shown)
    assert "To start now: ask for 1 cpu less" in text(shown)


def test_what_comes_from_the_cluster_is_not_read_as_markup() -> None:
    shown = screen()

    show_waits([wait("p", message="needs [red]x[/] and [/nothing]")], shown)

    assert "needs [red]x[/] and [/nothing]" in text(shown)


def test_the_load_is_told_with_what_is_known_of_it() -> None:
    whole, read = screen(), screen()
    known = {"running": 4, "waiting": 1, "waitingByReason": {"AboveLimit": 1}, "tenants": [tenant("red")]}
    pace = {"nodes": 2, "starting": 0, "leaving": 0, "cycles": 7, "lastCycleSeconds": 0.0021, "evictions": {"R1": 2}}

    show_load({**known, **pace}, whole)
    show_load(known, read)

    assert "2 nodes; pods: 4 running, 1 waiting, 0 starting, 0 leaving" in text(whole)
    assert "7 cycles, the last one in 2.1 ms" in text(whole)
    assert "evictions: 2 R1" in text(whole)
    assert text(read).startswith("pods: 4 running, 1 waiting\n")


def test_what_is_piped_is_not_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)

    assert terminal().width > 10_000

    monkeypatch.setenv("COLUMNS", "60")

    assert terminal().width == 60
