"""Decides which programs a cluster runs: those we build, or those of the machine.

ALLOTMENT_BINARIES chooses: `build` (the default), `system` (KUBEBUILDER_ASSETS, then PATH), or a folder. Where nothing
is asked for and building is impossible, the machine's own are taken if they suffice. kube-apiserver, etcd and kubectl
are the least cluster; without kube-controller-manager no Job runs and no node is ever untainted, without kwok there are
no simulated nodes.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from allotment_local import build
from allotment_local.errors import BuildError
from allotment_local.layout import Layout
from allotment_local.progress import Progress
from allotment_local.specification import COMPONENTS

REQUIRED = ("etcd", "kube-apiserver", "kubectl")
MINIMUM_KUBERNETES = (1, 36)

Binaries = Mapping[str, tuple[str, ...]]
"""Component → the command that runs it, without flags."""


def choose(*, layout: Layout, progress: Progress, environment: Mapping[str, str] = os.environ) -> Binaries:
    """The programs to run, built first if need be.

    Raises:
        BuildError: they can neither be built nor found.
    """
    wanted = environment.get("ALLOTMENT_BINARIES", "")
    if wanted == "system":
        return found_in(_system_path(environment))
    if wanted not in ("", "build"):
        return found_in(wanted)
    try:
        return built(build.ensure(build.CONTROL_PLANE, layout=layout, progress=progress, environment=environment))
    except BuildError as error:
        if wanted == "build":
            raise
        try:
            binaries = found_in(_system_path(environment))
        except BuildError:
            raise error from None
        progress.say(f"{error.message}\nUsing this machine's own {binaries['kube-apiserver'][0]} instead.")
        return binaries


def built(binary: Path) -> Binaries:
    """All components of our own binary."""
    return {component: (str(binary), component) for component in (*COMPONENTS, "kubectl")}


def found_in(path: str) -> Binaries:
    """The components among the programs of a search path (folders joined by colons).

    Raises:
        BuildError: a required one is missing, or Kubernetes is too old.
    """
    found = {name: shutil.which(name, path=path) for name in (*COMPONENTS, "kubectl")}
    missing = [name for name in REQUIRED if found[name] is None]
    if missing:
        raise BuildError(
            f"{', '.join(missing)} not found in {path}.",
            hint="Set KUBEBUILDER_ASSETS or ALLOTMENT_BINARIES to a folder with them, or unset ALLOTMENT_BINARIES.",
        )
    binaries = {name: (program,) for name, program in found.items() if program is not None}
    _check_version(binaries["kube-apiserver"][0])
    return binaries


def _system_path(environment: Mapping[str, str]) -> str:
    parts = (environment.get("KUBEBUILDER_ASSETS", ""), environment.get("PATH", os.defpath))
    return os.pathsep.join(part for part in parts if part)


def _check_version(apiserver: str) -> None:
    try:
        done = subprocess.run([apiserver, "--version"], capture_output=True, text=True, check=False)
    except OSError as error:
        raise BuildError(f"{apiserver} cannot be run: {error.strerror}.") from error
    match = re.search(r"v(\d+)\.(\d+)", done.stdout)
    if match is None:
        raise BuildError(f"{apiserver} --version says nothing useful: {(done.stderr or done.stdout)[:200]}")
    if (int(match[1]), int(match[2])) < MINIMUM_KUBERNETES:
        raise BuildError(
            f"{apiserver} is Kubernetes {match[0]}; Allotment needs 1.36 or newer.",
            hint="MutatingAdmissionPolicy is on by default only from there. Unset ALLOTMENT_BINARIES to build 1.36.",
        )
