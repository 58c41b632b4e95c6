from __future__ import annotations

import pytest
from mirrord_trace.agent.http.answers import Answer
from mirrord_trace.agent.http.heads import request_head


def answer(method="GET", **options):
    return Answer(request_head(f"{method} / HTTP/1.1\r\nHost: x\r\n\r\n".encode()), **options)


def test_an_answer_in_one_piece_is_not_copied():
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
    reader = answer()
    assert reader.take(data) is data
    assert reader.done
    assert reader.began
    assert not reader.last
    assert reader.rest == b""


def test_a_head_is_held_and_a_body_is_not():
    reader = answer()
    assert reader.take(b"HTTP/1.1 200 OK\r\nContent-Le") == b""
    assert not reader.began
    assert reader.take(b"ngth: 4\r\n\r\nab") == b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab"
    assert reader.take(b"c") == b"c"
    assert reader.take(b"d!") == b"d"
    assert (reader.done, reader.rest) == (True, b"!")


def test_held_bytes_are_given_up():
    reader = answer()
    reader.take(b"HTTP/1.1")
    assert reader.give_up() == b"HTTP/1.1"
    assert not reader.ended()


def test_eof_ends_only_what_has_no_other_end():
    reader = answer()
    reader.take(b"HTTP/1.1 200 OK\r\n\r\nabc")
    assert not reader.done
    assert reader.last
    assert reader.ended()
    reader = answer()
    reader.take(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
    assert not reader.ended()


@pytest.mark.parametrize("status", [b"101 S", b"200 OK"])
def test_the_rest_after_a_switch(status):
    reader = answer("CONNECT")
    assert reader.take(b"HTTP/1.1 " + status + b"\r\n\r\nraw") == b"HTTP/1.1 " + status + b"\r\n\r\n"
    assert reader.switched
    assert reader.rest == b"raw"


def test_our_own_100_is_the_only_one():
    reader = answer(swallow_100=True)
    assert reader.take(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 E\r\n\r\n") == b"HTTP/1.1 103 E\r\n\r\n"


def test_the_marker_comes_last():
    reader = answer(marker=b"x")
    assert reader.take(b"HTTP/1.1 204 No\r\n\r\n") == b"HTTP/1.1 204 No\r\nmirrord-agent: x\r\n\r\n"


def test_no_http_is_passed_on():
    reader = answer()
    assert reader.take(b"\0\1") == b"\0\1"
    assert reader.take(b"more") == b"more"
    assert reader.last
    assert reader.ended()


def test_bad_chunks_are_passed_on():
    reader = answer()
    reader.take(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert reader.take(b"zz\r\n") == b"zz\r\n"
    assert not reader.done
    assert reader.last
