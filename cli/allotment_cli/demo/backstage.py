"""The process behind the scene: runs both programs and everything that stands in for what cannot be had here.

It is a process of its own so that `--keep` can leave it: programs stay supervised, tokens stay fresh, and the stand-in
controller goes on answering until `allot demo --down`. Without `--keep` it ends with the demo, however that ends: its
standard input is a pipe that only the demo holds open.

The demo speaks to it over loopback, on the stand-in controller's port and with the controller's credentials:
GET /backstage says how everything is, POST /backstage/builds queues builds.
"""

import asyncio
import contextlib
import json
import logging
import os
import secrets
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from aiohttp import web

from allotment_cli.demo import programs
from allotment_cli.demo.pod_programs import PodPrograms
from allotment_cli.demo.volumes import Volumes
from allotment_kube.client import Client
from allotment_kube.configuration import load_configuration
from allotment_simulations.jenkins_controller import StandInJenkins, application

READY_FILE: Final = "backstage.ready.json"
"""Written when everything has been started: the address and credentials of the stand-in controller."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until told to stop, or until standard input ends; `--keep` leaves standard input alone."""
    folder, admin, *rest = sys.argv[1:] if arguments is None else arguments
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(_run(Path(folder), Path(admin), tied="--keep" not in rest))
    return 0


async def _run(folder: Path, admin: Path, *, tied: bool) -> None:
    configuration = load_configuration(admin)
    running = programs.both(folder)
    # Not time.monotonic() itself: builds are timed by it, and it must be one clock for all.
    jenkins = StandInJenkins(clock=time.monotonic, token=secrets.token_hex(16))
    task = asyncio.current_task()
    if task is not None:
        _end_with(task, tied=tied)
    async with Client.connect(configuration, user_agent="allotment-demo-backstage") as client:
        for program in running:
            await programs.prepare(program, client, admin)
        port = await _serve(jenkins, running)
        address = {"url": f"http://127.0.0.1:{port}/", "username": jenkins.username, "token": jenkins.token}
        async with asyncio.TaskGroup() as group:
            group.create_task(Volumes(client).run())
            group.create_task(PodPrograms(client, configuration, jenkins).run())
            for program in running:
                group.create_task(programs.keep_running(program))
                group.create_task(programs.keep_token(program, client))
            _publish(folder / READY_FILE, json.dumps(address))


def _end_with(task: "asyncio.Task[None]", *, tied: bool) -> None:
    """Stop on SIGTERM, and, if we are tied to the demo, when it is gone."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    loop.add_signal_handler(signal.SIGINT, task.cancel)
    if tied:
        loop.add_reader(sys.stdin.fileno(), task.cancel)


async def _serve(jenkins: StandInJenkins, running: list[programs.Program]) -> int:
    """Serve the stand-in controller, and ourselves beside it."""

    async def state(_: web.Request) -> web.Response:
        builds = {
            "waiting": len(jenkins.queue()),
            "running": len(jenkins.running()),
            "finished": len(jenkins.finished()),
        }
        return web.json_response({"programs": {each.name: each.state() for each in running}, "builds": builds})

    async def queue(request: web.Request) -> web.Response:
        wanted = await request.json()
        for _ in range(int(wanted["count"])):
            jenkins.enqueue(str(wanted["label"]), seconds=float(wanted["seconds"]))
        return web.json_response({"queued": wanted["count"]})

    async def call_off(_: web.Request) -> web.Response:
        return web.json_response({"calledOff": jenkins.call_off()})

    served = application(jenkins)
    served.add_routes(
        [
            web.get("/backstage", state),
            web.post("/backstage/builds", queue),
            web.delete("/backstage/builds", call_off),
        ]
    )
    runner = web.AppRunner(served, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return int(runner.addresses[0][1])


def _publish(path: Path, text: str) -> None:
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)


if __name__ == "__main__":
    sys.exit(main())
