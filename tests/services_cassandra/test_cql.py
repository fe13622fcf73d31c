"""What a node answers is read with care: a tenant chooses the image, so anything may answer."""

import asyncio
import contextlib
import datetime as dt
import struct
import uuid
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allotment_kube import certificates
from allotment_operator.kind import ServiceRefusedError, ServiceUnavailableError
from allotment_operator.services.cassandra.admin import _nodes
from allotment_operator.services.cassandra.cql import CqlConnection, CqlLogin, connected

RESULT, ERROR = 0x08, 0x00
TEXT, UUID, INT = 0x0D, 0x0C, 0x09
HOST = uuid.UUID("12345678-1234-5678-1234-567812345678")


def string(text: str) -> bytes:
    return struct.pack(">H", len(text)) + text.encode()


def value(data: bytes | None) -> bytes:
    return struct.pack(">i", -1) if data is None else struct.pack(">i", len(data)) + data


def rows(*types: int, table_once: bool = True, count: int, body: bytes = b"") -> bytes:
    """A Rows result whose columns have these types."""
    table = string("system") + string("local")
    head = table if table_once else b""
    columns = b"".join((b"" if table_once else table) + string("c") + struct.pack(">H", it) for it in types)
    return struct.pack(">iii", 2, int(table_once), len(types)) + head + columns + struct.pack(">i", count) + body


@contextlib.asynccontextmanager
async def answering(body: bytes, *, opcode: int = RESULT, flags: int = 0) -> AsyncIterator[CqlConnection]:
    """A connection whose other side gives this answer to everything."""
    frame = struct.pack(">BBhBi", 0x84, flags, 0, opcode, len(body)) + body

    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1 << 16):
            writer.write(frame)
        writer.close()
        await writer.wait_closed()
        over.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        yield CqlConnection(reader, writer)
        writer.close()
        await writer.wait_closed()
        await over.wait()


@pytest.mark.parametrize("heard", [1, 5, 1 << 16])
async def test_a_connection_that_breaks_off_in_the_handshake_is_silence(heard: int) -> None:
    """As a node's that is ending while it is still asked; taken for a no, it would count at once."""
    authority = certificates.authority("authority", now=dt.datetime.now(dt.UTC)).certificate_pem.decode()

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(heard)
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ServiceUnavailableError, match="does not answer"):
            async with connected(CqlLogin("127.0.0.1", port, authority, "ann", "x"), timeout=60):
                pass


@pytest.mark.parametrize("table_once", [True, False])
@pytest.mark.parametrize("flags", [0, 8], ids=["plain", "with a warning"])
async def test_rows_are_text_and_uuids(flags: int, *, table_once: bool) -> None:
    body = rows(TEXT, UUID, count=2, table_once=table_once, body=value(b"r1") + value(HOST.bytes) + value(None) * 2)
    warning = struct.pack(">H", 1) + string("slow")

    async with answering((warning if flags else b"") + body, flags=flags) as connection:
        found = await connection.query("SELECT")

    assert found == [("r1", str(HOST)), (None, None)]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(struct.pack(">iiii", 2, 0, 0, 0x7FFFFFFF), id="endless rows of nothing"),
        pytest.param(struct.pack(">iii", 2, 0, -1) + struct.pack(">i", 0x7FFFFFFF), id="fewer columns than none"),
        pytest.param(rows(TEXT, count=0x7FFFFFFF, body=value(None)), id="more rows than there are"),
        pytest.param(struct.pack(">iii", 2, 1, 0x7FFFFFFF) + string("a") * 2, id="more columns than there are"),
        pytest.param(rows(TEXT, count=1, body=struct.pack(">i", 99)), id="a value that ends after the answer"),
        pytest.param(struct.pack(">iii", 2, 1, 1) + b"\xff\xfe", id="a name that ends after the answer"),
        pytest.param(b"", id="nothing at all"),
    ],
)
async def test_an_answer_that_is_not_what_it_says_is_none(body: bytes) -> None:
    async with answering(body) as connection:
        with pytest.raises(ServiceUnavailableError, match="none of Cassandra's native protocol"):
            await connection.query("SELECT")


@pytest.mark.parametrize(("type_", "data"), [(INT, b"1234"), (UUID, b"short")])
async def test_another_type_than_was_asked_for_is_refused(type_: int, data: bytes) -> None:
    async with answering(rows(type_, count=1, body=value(data))) as connection:
        with pytest.raises(ServiceRefusedError, match="where text or a UUID was asked for"):
            await connection.query("SELECT")


async def test_other_columns_than_were_asked_for_are_no_answer() -> None:
    async with answering(rows(TEXT, count=1, body=value(b"dc1"))) as connection:
        with pytest.raises(ServiceUnavailableError, match="other columns than were asked for"):
            await _nodes(connection, "local")


@given(
    body=st.one_of(
        st.binary(max_size=64),
        st.binary(max_size=64).map(lambda rest: struct.pack(">i", 2) + rest),
        st.binary(max_size=24).map(lambda rest: rows(TEXT, UUID, count=3, body=rest)),
    ),
    opcode=st.sampled_from([RESULT, ERROR]),
    flags=st.sampled_from([0, 8]),
)
@settings(max_examples=60, deadline=None)
def test_whatever_is_answered_ends_in_rows_or_in_words(body: bytes, opcode: int, flags: int) -> None:
    async def ask() -> None:
        async with answering(body, opcode=opcode, flags=flags) as connection:
            with contextlib.suppress(ServiceUnavailableError, ServiceRefusedError):
                assert isinstance(await connection.query("SELECT"), list)

    asyncio.run(ask())
