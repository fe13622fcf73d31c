"""Jars of real data services from Maven Central, and one container of a rendered pod as a plain process.

The process is what a kubelet would start from the operator's own rendering: its command, its environment, its mounted
files. Only what one machine cannot give is replaced, by text: paths of mounts, names of hosts, ports.
"""

import base64
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from builders.patience import LateError

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "allotment"

_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>dev.allotment</groupId><artifactId>jars</artifactId><version>1</version><packaging>pom</packaging>
<dependencies>{dependencies}</dependencies></project>"""


def jars(name: str, *coordinates: str) -> Path:
    """Return a folder with these artifacts and all they need, fetched once into the user's cache.

    Skips the test, with the reason, where Java or Maven is missing or an artifact cannot be had.
    """
    for program, package in (("java", "a Java runtime, 17 or newer"), ("mvn", "Maven")):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: install {package} to run a real {name}")
    target = CACHE / name
    if target.is_dir():
        return target
    CACHE.mkdir(parents=True, exist_ok=True)
    work = CACHE / f".{name}.{os.getpid()}"
    work.mkdir()
    try:
        parts = [coordinate.split(":") for coordinate in coordinates]
        dependencies = "".join(
            f"<dependency><groupId>{g}</groupId><artifactId>{a}</artifactId><version>{v}</version></dependency>"
            for g, a, v in parts
        )
        (work / "pom.xml").write_text(_POM.format(dependencies=dependencies))
        fetch = ["mvn", "-q", "-B", f"-Dmaven.repo.local={CACHE / 'maven'}", "dependency:copy-dependencies"]
        done = subprocess.run([*fetch, "-DoutputDirectory=jars"], cwd=work, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"the jars of {name} cannot be fetched: {done.stdout[-500:]}")
        (work / "jars").rename(target)
    finally:
        shutil.rmtree(work)
    return target


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@dataclass
class Container:
    """One container of a pod, as a process on this machine.

    Attributes:
        root: folder in which its mounts lie.
        substitute: text that one machine cannot give, and what stands for it.
        environment: what is set besides what the pod says.
    """

    root: Path
    substitute: Mapping[str, str]
    environment: Mapping[str, str] = field(default_factory=dict)

    def path(self, mount: str) -> Path:
        """Where a path of the container lies."""
        return self.root / mount.strip("/")

    def prepare(self, pod: Mapping[str, Any], objects: Mapping[str, Mapping[str, Any]]) -> None:
        """Write what the pod mounts; `objects` are ConfigMaps and Secrets by name."""
        volumes = {each["name"]: each for each in pod["volumes"]}
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            for mount in container["volumeMounts"]:
                volume = volumes.get(mount["name"], {"emptyDir": {}})
                self._mount(self.path(mount["mountPath"]), volume, objects)

    def start(self, container: Mapping[str, Any], pod_name: str, *, log: Path) -> subprocess.Popen[bytes]:
        """Start the container's command with its environment."""
        known = {"POD_NAME": pod_name, "HOST_IP": "127.0.0.1", **self.environment}
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.root), **known}
        for each in container["env"]:
            if "value" in each:
                value = each["value"].replace("$(POD_NAME)", pod_name)
                environment[each["name"]] = self.translate(value)
        command = [self.translate(word) for word in [*container["command"], *container.get("args", [])]]
        root = self.root
        with log.open("ab") as out:
            return subprocess.Popen(command, env=environment, stdout=out, stderr=out, cwd=root, start_new_session=True)

    def translate(self, text: str) -> str:
        """Replace what one machine cannot give."""
        for before, after in self.substitute.items():
            text = text.replace(before, after)
        return text

    def _mount(self, path: Path, volume: Mapping[str, Any], objects: Mapping[str, Mapping[str, Any]]) -> None:
        path.mkdir(parents=True, exist_ok=True)
        if "configMap" in volume:
            for key, text in objects[volume["configMap"]["name"]]["data"].items():
                (path / key).write_text(self.translate(text))
        if "secret" in volume:
            data = objects[volume["secret"]["secretName"]]["data"]
            items = volume["secret"].get("items") or [{"key": key, "path": key} for key in data]
            for item in items:
                (path / item["path"]).write_bytes(base64.b64decode(data[item["key"]]))


@contextlib.contextmanager
def running(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Take the process down at the end, with all that it started: at once, because its data goes with it."""
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(300)


def await_(what: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, *, timeout: float) -> None:
    """Wait until something holds; fail with the end of the log when the process ends or time runs out."""
    deadline = time.monotonic() + timeout
    while not what():
        if process.poll() is not None:
            pytest.fail(f"it ended with {process.returncode}:\n{log.read_text()[-4000:]}")
        if time.monotonic() > deadline:
            raise LateError(f"not within {timeout:.0f} s:\n{log.read_text()[-4000:]}")
        time.sleep(0.1)


def listens(port: int) -> bool:
    """Whether somebody listens on a port of this machine."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
