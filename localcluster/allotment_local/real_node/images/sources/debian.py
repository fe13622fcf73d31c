"""A Debian root file system by debootstrap, in namespaces of its own so that it leaves no mount behind."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from allotment_local.real_node.tools import ToolError, run

_UNWANTED = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/info",
    "usr/share/locale",
    "var/cache/apt",
    "var/lib/apt/lists",
    "var/log",
    "dev",  # containers get their own
)


def bootstrap(root: Path, *, suite: str, packages: Sequence[str], downloads: Path) -> None:
    """Install a minimal system with some packages into an empty folder.

    Args:
        root: the folder.
        suite: the Debian release; its signature is checked against the machine's Debian keys.
        packages: wanted beside the essential ones.
        downloads: keeps the packages, so that a second time needs little network.
    """
    cache = downloads / suite
    cache.mkdir(parents=True, exist_ok=True)
    run(
        *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
        *("debootstrap", "--variant=minbase", f"--include={','.join(packages)}", f"--cache-dir={cache}"),
        *(suite, str(root), *mirror(suite)),
        timeout=1800,
    )
    for name in _UNWANTED:
        shutil.rmtree(root / name, ignore_errors=True)
        (root / name).mkdir(parents=True)
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    (root / "etc/hostname").unlink(missing_ok=True)


def mirror(suite: str) -> list[str]:
    """Where this machine gets that release's packages from; empty leaves it to debootstrap's own default.

    A bank's machines have a mirror of their own, and often reach nothing else.
    """
    filters = ("Created-By: Packages", f"Codename: {suite}", "Component: main", "Origin: Debian")
    try:
        listed = run("apt-get", "indextargets", "--format", "$(REPO_URI)", *filters).split()
    except ToolError:
        return []
    return sorted(listed)[:1]
