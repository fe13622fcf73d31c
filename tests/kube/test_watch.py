import itertools
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar, cast

from hypothesis import given
from hypothesis import strategies as st

from allotment_kube.decoding import UndecodableObject
from allotment_kube.resources import PODS
from allotment_kube.transport import Request, Transport
from allotment_kube.watch import LineCutter, watch


@given(st.lists(st.binary(min_size=1).filter(lambda line: b"\n" not in line)), st.data())
def test_lines_survive_any_chunking(lines: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)))))
    chunks = [stream[a:b] for a, b in itertools.pairwise([0, *cuts, len(stream)])]

    cutter = LineCutter()

    assert [line for chunk in chunks for line in cutter.cut(chunk)] == lines


def test_an_unfinished_line_is_kept_back() -> None:
    cutter = LineCutter()

    assert cutter.cut(b'{"a"') == []
    assert cutter.cut(b":1}") == []
    assert cutter.cut(b"\n{") == [b'{"a":1}']


class OneAnswer:
    """A transport whose every stream is these bytes."""

    code = 200
    headers: ClassVar[dict[str, str]] = {}

    def __init__(self, body: bytes) -> None:
        self.pieces = [body]

    @asynccontextmanager
    async def stream(self, _: Request) -> AsyncIterator["OneAnswer"]:
        yield self

    async def read(self) -> bytes:
        return self.pieces.pop() if self.pieces else b""


async def test_a_bookmark_need_not_be_a_sound_object_of_its_kind() -> None:
    """A pod's bookmark, as the API server sends it, has `containers: null`."""
    line = b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"42"},"spec":{"containers":null}}}\n'
    left_out: list[UndecodableObject] = []
    batches = watch(cast("Transport", OneAnswer(line)), PODS, "1", rng=random.Random(1), on_undecodable=left_out.append)

    [[event]] = [batch async for batch in batches]

    assert (event.type, event.object.metadata.resource_version) == ("BOOKMARK", "42")
    assert not left_out
