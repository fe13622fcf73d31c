"""One HTTP/1.1 answer, read from bytes as they come (RFC 9112, sections 4 to 7). No socket here.

`AnswerReader` takes pieces and says when the answer is whole. It reads what an API server sends: a status line,
headers, and a body by length, in chunks, or up to the end of the connection. Headers are parsed only when somebody asks
for one that is not needed to find the body's end: of a thousand bindings a second, nobody does.

It is strict. Whatever does not look like an answer is a `MalformedAnswerError`: the connection must then be closed,
because where the next answer begins is unknown. Bytes beyond the answer are such a case too: nothing was asked for.
"""

from collections.abc import Iterator, Mapping
from typing import Final

_LONGEST_HEAD: Final = 1 << 18
_LONGEST_CHUNK_LINE: Final = 1 << 12
_BODYLESS: Final = frozenset({204, 304})
_UNTIL_CLOSED: Final = -1
_CHUNKED: Final = -2


class MalformedAnswerError(Exception):
    """These bytes are no answer."""


class Headers(Mapping[str, str]):
    """Headers as they were sent; names are looked up without regard to case, several of one name are joined."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._parsed: dict[str, str] | None = None

    def _all(self) -> dict[str, str]:
        if self._parsed is None:
            self._parsed = {}
            for line in self._raw.split(b"\r\n"):
                name, colon, value = line.partition(b":")
                if colon:
                    key, text = name.decode("latin-1").lower(), value.strip().decode("latin-1")
                    before = self._parsed.get(key)
                    self._parsed[key] = text if before is None else f"{before}, {text}"
        return self._parsed

    def __getitem__(self, name: str) -> str:
        return self._all()[name.lower()]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._all()

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())


_NONE: Final = Headers(b"")


class AnswerReader:
    """Reads one answer after the other; `feed` until it is true, take `code`, `headers` and `body`, then `begin`."""

    __slots__ = ("_held", "_length", "_needed", "_parts", "_received", "body", "code", "headers", "keeps_open")

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Expect a new answer."""
        self.code = 0
        self.headers = _NONE
        self.body = b""
        self.keeps_open = True
        """Whether the connection may be used again."""
        self._length: int | None = None
        self._parts: list[bytes] = []
        """Of the body."""
        self._received = 0
        self._held: list[bytes] = []
        """Received and not understood yet: the beginning of a head or of a chunk."""
        self._needed = 0
        """Bytes still to come before it is worth another look."""

    def feed(self, data: bytes) -> bool:
        """Take the next bytes; True once the answer is whole.

        Raises:
            MalformedAnswerError: this is no answer, or there is more than one.
        """
        if self._held:
            self._held.append(data)
            self._needed -= len(data)
            if self._needed > 0:
                return False
            data = b"".join(self._held)
            self._held.clear()
        while self._length is None:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                if len(data) > _LONGEST_HEAD:
                    raise MalformedAnswerError("its head has no end")
                return self._hold(data, needed=1)
            length = self._read_head(data[:end])
            data = data[end + 4 :]
            if length is None and not data:
                return False  # an informational answer; the real one follows
            self._length = length
        return self._read_body(data)

    def closed(self) -> bool:
        """The connection has ended; True if that makes the answer whole."""
        if self._length != _UNTIL_CLOSED:
            return False
        self.body = b"".join(self._parts)
        return True

    def _hold(self, data: bytes, *, needed: int) -> bool:
        if data:
            self._held.append(data)
        self._needed = needed
        return False

    def _read_head(self, head: bytes) -> int | None:
        """Read status line and headers; returns how the body ends, None after an informational answer."""
        line = head[: head.find(b"\r\n")] if b"\r\n" in head else head
        if not line.startswith(b"HTTP/1.") or len(line) < 12 or not line[9:12].isdigit():
            raise MalformedAnswerError("its first line is no status line")
        code = int(line[9:12])
        if 100 <= code < 200:
            if code == 101:
                raise MalformedAnswerError("it switches protocols, which nobody asked for")
            return None
        self.code = code
        self.headers = Headers(head[len(line) + 2 :])
        lowered = head.lower()
        length = self._length_of(lowered)
        if b"\r\nconnection:" in lowered or line.startswith(b"HTTP/1.0"):
            said = self.headers.get("connection", "").lower()
            self.keeps_open = "close" not in said and (not line.startswith(b"HTTP/1.0") or "keep-alive" in said)
        if length == _UNTIL_CLOSED:
            self.keeps_open = False
        return length

    def _length_of(self, lowered: bytes) -> int:
        if self.code in _BODYLESS:
            return 0
        at = lowered.find(b"\r\ntransfer-encoding:")
        if at >= 0:
            coding = self.headers["transfer-encoding"]
            if coding.lower() != "chunked":
                raise MalformedAnswerError(f"its transfer coding is {coding[:40]!r}")
            return _CHUNKED
        at = lowered.find(b"\r\ncontent-length:")
        if at < 0:
            return _UNTIL_CLOSED
        end = lowered.find(b"\r\n", at + 2)
        digits = (lowered[at + 17 :] if end < 0 else lowered[at + 17 : end]).strip()
        if not digits.isdigit() or lowered.find(b"\r\ncontent-length:", at + 2) >= 0:
            raise MalformedAnswerError(f"its length is {digits[:40]!r}")
        return int(digits)

    def _read_body(self, data: bytes) -> bool:
        length = self._length
        assert length is not None, "the head has been read"  # noqa: S101 - for the type checker
        if length == _CHUNKED:
            return self._read_chunks(data)
        if length == _UNTIL_CLOSED:
            self._parts.append(data)
            return False
        if not self._parts and len(data) == length:
            self.body = data
            return True
        self._parts.append(data)
        self._received += len(data)
        if self._received < length:
            return False
        if self._received > length:
            raise MalformedAnswerError("more came than it announced")
        self.body = b"".join(self._parts)
        return True

    def _read_chunks(self, data: bytes) -> bool:
        at = 0
        while True:
            end = data.find(b"\r\n", at)
            if end < 0:
                if len(data) - at > _LONGEST_CHUNK_LINE:
                    raise MalformedAnswerError("a chunk's first line has no end")
                return self._hold(data[at:], needed=1)
            size = _chunk_size(data[at:end])
            if size == 0:
                return self._read_trailers(data, at, end)
            if len(data) < end + 2 + size + 2:
                return self._hold(data[at:], needed=end + 2 + size + 2 - len(data))
            if data[end + 2 + size : end + 4 + size] != b"\r\n":
                raise MalformedAnswerError("a chunk is longer than it said")
            self._parts.append(data[end + 2 : end + 2 + size])
            at = end + 4 + size

    def _read_trailers(self, data: bytes, at: int, end: int) -> bool:
        # After the last chunk come trailer lines, of which we want none, and an empty line.
        closing = data.find(b"\r\n\r\n", end)
        if closing < 0:
            return self._hold(data[at:], needed=1)
        if closing + 4 != len(data):
            raise MalformedAnswerError("more came after its last chunk")
        self.body = b"".join(self._parts)
        return True


def _chunk_size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip()
    try:
        if not digits or digits[:1] in b"+-" or b"_" in digits:
            raise ValueError  # noqa: TRY301 - int() would take these
        return int(digits, 16)
    except ValueError:
        raise MalformedAnswerError(f"a chunk's length is {line[:40]!r}") from None
