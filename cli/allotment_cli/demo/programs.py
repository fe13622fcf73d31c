"""Operator and scheduler as processes of this machine, with their own accounts' tokens, started again when they end.

Each program gets what its pod would get: the settings of the chart's ConfigMap, a kubeconfig that names a token file,
and a token of its ServiceAccount in that file, replaced long before it runs out. It gets nothing else: whatever it can
do, the chart's roles allow.

A program that ends, however it ends, is started again after a moment, as a kubelet would. Every start leaves a record
(`ProcessRecord`) in the folder, so that nobody needs to search for processes by name.
"""

import asyncio
import contextlib
import os
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from allotment_kube.client import Client
from allotment_kube.errors import ApiError
from allotment_kube.resources import CONFIG_MAPS
from allotment_local import process
from allotment_local.process import ProcessRecord

NAMESPACE: Final = "allotment-system"
TOKEN_SECONDS: Final = 600
"""The least that the API server gives a token; renewed at half its life."""
PAUSE_SECONDS: Final = 1.0
"""Before a program that ended is started again."""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(slots=True)
class Program:
    """One of the two programs."""

    name: str
    module: str
    folder: Path
    port: int = field(default_factory=_free_port)
    restarts: int = 0
    ended: str = ""
    """How it ended last."""

    @property
    def token(self) -> Path:
        """The file that holds its token."""
        return self.folder / f"{self.name}.token"

    @property
    def log(self) -> Path:
        """The file that it logs to."""
        return self.folder / f"{self.name}.log"

    @property
    def record(self) -> Path:
        """The file that says which process it is."""
        return self.folder / f"{self.name}.json"

    def command(self) -> list[str]:
        """The command line, as the chart's Deployment has it but for the kubeconfig."""
        files = ("--config", str(self.folder / f"{self.name}.yaml"), "--kubeconfig", str(self._kubeconfig))
        return [sys.executable, "-m", self.module, *files]

    def environment(self) -> dict[str, str]:
        """The environment: ours without what would name another cluster or other settings."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("ALLOTMENT_", "KUBE"))}
        own = {
            "ALLOTMENT_HTTP_HOST": "127.0.0.1",
            "ALLOTMENT_HTTP_PORT": str(self.port),
            "ALLOTMENT_NAMESPACE": NAMESPACE,
            "ALLOTMENT_LOG_FORMAT": "json",
        }
        return {**kept, **own}

    @property
    def _kubeconfig(self) -> Path:
        return self.folder / f"{self.name}.kubeconfig"

    def write_kubeconfig(self, admin: Path) -> None:
        """Write a kubeconfig for the administrator's cluster and this program's token file."""
        cluster = yaml.safe_load(admin.read_text(encoding="utf-8"))["clusters"][0]
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [cluster],
            "users": [{"name": self.name, "user": {"tokenFile": str(self.token)}}],
            "contexts": [{"name": self.name, "context": {"cluster": cluster["name"], "user": self.name}}],
            "current-context": self.name,
        }
        _write_private(self._kubeconfig, yaml.safe_dump(content, sort_keys=False))

    def state(self) -> Mapping[str, Any]:
        """How it is, for whoever asks the backstage."""
        record = ProcessRecord.load(self.record)
        running = record is not None and record.is_running()
        return {
            "pid": record.pid if record else None,
            "running": running,
            "restarts": self.restarts,
            "log": str(self.log),
        }


def both(folder: Path) -> list[Program]:
    """The two programs, as the chart names them."""
    return [
        Program("allotment-operator", "allotment_operator.main", folder),
        Program("allotment-scheduler", "allotment_scheduler.shell.main", folder),
    ]


async def prepare(program: Program, client: Client, admin: Path) -> None:
    """Fetch what the program's pod would find mounted."""
    settings = await client.get(CONFIG_MAPS, program.name, namespace=NAMESPACE)
    [text] = settings["data"].values()
    _write_private(program.folder / f"{program.name}.yaml", text)
    program.write_kubeconfig(admin)
    await renew_token(program, client)


async def renew_token(program: Program, client: Client) -> None:
    """Put a fresh token into the program's file, in one step."""
    token, _ = await client.service_account_token(NAMESPACE, program.name, seconds=TOKEN_SECONDS)
    _write_private(program.token, token)


async def keep_token(program: Program, client: Client) -> None:
    """Renew the token until cancelled; a failure is tried again while the old one is still good."""
    while True:
        await asyncio.sleep(TOKEN_SECONDS / 2)
        with contextlib.suppress(ApiError):
            await renew_token(program, client)


async def keep_running(program: Program) -> None:
    """Run the program until cancelled, again whenever it ends; cancelling ends it."""
    while True:
        began = time.monotonic()
        record = process.spawn(program.command(), log=program.log, environment=program.environment())
        record.save(program.record)
        try:
            while record.is_running():  # noqa: ASYNC110 - a process tells nobody that it ended
                await asyncio.sleep(0.1)
        finally:
            process.terminate(record, grace=3.0)
        program.ended = process.reap(record.pid)
        program.restarts += 1
        # One that ends at once, for a wrong setting say, must not be started in a tight loop.
        await asyncio.sleep(PAUSE_SECONDS if time.monotonic() - began > 5 else 3 * PAUSE_SECONDS)


def _write_private(path: Path, text: str) -> None:
    temporary = path.with_suffix(f"{path.suffix}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)
