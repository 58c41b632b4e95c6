from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mirrord_trace.agent.http.bodies import CHUNKED, UNTIL_EOF, Chunked, Length, UntilEof, framing
from mirrord_trace.agent.http.heads import Refused


def test_a_length_counts():
    body = framing(5)
    assert isinstance(body, Length)
    assert body.take(b"head12", 4) == 6
    assert not body.done
    assert body.take(b"345more") == 3
    assert body.done
    assert framing(0).done


def test_until_eof_takes_all():
    body = framing(UNTIL_EOF)
    assert isinstance(body, UntilEof)
    assert body.take(b"head and all", 4) == 12
    assert not body.done


@settings(deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=30), max_size=4), st.binary(max_size=9), st.sets(st.integers(0, 150)))
def test_chunks_end_where_they_end(parts, rest, cuts):
    content = b"".join(b"%x;ext\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\nT: x\r\n\r\n"
    stream = content + rest
    body = Chunked(collect=True)
    places = sorted({0, *(cut for cut in cuts if cut < len(stream)), len(stream)})
    taken = 0
    for begin, end in itertools.pairwise(places):
        taken += body.take(stream[:end], begin) - begin if not body.done else 0
    assert taken == len(content)
    assert body.done
    assert body.content == b"".join(parts)
    assert body.take(b"more") == 0


@pytest.mark.parametrize("garbage", [b"zz\r\n", b"-1\r\n", b"1\r\nab\r\n", b"1" * 100 + b"\r\n"])
def test_what_is_no_chunk_is_refused(garbage):
    with pytest.raises(Refused):
        framing(CHUNKED).take(garbage)
