"""Run a command in a container: `pods/exec` over a WebSocket.

The protocol (`v5.channel.k8s.io`, KEP-4006) multiplexes by the first byte of each message: 0 stdin, 1 stdout,
2 stderr, 3 the final `Status` as JSON, and, new in v5, 255 to close one of the client's channels, without which a
command that reads its input to the end would never see that end. v4 is accepted for commands without input.

Commands and output may hold secrets: neither appears in an error, except the exit code.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, urlencode

import msgspec

from .client import Client
from .errors import OutcomeUnknownError, ProtocolError, RejectedError, Status, error_from_status
from .resources import PODS
from .transport import Request, WebSocket

V5: Final = "v5.channel.k8s.io"
V4: Final = "v4.channel.k8s.io"
_STDIN, _STDOUT, _STDERR, _STATUS, _CLOSE = 0, 1, 2, 3, 255
_INPUT_CHUNK: Final = 32 * 1024  # the kubelet's own buffer size


@dataclass(frozen=True, slots=True)
class ExecResult:
    """What a command left behind."""

    exit_code: int
    stdout: bytes = field(repr=False)
    stderr: bytes = field(repr=False)


class ExecTimeoutError(OutcomeUnknownError):
    """The command did not end in time; it may still be running in the container. `partial` holds its output so far."""

    partial: ExecResult | None = None


async def execute(
    client: Client,
    namespace: str,
    pod: str,
    command: Sequence[str],
    *,
    container: str = "",
    stdin: bytes | None = None,
    timeout: float = 60.0,  # noqa: ASYNC109 - it belongs to the operation: partial output is returned with the error
    output_limit: int = 16 << 20,
) -> ExecResult:
    """Run a command and wait for its end. A non-zero exit code is a result, not an error.

    Raises:
        NotFoundError: no such pod or container.
        ExecTimeoutError: it took longer than `timeout` seconds.
        RejectedError: it wrote more than `output_limit` bytes, or input was given to a server without v5.
    """
    parameters = [("command", word) for word in command]
    parameters += [("stdout", "true"), ("stderr", "true")]
    if stdin is not None:
        parameters.append(("stdin", "true"))
    if container:
        parameters.append(("container", container))
    request = Request(
        "GET", PODS.item(pod, namespace, "exec"), urlencode(parameters, quote_via=quote), label="pods/exec"
    )
    protocols = (V5,) if stdin is not None else (V5, V4)
    output = {_STDOUT: bytearray(), _STDERR: bytearray()}
    try:
        async with asyncio.timeout(timeout), client.transport.websocket(request, protocols) as socket:
            if socket.subprotocol not in protocols:
                raise RejectedError(f"the server speaks none of {', '.join(protocols)}", request=request.line)
            feeding = asyncio.create_task(_feed(socket, stdin))
            try:
                exit_code = await _collect(socket, output, output_limit, request)
            finally:
                feeding.cancel()
                await asyncio.gather(feeding, return_exceptions=True)
    except TimeoutError:
        error = ExecTimeoutError(f"the command did not end within {timeout:g} s", request=request.line)
        error.partial = ExecResult(-1, bytes(output[_STDOUT]), bytes(output[_STDERR]))
        raise error from None
    return ExecResult(exit_code, bytes(output[_STDOUT]), bytes(output[_STDERR]))


async def _feed(socket: WebSocket, stdin: bytes | None) -> None:
    if stdin is None:
        return
    for start in range(0, len(stdin), _INPUT_CHUNK):
        await socket.send(bytes([_STDIN]) + stdin[start : start + _INPUT_CHUNK])
    await socket.send(bytes([_CLOSE, _STDIN]))


async def _collect(socket: WebSocket, output: dict[int, bytearray], limit: int, request: Request) -> int:
    while (message := await socket.receive()) is not None:
        if not message:
            continue
        channel = message[0]
        if channel == _STATUS:
            return _exit_code(message[1:], request)
        if channel in output:
            output[channel] += message[1:]
            if sum(map(len, output.values())) > limit:
                raise RejectedError(
                    f"the command wrote more than {limit} bytes; filter its output", request=request.line
                )
    raise OutcomeUnknownError("the connection closed before the command's exit code came", request=request.line)


def _exit_code(body: bytes, request: Request) -> int:
    try:
        status = msgspec.json.decode(body, type=Status)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"the exit status is no Status: {error}", request=request.line) from error
    if status.status == "Success":
        return 0
    for cause in status.details.causes if status.details else ():
        if cause.reason == "ExitCode" and cause.message.isdecimal():
            return int(cause.message)
    raise error_from_status(status, request.line, code=status.code or 500)
