"""A client of Cassandra's native protocol, as small as the operator needs: log in over TLS, ask, read rows.

It has one request under way at a time and no state but its connection. Version 4 of the protocol, which every Cassandra
from 2.2 on speaks. No driver is used: the operator asks three questions, and wants refusals told from silence.

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
_LONGEST_ANSWER: Final = 4 << 20
_LOCAL_QUORUM: Final = 6
_GOODBYE: Final = 1.0
_UUID: Final = 0x0C
_TEXT: Final = (0x01, 0x0D)

_BAD_CREDENTIALS: Final = 0x0100
_TRANSIENT: Final = frozenset({0x0000, 0x1000, 0x1001, 0x1002, 0x1100, 0x1200})
"""Server error, unavailable, overloaded, bootstrapping, timeouts: the same may succeed later."""

_NOT_NOW: Final = "Unable to perform"
"""How Cassandra begins when too few nodes are up to look a role up; it calls that bad credentials, too."""


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
        return _rows(answer) if opcode == _RESULT and struct.unpack_from(">i", answer)[0] == _ROWS else []

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

    async def _ask(self, opcode: int, body: bytes) -> tuple[int, bytes]:
        self._writer.write(_HEADER.pack(_REQUEST, 0, 0, opcode, len(body)) + body)
        await self._writer.drain()
        version, flags, _, answer, size = _HEADER.unpack(await self._reader.readexactly(_HEADER.size))
        if version != _RESPONSE or flags & 0x01 or not 0 <= size <= _LONGEST_ANSWER:
            raise ServiceUnavailableError("the answer is none of Cassandra's native protocol, version 4")
        content = await self._reader.readexactly(size)
        if flags & 0x08:  # warnings come first
            content = _without_warnings(content)
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
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(_GOODBYE):
            await writer.wait_closed()


def _failure(content: bytes) -> Exception:
    code, length = struct.unpack_from(">ih", content)
    text = content[6 : 6 + length].decode(errors="replace")
    if code in _TRANSIENT or (code == _BAD_CREDENTIALS and text.startswith(_NOT_NOW)):
        return ServiceUnavailableError(f"Cassandra cannot answer now: {text}")
    return ServiceRefusedError(f"Cassandra refused: {text}")


def _string(text: str) -> bytes:
    return struct.pack(">h", len(text)) + text.encode()


def _without_warnings(content: bytes) -> bytes:
    (count,) = struct.unpack_from(">h", content)
    offset = 2
    for _ in range(count):
        offset += 2 + struct.unpack_from(">h", content, offset)[0]
    return content[offset:]


def _rows(content: bytes) -> list[tuple[str | None, ...]]:
    """Read a Rows result whose columns are text or UUIDs."""
    flags, columns = struct.unpack_from(">ii", content, 4)
    offset = 12
    strings = 2 if flags & _GLOBAL_TABLE else 0
    for _ in range(strings):
        offset += 2 + struct.unpack_from(">h", content, offset)[0]
    types = []
    for _ in range(columns):
        for _ in range(1 if flags & _GLOBAL_TABLE else 3):
            offset += 2 + struct.unpack_from(">h", content, offset)[0]
        types.append(struct.unpack_from(">h", content, offset)[0])
        offset += 2
    (count,) = struct.unpack_from(">i", content, offset)
    offset += 4
    rows = []
    for _ in range(count):
        row: list[str | None] = []
        for type_ in types:
            (size,) = struct.unpack_from(">i", content, offset)
            offset += 4
            row.append(None if size < 0 else _text(type_, content[offset : offset + size]))
            offset += max(size, 0)
        rows.append(tuple(row))
    return rows


def _text(type_: int, value: bytes) -> str:
    if type_ == _UUID:
        return str(uuid.UUID(bytes=value))
    if type_ in _TEXT:
        return value.decode()
    raise ServiceRefusedError(f"a column of type {type_:#x} where text or a UUID was asked for")
