"""What a machine needs before it can carry real nodes, checked before anything is touched.

Nothing is ever installed or changed here, with one exception: `python -m allotment_local.real_node.requirements
--install` installs the missing Debian packages, and only where CI=true and ALLOT_REAL_NODE=1 say that the machine is
thrown away afterwards. Everybody else gets the exact command to run.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from allotment_local.errors import ExitCode, LocalClusterError
from allotment_local.real_node.cgroups import CgroupTree
from allotment_local.real_node.tools import run, succeeds

CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
"""Where Debian and where everybody else puts network plugins."""

_CNI_PLUGINS = ("bridge", "host-local", "loopback", "portmap")

RUN_PACKAGES: Mapping[str, str] = {
    "containerd": "containerd",
    "containerd-shim-runc-v2": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "ip6tables": "iptables",
    "iptables-save": "iptables",
    "conntrack": "conntrack",
    "ipset": "ipset",
    "ip": "iproute2",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "mount": "mount",
    "losetup": "mount",
    "mkfs.xfs": "xfsprogs",
    "xfs_growfs": "xfsprogs",
}
"""Program → Debian package, for running nodes."""

IMAGE_PACKAGES: Mapping[str, str] = {"debootstrap": "debootstrap", "mvn": "maven"}
"""Program → Debian package, for making the services' images."""

_APT_SECONDS = 900
"""For the lock of another apt, for slow mirrors: limits are for what hangs."""

_FILE_SYSTEMS = {"overlay": "containers", "xfs": "volumes"}
_BRIDGE_FILTER = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
_LOOP_CONTROL = Path("/dev/loop-control")


@dataclass(frozen=True, slots=True)
class Lack:
    """Something that is missing.

    Attributes:
        what: a sentence.
        packages: Debian packages that would bring it.
        module: the kernel module that would bring it.
    """

    what: str
    packages: tuple[str, ...] = ()
    module: str = ""


def lacks(programs: Mapping[str, str] = {**RUN_PACKAGES, **IMAGE_PACKAGES}) -> list[Lack]:
    """Everything that is missing on this machine, the machine itself first."""
    return [*_machine_lacks(), *_kernel_lacks(), *_program_lacks(programs)]


def _machine_lacks() -> Iterable[Lack]:
    if sys.platform != "linux":
        yield Lack("Real nodes need Linux: their containers are Linux processes.")
    elif os.geteuid() != 0:
        yield Lack("Real nodes need root: they make namespaces, mounts and control groups.")


def _kernel_lacks() -> Iterable[Lack]:
    known = Path("/proc/filesystems").read_text(encoding="ascii").split() if sys.platform == "linux" else []
    for name, purpose in _FILE_SYSTEMS.items():
        if name not in known:
            yield Lack(f"The kernel knows no {name} file system, which {purpose} need.", module=name)
    if not _BRIDGE_FILTER.exists():
        yield Lack("The kernel does not filter bridged traffic, which Services need.", module="br_netfilter")
    if not _LOOP_CONTROL.exists():
        yield Lack("The kernel has no loop devices, which volumes need.", module="loop")
    for controller in CgroupTree().missing_controllers():
        yield Lack(f"The control-group controller {controller} is not available, which kubelets need.")


def _program_lacks(programs: Mapping[str, str]) -> Iterable[Lack]:
    for program, package in programs.items():
        if shutil.which(program, path=search_path()) is None:
            yield Lack(f"The program {program} is missing.", (package,))
    if "containerd" in programs and cni_folder() is None:
        yield Lack(
            f"No folder of {', '.join(map(str, CNI_FOLDERS))} holds the network plugins {', '.join(_CNI_PLUGINS)}.",
            ("containernetworking-plugins",),
        )


def search_path(environment: Mapping[str, str] = os.environ) -> str:
    """PATH with the folders of system programs, which root's PATH may lack under sudo."""
    return os.pathsep.join([environment.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def program(name: str) -> str:
    """The path of a program of the machine; `check` has said before that it is there."""
    found = shutil.which(name, path=search_path())
    if found is None:
        raise LocalClusterError(f"The program {name} is missing.", hint=install_command([RUN_PACKAGES.get(name, name)]))
    return found


def cni_folder() -> Path | None:
    """The folder with the network plugins."""
    for folder in CNI_FOLDERS:
        if all((folder / plugin).is_file() for plugin in _CNI_PLUGINS):
            return folder
    return None


def install_command(packages: Iterable[str]) -> str:
    """The command that installs Debian packages."""
    return f"apt-get update && apt-get install --yes --no-install-recommends {' '.join(sorted(set(packages)))}"


def check(programs: Mapping[str, str] = RUN_PACKAGES) -> None:
    """Make sure that nothing is missing.

    Raises:
        LocalClusterError: something is; the message says what, the hint the commands that bring it.
    """
    missing = lacks(programs)
    if missing:
        raise LocalClusterError("\n".join(lack.what for lack in missing), hint=cure(missing))


def cure(missing: Iterable[Lack]) -> str:
    """The commands to run, for a person to read."""
    missing = list(missing)
    packages = [package for lack in missing for package in lack.packages]
    modules = [lack.module for lack in missing if lack.module]
    lines = [f"  modprobe --all {' '.join(modules)}"] if modules else []
    if packages:
        lines.append(f"  {install_command(packages)}")
    return "\n".join(["As root, run:", *lines]) if lines else ""


def _may_install(environment: Mapping[str, str]) -> bool:
    return environment.get("CI") == "true" and environment.get("ALLOT_REAL_NODE") == "1"


def _install(packages: Iterable[str]) -> None:
    # Machines that have just started are often busy with their own updates, which hold the lock.
    apt = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", f"DPkg::Lock::Timeout={_APT_SECONDS}")
    run(*apt, "update", "--quiet", timeout=2 * _APT_SECONDS)
    wanted = sorted(set(packages))
    # A package's services are not started: the machine's containerd is none of ours.
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n", encoding="ascii")
        policy.chmod(0o755)
    try:
        run(*apt, "install", "--yes", "--quiet", "--no-install-recommends", *wanted, timeout=4 * _APT_SECONDS)
    finally:
        if ours:
            policy.unlink()


def main(arguments: list[str] | None = None) -> int:
    """Say what is missing, or install it; the module's entry point."""
    parser = argparse.ArgumentParser(description="Check whether this machine can carry real nodes.")
    parser.add_argument("--install", action="store_true", help="install missing packages; only in CI")
    chosen = parser.parse_args(arguments)
    try:
        missing = _met(install=chosen.install)
    except LocalClusterError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    if not missing:
        sys.stdout.write("This machine can carry real nodes.\n")
        return ExitCode.OK
    sys.stderr.write("\n".join([*(lack.what for lack in missing), cure(missing)]) + "\n")
    return ExitCode.FAILED


def _met(*, install: bool) -> list[Lack]:
    """What is missing, after installing what can be installed where that is asked for."""
    missing = lacks()
    packages = [package for lack in missing for package in lack.packages]
    if install and packages:
        if not _may_install(os.environ):
            sys.stderr.write("--install works only where CI=true and ALLOT_REAL_NODE=1 are set.\n")
        else:
            _install(packages)
            missing = lacks()
    modules = [lack.module for lack in missing if lack.module]
    if install and modules and _may_install(os.environ) and succeeds("modprobe", "--all", *modules):
        missing = lacks()
    return missing


if __name__ == "__main__":
    sys.exit(main())
