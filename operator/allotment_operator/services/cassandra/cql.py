"""A client of Cassandra's native protocol, as small as the operator needs: log in over TLS, ask, read rows.

It has one request under way at a time and no state but its connection. Version 4 of the protocol, which every Cassandra
from 2.2 on speaks. No driver is used: the operator asks three questions, and wants refusals told from silence.

A cluster runs an image of its tenant's choice, so no answer is believed: every length is held against what is there,
and what cannot be read is no answer.

Source: doc/native_protocol_v4.spec in Cassandra's repository.
"""

import asyncio
import ssl
import struct
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from allotment_operator.kind import ServiceRefusedError, ServiceUnavailableError

_REQUEST, _RESPONSE = 0x04, 0x84
_ERROR, _STARTUP, _READY, _AUTHENTICATE = 0x00, 0x01, 0x02, 0x03
_QUERY, _RESULT, _AUTH_RESPONSE, _AUTH_SUCCESS = 0x07, 0x08, 0x0F, 0x10
_HEADER: Final = struct.Struct(">BBhBi")
_ROWS: Final = 2
_GLOBAL_TABLE: Final = 0x01
_LONGEST_ANSWER: Final = 1 << 20
"""Bytes; ten times what a ring of 1,000 nodes tells of itself."""
_LOCAL_QUORUM: Final = 6
_GOODBYE: Final = 1.0
_UUID, _UUID_SIZE = 0x0C, 16
_TEXT: Final = (0x01, 0x0D)

_BAD_CREDENTIALS: Final = 0x0100
_TRANSIENT: Final = frozenset({0x0000, 0x1000, 0x1001, 0x1002, 0x1100, 0x1200})
"""Server error, unavailable, overloaded, bootstrapping, timeouts: the same may succeed later."""

_NOT_NOW: Final = "Unable to perform"
"""How Cassandra begins when too few nodes are up to look a role up; it calls that bad credentials, too."""

_GIBBERISH: Final = "the answer is none of Cassandra's native protocol, version 4"


@dataclass(frozen=True, slots=True)
class CqlLogin:
    """Where to connect, and as whom."""

    host: str
    port: int
    authority: str
    username: str
    password: str = field(repr=False)


class CqlConnection:
    """One connection that is logged in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def query(self, statement: str) -> list[tuple[str | None, ...]]:
        """Run a statement at LOCAL_QUORUM and return its rows, text and UUIDs as text; none for other statements.

        Raises:
            ServiceUnavailableError: too few nodes are up, or the connection broke.
            ServiceRefusedError: the statement is wrong or not allowed.
        """
        text = statement.encode()
        body = struct.pack(">i", len(text)) + text + struct.pack(">hB", _LOCAL_QUORUM, 0)
        opcode, answer = await self._ask(_QUERY, body)
        return _rows(answer) if opcode == _RESULT and answer.integer() == _ROWS else []

    async def log_in(self, login: CqlLogin) -> None:
        """Start the connection and prove who we are."""
        version = _string("CQL_VERSION") + _string("3.0.0")
        opcode, _ = await self._ask(_STARTUP, struct.pack(">h", 1) + version)
        if opcode == _READY:
            raise ServiceRefusedError(f"Cassandra at {login.host} asks nobody who he is: authentication is off")
        token = f"\0{login.username}\0{login.password}".encode()
        opcode, _ = await self._ask(_AUTH_RESPONSE, struct.pack(">i", len(token)) + token)
        if opcode != _AUTH_SUCCESS:
            raise ServiceRefusedError(f"Cassandra at {login.host} wants another sort of login than by password")

    async def _ask(self, opcode: int, body: bytes) -> tuple[int, "_Content"]:
        self._writer.write(_HEADER.pack(_REQUEST, 0, 0, opcode, len(body)) + body)
        await self._writer.drain()
        version, flags, _, answer, size = _HEADER.unpack(await self._reader.readexactly(_HEADER.size))
        if version != _RESPONSE or flags & 0x01 or not 0 <= size <= _LONGEST_ANSWER:
            raise ServiceUnavailableError(_GIBBERISH)
        content = _Content(await self._reader.readexactly(size))
        if flags & 0x08:  # warnings come first
            for _ in range(content.short()):
                content.string()
        if answer == _ERROR:
            raise _failure(content)
        return answer, content


@asynccontextmanager
async def connected(login: CqlLogin, *, timeout: float) -> AsyncIterator[CqlConnection]:  # noqa: ASYNC109 - of all together
    """Connect, log in, and close at the end; everything within `timeout` seconds.

    Raises:
        ServiceUnavailableError: nobody answers, or not now.
        ServiceRefusedError: the login is refused, or the server is not who it should be.
    """
    context = ssl.create_default_context(cadata=login.authority)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    where = f"Cassandra at {login.host}:{login.port}"
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(login.host, login.port, ssl=context)
            connection = CqlConnection(reader, writer)
            await connection.log_in(login)
            yield connection
    except ssl.SSLError as error:
        raise ServiceRefusedError(f"{where} is not who it should be: {error.reason or error}") from error
    except (OSError, EOFError, TimeoutError) as error:
        text = str(error) or f"no answer within {timeout:g} s"
        raise ServiceUnavailableError(f"{where} does not answer: {text}") from error
    finally:
        if writer is not None:
            await _close(writer)


async def _close(writer: asyncio.StreamWriter) -> None:
    """Close a connection; how the other side takes it no longer matters."""
    writer.close()
    try:
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_GOODBYE):
                await writer.wait_closed()
    finally:
        writer.transport.abort()


class _Content:
    """The body of an answer, read from its beginning; raises ServiceUnavailableError where it is not what it says."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, count: int) -> bytes:
        if not 0 <= count <= len(self._data) - self._at:
            raise ServiceUnavailableError(_GIBBERISH)
        self._at += count
        return self._data[self._at - count : self._at]

    def short(self) -> int:
        return int.from_bytes(self.take(2))

    def integer(self) -> int:
        return int.from_bytes(self.take(4), signed=True)

    def string(self) -> str:
        return self.take(self.short()).decode(errors="replace")


def _failure(content: _Content) -> Exception:
    code, text = content.integer(), content.string()[:500]
    if code in _TRANSIENT or (code == _BAD_CREDENTIALS and text.startswith(_NOT_NOW)):
        return ServiceUnavailableError(f"Cassandra cannot answer now: {text}")
    return ServiceRefusedError(f"Cassandra refused: {text}")


def _string(text: str) -> bytes:
    return struct.pack(">h", len(text)) + text.encode()


def _rows(content: _Content) -> list[tuple[str | None, ...]]:
    """Read a Rows result, from behind its kind, whose columns are text or UUIDs."""
    flags, columns = content.integer(), content.integer()
    table_once = bool(flags & _GLOBAL_TABLE)
    for _ in range(2 if table_once else 0):
        content.string()
    types = []
    for _ in range(columns):
        for _ in range(1 if table_once else 3):
            content.string()
        types.append(content.short())
    if not types:  # rows of nothing take no bytes: their number could be anything
        raise ServiceUnavailableError(_GIBBERISH)
    return [tuple(_value(type_, content) for type_ in types) for _ in range(content.integer())]


def _value(type_: int, content: _Content) -> str | None:
    size = content.integer()
    if size < 0:
        return None
    value = content.take(size)
    if type_ == _UUID and size == _UUID_SIZE:
        return str(uuid.UUID(bytes=value))
    if type_ in _TEXT:
        return value.decode(errors="replace")
    raise ServiceRefusedError(f"a column of type {type_:#x} where text or a UUID was asked for")
