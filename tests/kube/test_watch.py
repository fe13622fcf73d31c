import itertools

from hypothesis import given
from hypothesis import strategies as st

from allotment_kube.watch import LineCutter


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
