"""Answers read from bytes: whole, in pieces, and not at all."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allotment_kube.answers import AnswerReader, MalformedAnswerError

SIZED = b"HTTP/1.1 201 Created\r\nAudit-Id: 1\r\ncontent-LENGTH:  5\r\nRetry-After: 3\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
TRAILERS = CHUNKED[:-2] + b"Digest: x\r\n\r\n"
EMPTY = b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n"
NO_LENGTH_BUT_ZERO = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
INFORMED = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + SIZED


@given(
    whole=st.sampled_from([SIZED, CHUNKED, TRAILERS, EMPTY, NO_LENGTH_BUT_ZERO, INFORMED]),
    cuts=st.lists(st.integers(0, 140), max_size=12),
)
def test_an_answer_is_the_same_however_it_is_cut(whole: bytes, cuts: list[int]) -> None:
    reader = AnswerReader()
    places = [0, *sorted({cut for cut in cuts if 0 < cut < len(whole)}), len(whole)]
    done = [reader.feed(whole[start:end]) for start, end in pairwise(places)]

    assert done == [False] * (len(done) - 1) + [True]
    assert reader.body == (b"" if whole in {EMPTY, NO_LENGTH_BUT_ZERO} else b"hello")
    assert reader.keeps_open


@settings(max_examples=40)
@given(size=st.integers(0, 5000), step=st.integers(1, 700))
def test_a_large_chunk_arrives_whole(size: int, step: int) -> None:
    body = bytes(number % 251 for number in range(size))
    last = b"0\r\n\r\n"
    sized = b"%x\r\n%b\r\n" % (size, body) if size else b""
    whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + sized + last
    reader = AnswerReader()
    for at in range(0, len(whole), step):
        reader.feed(whole[at : at + step])

    assert reader.body == body


def test_one_reader_reads_answer_after_answer() -> None:
    reader = AnswerReader()
    for _ in range(3):
        reader.begin()
        assert reader.feed(SIZED)
        assert (reader.code, reader.headers["retry-after"], reader.headers.get("none")) == (201, "3", None)


def test_headers_of_one_name_are_joined_and_looked_up_without_regard_to_case() -> None:
    reader = AnswerReader()
    reader.feed(b"HTTP/1.1 200 OK\r\nWarning: a\r\nwarning: b\r\nContent-Length: 0\r\n\r\n")

    assert reader.headers["WARNING"] == "a, b"
    assert "Warning" in reader.headers
    assert sorted(reader.headers) == ["content-length", "warning"]


@pytest.mark.parametrize(
    ("head", "keeps_open"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", True),
    ],
)
def test_the_server_says_whether_the_connection_stays(head: bytes, *, keeps_open: bool) -> None:
    reader = AnswerReader()

    assert reader.feed(head)
    assert reader.keeps_open == keeps_open


def test_without_a_length_the_body_ends_with_the_connection() -> None:
    reader = AnswerReader()

    assert not reader.feed(b"HTTP/1.1 200 OK\r\n\r\nhel")
    assert not reader.feed(b"lo")
    assert reader.closed()
    assert (reader.body, reader.keeps_open) == (b"hello", False)


@pytest.mark.parametrize("whole", [SIZED, CHUNKED])
def test_an_end_within_an_answer_is_no_answer(whole: bytes) -> None:
    for cut in range(len(whole)):
        reader = AnswerReader()
        reader.feed(whole[:cut])

        assert not reader.closed()


@pytest.mark.parametrize(
    "bad",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nmore",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"5" * 5000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nmore",
        b"HTTP/1.1 200 OK\r\n" + b"x" * 300_000,
    ],
)
def test_what_makes_no_sense_is_refused(bad: bytes) -> None:
    with pytest.raises(MalformedAnswerError):
        AnswerReader().feed(bad)
