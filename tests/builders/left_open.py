"""What a module of tests leaves open: closed at its end, where it was left, and told in the summary.

Sockets and files would otherwise be found whenever the collector next runs, in somebody else's test. What it does find
there is a warning in the summary and fails nobody (`filterwarnings`): which test it meets is chance, and so is whether
a peer on a busy machine was quick enough. What a program leaves open as it ends matters little; the summary names the
modules, so that it can be mended.

Everything that was there before the first test, hundreds of thousands of objects of programs and of pytest, is left out
of every later search.
"""

import gc
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

_LEFT = pytest.StashKey[list[str]]()


def pytest_collection_finish() -> None:
    """Have the collector forget what is there to stay."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def nothing_left_open(request: pytest.FixtureRequest) -> Iterator[None]:
    """Collect what a module has left, once it is through."""
    yield
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always", ResourceWarning)
        gc.collect()
    left = request.config.stash.setdefault(_LEFT, [])
    left += [f"{request.node.nodeid}: {warning.message}" for warning in found]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker tells what it has found."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["left_open"] = session.config.stash.get(_LEFT, [])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """The run hears what its worker has found."""
    told = getattr(node, "workeroutput", {}).get("left_open", [])
    node.config.stash.setdefault(_LEFT, []).extend(told)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name what was left open, by module."""
    left = terminalreporter.config.stash.get(_LEFT, [])
    if left:
        terminalreporter.section("left open")
        for line in left:
            terminalreporter.line(line)
