"""Where everything lies: binaries and caches in one folder, the state of clusters in another.

Two roots, both a user's own. The cache (XDG_CACHE_HOME/allotment) can be deleted at any time and is only slow to fill
again; the state (XDG_STATE_HOME/allotment) holds one folder per cluster and vanishes with `allot local down`. Nothing
is ever written outside of them but a kubeconfig merged on request.

ALLOTMENT_CACHE and ALLOTMENT_STATE override them; tests use a temporary state and the shared cache.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from allotment_local.errors import InvalidInputError

DEFAULT_CLUSTER = "allotment"

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Layout:
    """The two roots and what lies below them."""

    cache: Path
    state: Path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Layout":
        """Read ALLOTMENT_CACHE and ALLOTMENT_STATE, then the XDG variables, then fall back to the home folder."""
        home = Path(environment.get("HOME") or Path.home())

        def root(own: str, xdg: str, fallback: Path) -> Path:
            if environment.get(own):
                return Path(environment[own]).expanduser().absolute()
            base = Path(environment[xdg]) if environment.get(xdg) else fallback
            return base / "allotment"

        return cls(
            cache=root("ALLOTMENT_CACHE", "XDG_CACHE_HOME", home / ".cache"),
            state=root("ALLOTMENT_STATE", "XDG_STATE_HOME", home / ".local" / "state"),
        )

    @property
    def binaries(self) -> Path:
        """One folder per built binary, named by its content key."""
        return self.cache / "bin"

    @property
    def go_modules(self) -> Path:
        """GOMODCACHE of our builds."""
        return self.cache / "go" / "mod"

    @property
    def go_build(self) -> Path:
        """GOCACHE of our builds."""
        return self.cache / "go" / "build"

    @property
    def toolchain(self) -> Path:
        """A Go toolchain that we installed ourselves, where none was found."""
        return self.cache / "toolchain"

    @property
    def clusters(self) -> Path:
        """One folder per cluster."""
        return self.state / "clusters"

    def cluster(self, name: str) -> Path:
        """The folder of one cluster, whether it exists or not."""
        return self.clusters / valid_name(name)

    def cluster_names(self) -> list[str]:
        """The clusters that have a folder, running or not, by name."""
        if not self.clusters.is_dir():
            return []
        return sorted(path.name for path in self.clusters.iterdir() if path.is_dir() and _NAME.fullmatch(path.name))


def valid_name(name: str) -> str:
    """Return a cluster's name as it is, or refuse it: it becomes a folder, a context and part of host names."""
    if not _NAME.fullmatch(name):
        raise InvalidInputError(
            f"{name!r} cannot name a cluster.",
            hint="Use 1 to 40 lower-case letters, digits and inner hyphens, such as 'team-a'.",
        )
    return name


def module_source(module: str) -> Path:
    """The Go module's sources: inside the installed package, or beside it in a checkout.

    Args:
        module: "controlplane" or "helm".
    """
    package = Path(__file__).resolve().parent
    for candidate in (package / module, package.parent / module):
        if (candidate / "go.mod").is_file():
            return candidate
    raise InvalidInputError(
        f"The sources of the Go module {module!r} are missing beside {package}.",
        hint="Install the package again, or run from a complete checkout.",
    )
