"""Connections for calls: how many, how long, and what is known when one breaks."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvloop

from allotment_kube.wires import Answer, BrokenError, LateError, StaleError, UnsentError, Wires

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]]


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[str]:
    """A server; `serve` is told the number of its connection, from 0."""
    number = 0
    writers: list[asyncio.StreamWriter] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal number
        number += 1
        writers.append(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            await serve(reader, writer, number - 1)
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)
        await server.wait_closed()


async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
    while True:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ANSWER)


def pool(server: str, limit: int = 4) -> Wires:
    return Wires(server, limit=limit)


async def ask(wires: Wires, *, seconds: float = 60.0, idempotent: bool = True) -> Answer:
    return await wires.exchange(REQUEST, None, seconds=seconds, idempotent=idempotent)


async def test_a_connection_serves_one_request_after_the_other() -> None:
    async with serving(answering) as server:
        wires = pool(server)
        answers = [await ask(wires) for _ in range(5)]
        open_ = len(wires)
        await wires.close()

    assert [(code, body) for code, _, body in answers] == [(200, b"ok")] * 5
    assert open_ == 1


async def test_no_more_connections_than_allowed_and_nobody_is_forgotten() -> None:
    seen: set[int] = set()

    async def counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        seen.add(number)
        await answering(reader, writer, number)

    async with serving(counted) as server:
        wires = pool(server, limit=3)
        answers = await asyncio.gather(*(ask(wires) for _ in range(50)))
        await wires.close()

    assert len(answers) == 50
    assert len(seen) <= 3


async def test_what_was_given_up_leaves_its_place_to_others() -> None:
    reached, silence = asyncio.Event(), asyncio.Event()

    async def slow_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        reached.set()
        if number == 0:
            await silence.wait()
        await answering(reader, writer, number)

    async with serving(slow_first) as server:
        wires = pool(server, limit=1)
        stuck = asyncio.create_task(ask(wires))
        await reached.wait()
        waiting = asyncio.create_task(ask(wires))
        await asyncio.sleep(0)
        stuck.cancel()
        async with asyncio.timeout(60):
            answer = await waiting
        silence.set()
        await wires.close()

    assert answer[0] == 200
    assert stuck.cancelled()


async def test_silence_is_an_answer_too_late() -> None:
    forever = asyncio.Event()

    async def silent_after_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ANSWER)
        await forever.wait()

    async with serving(silent_after_one) as server:
        wires = pool(server)
        await ask(wires)  # from here on there is a connection: only the answer can be late
        with pytest.raises(LateError):
            await ask(wires, seconds=0.05)
        forever.set()
        await wires.close()


async def test_nobody_there_means_nothing_was_sent() -> None:
    async with serving(answering) as server:
        pass
    with pytest.raises(UnsentError) as raised:
        await ask(pool(server))

    assert isinstance(raised.value.__cause__, ConnectionRefusedError)


@pytest.mark.parametrize("part", [b"", b"HTTP/1.1 200 OK\r\nContent-", ANSWER[:-1], b"nonsense\r\n\r\n", ANSWER + b"x"])
async def test_a_new_connection_that_breaks_leaves_the_outcome_open(part: bytes) -> None:
    async def breaking(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(part)

    async with serving(breaking) as server:
        wires = pool(server)
        with pytest.raises(BrokenError) as raised:
            await ask(wires)
        await wires.close()

    assert not isinstance(raised.value, StaleError)


async def closing_after_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
    """The first connection is closed on its second request, unanswered, as when a server's idle timer meets it."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(ANSWER)
    if number:
        await answering(reader, writer, number)
    await reader.readuntil(b"\r\n\r\n")


async def test_what_may_be_repeated_is_repeated_where_an_idle_connection_had_ended() -> None:
    async with serving(closing_after_one) as server:
        wires = pool(server)
        await ask(wires)
        code, _, body = await ask(wires, idempotent=True)
        await wires.close()

    assert (code, body) == (200, b"ok")


async def test_what_may_not_be_repeated_is_not() -> None:
    async with serving(closing_after_one) as server:
        wires = pool(server)
        await ask(wires)
        with pytest.raises(StaleError):
            await ask(wires, idempotent=False)
        await wires.close()


async def test_a_connection_that_the_server_closes_is_not_used_again() -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")

    async with serving(once) as server:
        wires = pool(server, limit=1)
        answers = [await ask(wires, idempotent=False) for _ in range(3)]
        await wires.close()

    assert [code for code, _, _ in answers] == [200] * 3


async def test_a_connection_that_ended_at_once_takes_nobodys_place(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(answering) as server:
        wires = pool(server, limit=1)
        loop = asyncio.get_running_loop()
        connect = loop.create_connection
        ended: list[Any] = []

        async def ending_first(*arguments: Any, **named: Any) -> Any:
            transport, wire = await connect(*arguments, **named)
            if not ended:
                ended.append(wire)
                transport.abort()
                for _ in range(5):  # asyncio tells of the end in a later turn
                    await asyncio.sleep(0)
            return transport, wire

        monkeypatch.setattr(loop, "create_connection", ending_first)
        with pytest.raises(UnsentError):
            await ask(wires, idempotent=False)
        code, _, _ = await ask(wires, idempotent=False)
        await wires.close()

    assert (code, len(ended)) == (200, 1)


@pytest.mark.parametrize(
    "story",
    [
        test_a_connection_serves_one_request_after_the_other,
        test_no_more_connections_than_allowed_and_nobody_is_forgotten,
        test_what_was_given_up_leaves_its_place_to_others,
        test_silence_is_an_answer_too_late,
        test_nobody_there_means_nothing_was_sent,
        test_what_may_be_repeated_is_repeated_where_an_idle_connection_had_ended,
        test_what_may_not_be_repeated_is_not,
        test_a_connection_that_the_server_closes_is_not_used_again,
    ],
)
def test_the_schedulers_event_loop_changes_nothing(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(story())
