"""pods/exec against a server that speaks the kubelet's side of the protocol.

There is no kubelet on the local control plane, so the peer here is ours, written from KEP-4006 and the remotecommand
package's documentation; the real one is met in the tests of a real node.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import WSMsgType, web

from allotment_kube import Client, ExecTimeoutError, errors, execute
from allotment_kube.configuration import Configuration
from allotment_kube.exec import V4, V5
from fakes.http_server import listening


def exit_status(code: int) -> bytes:
    if code == 0:
        return json.dumps({"status": "Success"}).encode()
    causes = [{"reason": "ExitCode", "message": str(code)}]
    return json.dumps({"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}}).encode()


class Kubelet:
    """Runs one of a few commands."""

    def __init__(self, *protocols: str) -> None:
        self.protocols = protocols
        self.query: list[tuple[str, str]] = []

    async def respond(self, request: web.Request) -> web.StreamResponse:
        self.query = list(request.query.items())
        command = request.query.getall("command")
        if command[0] == "forbidden":
            return web.json_response({"reason": "Forbidden"}, status=403)
        socket = web.WebSocketResponse(protocols=self.protocols)
        await socket.prepare(request)
        match command[0]:
            case "echo":
                await socket.send_bytes(b"\1")  # the real one starts each channel with an empty message
                await socket.send_bytes(b"\1" + " ".join(command[1:]).encode())
                await socket.send_bytes(b"\2warning")
                await socket.send_bytes(b"\3" + exit_status(0))
            case "exit":
                await socket.send_bytes(b"\3" + exit_status(int(command[1])))
            case "cat":
                await socket.send_bytes(b"\1" + await self._stdin(socket))
                await socket.send_bytes(b"\3" + exit_status(0))
            case "yes":
                for _ in range(64):
                    await socket.send_bytes(b"\1" + b"y" * 65536)
            case "hang":
                await socket.send_bytes(b"\1so far")
                await socket.receive()
            case "broken":
                failure = {"status": "Failure", "reason": "InternalError", "code": 500, "message": "no shell"}
                await socket.send_bytes(b"\3" + json.dumps(failure).encode())
        await socket.close()
        return socket

    @staticmethod
    async def _stdin(socket: web.WebSocketResponse) -> bytes:
        received = b""
        async for message in socket:
            assert message.type is WSMsgType.BINARY
            if message.data == b"\xff\x00":
                return received
            assert message.data[:1] == b"\0"
            received += message.data[1:]
        raise AssertionError("stdin was never closed")


@asynccontextmanager
async def kubelet(*protocols: str) -> AsyncIterator[tuple[Client, Kubelet]]:
    handler = Kubelet(*protocols)
    application = web.Application()
    application.router.add_get("/api/v1/namespaces/a/pods/p/exec", handler.respond)
    async with listening(application) as url, Client.connect(Configuration(url)) as client:
        yield client, handler


@pytest.mark.parametrize("protocol", [V5, V4])
async def test_output_and_exit_code_come_back(protocol: str) -> None:
    async with kubelet(protocol) as (client, handler):
        result = await execute(client, "a", "p", ["echo", "a b", "&c=d"], container="main")

    assert (result.exit_code, result.stdout, result.stderr) == (0, b"a b &c=d", b"warning")
    assert handler.query == [
        ("command", "echo"),
        ("command", "a b"),
        ("command", "&c=d"),
        ("stdout", "true"),
        ("stderr", "true"),
        ("container", "main"),
    ]


@pytest.mark.parametrize("code", [1, 137])
async def test_a_failing_command_is_a_result(code: int) -> None:
    async with kubelet(V5) as (client, _):
        assert (await execute(client, "a", "p", ["exit", str(code)])).exit_code == code


async def test_input_of_any_size_is_sent_and_closed() -> None:
    data = bytes(range(256)) * 1000
    async with kubelet(V5) as (client, _):
        assert (await execute(client, "a", "p", ["cat"], stdin=data)).stdout == data
        assert (await execute(client, "a", "p", ["cat"], stdin=b"")).stdout == b""


async def test_input_needs_a_server_that_can_close_it() -> None:
    async with kubelet(V4) as (client, _):
        with pytest.raises(errors.RejectedError, match="speaks none of v5"):
            await execute(client, "a", "p", ["cat"], stdin=b"x")


async def test_a_command_without_end_returns_what_it_said() -> None:
    said = b""
    async with kubelet(V5) as (client, _):
        for seconds in (0.3, 3.0, 30.0, 300.0):  # on a busy machine it may have said nothing before its time is over
            with pytest.raises(ExecTimeoutError) as raised:
                await execute(client, "a", "p", ["hang"], timeout=seconds)
            assert raised.value.partial is not None
            said = raised.value.partial.stdout
            if said:
                break

    assert said == b"so far"


async def test_a_flood_is_cut_off() -> None:
    async with kubelet(V5) as (client, _):
        with pytest.raises(errors.RejectedError, match="more than 100000 bytes"):
            await execute(client, "a", "p", ["yes"], output_limit=100_000)


@pytest.mark.parametrize(
    ("command", "want"),
    [
        ("forbidden", errors.ForbiddenError),
        ("broken", errors.UnavailableError),
        ("silent", errors.OutcomeUnknownError),
    ],
)
async def test_a_refused_or_broken_exec_is_classed(command: str, want: type[errors.ApiError]) -> None:
    async with kubelet(V5) as (client, _):
        with pytest.raises(want) as raised:
            await execute(client, "a", "p", [command, "s3cret"])

    assert "s3cret" not in str(raised.value)


async def test_a_missing_pod_is_not_found() -> None:
    async with kubelet(V5) as (client, _):
        with pytest.raises(errors.NotFoundError):
            await asyncio.wait_for(execute(client, "a", "other", ["echo"]), 300.0)
