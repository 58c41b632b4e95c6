"""The fast way to read a head must be a part of h11's: what it takes, h11 takes, and reads alike."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mirrord_trace.agent.http import heads
from mirrord_trace.agent.http.heads import CHUNKED, UNTIL_EOF, Refused, request_head, response_head

NAMES = [
    "Host",
    "host",
    "Content-Length",
    "content-length",
    "Transfer-Encoding",
    "Connection",
    "Upgrade",
    "Expect",
    "X-A",
    "!#$",
    "X A",
    "",
]
VALUES = [
    "pod",
    "5",
    "05",
    "5, 5",
    "-1",
    "+5",
    "5 5",
    "chunked",
    "Chunked",
    "gzip, chunked",
    "close",
    "Keep-Alive, x",
    "100-continue",
    " padded\t",
    "",
    "\x7f",
    "\xe9",
    "\0",
    "a\rb",
    "websocket",
]
FIELDS = st.lists(
    st.tuples(
        st.one_of(st.sampled_from(NAMES), st.text("aZ-_: \t\x00\xff", max_size=5)),
        st.sampled_from([":", ": ", " : ", ":\t ", ""]),
        st.one_of(st.sampled_from(VALUES), st.text("a \t:\r\n\x0b\x80\xff\x01", max_size=6)),
        st.sampled_from(["\r\n", "\r\n", "\r\n", "\n", "\r\n "]),
    ).map("".join),
    max_size=5,
).map(lambda lines: "".join(lines).encode("latin-1"))
MAYBE_HOST = st.sampled_from([b"Host: pod\r\n", b""])
REQUEST_LINES = st.tuples(
    st.sampled_from([b"GET", b"POST", b"get", b"M-SEARCH", b"G T", b"", b"CONNECT"]),
    st.sampled_from([b" "] * 5 + [b"  ", b"\t"]),
    st.sampled_from([b"/", b"/a?b=c#d", b"*", b"http://x/", b"/\xff", b"/a b", b"", b"/\x7f"]),
    st.sampled_from(
        [b" HTTP/1.1\r\n"] * 5
        + [b" HTTP/1.0\r\n", b" HTTP/1.2\r\n", b" HTTP/2.0\r\n", b" http/1.1\r\n", b"\r\n", b" HTTP/1.1\n"]
    ),
).map(b"".join)
STATUS_LINES = st.tuples(
    st.sampled_from([b"HTTP/1.1 "] * 5 + [b"HTTP/1.0 ", b"HTTP/1.1  ", b"HTTP/2 "]),
    st.sampled_from([b"200", b"204", b"100", b"101", b"999", b"099", b"20", b"2000"]),
    st.sampled_from([b" OK", b"", b" ", b" \xe9\t", b" \0", b"OK"]),
    st.sampled_from([b"\r\n", b"\r\n", b"\n"]),
).map(b"".join)


def by_h11(role, data):
    connection = h11.Connection(role)
    if role is h11.CLIENT:
        connection.send(h11.Request(method="GET", target="/", headers=[("Host", "x"), ("Upgrade", "x")]))
        connection.send(h11.EndOfMessage())
    try:
        connection.receive_data(data)
        event = connection.next_event()
    except h11.ProtocolError:
        return None, b""
    return (None if event is h11.NEED_DATA else event), connection.trailing_data[0]


@settings(max_examples=600, deadline=None)
@given(REQUEST_LINES, MAYBE_HOST, FIELDS, st.sampled_from([b"\r\n", b"\n"]), st.sampled_from([b"", b"rest", b"\r\n\r\n"]))
def test_requests_are_what_h11_makes_of_them(line, host, fields, blank, rest):
    data = line + host + fields + blank + rest
    try:
        head = request_head(data)
    except Refused:
        head = None
    event, left = by_h11(h11.SERVER, data)
    if head is None:
        if isinstance(event, h11.Request) and event.http_version.startswith(b"1."):
            names = [name for name, _ in event.headers]
            assert b"transfer-encoding" in names
            assert b"content-length" in names or event.http_version == b"1.0"
        return
    assert isinstance(event, h11.Request)
    assert (head.method, head.target) == (event.method, event.target)
    assert head.minor == (b"0" if event.http_version == b"1.0" else b"1")
    assert data[head.size :] == left
    assert [tuple(item) for item in head.headers] == [tuple(item) for item in event.headers.raw_items()]
    lengths = [int(value) for name, value in event.headers if name == b"content-length"]
    chunked = any(name == b"transfer-encoding" for name, _ in event.headers)
    assert head.length == (CHUNKED if chunked else lengths[0] if lengths else 0)


@settings(max_examples=600, deadline=None)
@given(STATUS_LINES, FIELDS, st.sampled_from([b"\r\n", b"\n"]), st.sampled_from([b"", b"rest"]))
def test_answers_are_what_h11_makes_of_them(line, fields, blank, rest):
    data = line + fields + blank + rest
    try:
        head = response_head(data)
    except Refused:
        head = None
    event, left = by_h11(h11.CLIENT, data)
    if head is None:
        assert event is None or not event.http_version.startswith(b"1.")
        return
    assert isinstance(event, (h11.Response, h11.InformationalResponse))
    assert head.status == event.status_code
    assert data[head.size :] == left
    lengths = [int(value) for name, value in event.headers if name == b"content-length"]
    chunked = any(name == b"transfer-encoding" for name, _ in event.headers)
    assert head.length == (CHUNKED if chunked else lengths[0] if lengths else UNTIL_EOF)


@pytest.mark.parametrize("judge", [request_head, response_head])
def test_a_head_that_goes_on(judge):
    for part in (b"G", b"HTTP/1.1 200 OK\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r"):
        assert judge(part) is None
    with pytest.raises(Refused):
        judge(b"X" * (heads.MOST_HEAD_BYTES + 1))
    with pytest.raises(Refused):
        judge(b"\x16\3\1")


def test_the_usual_heads_do_not_need_h11(monkeypatch):
    monkeypatch.setattr(heads, "import_h11", None)
    head = request_head(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\nConnection: keep-alive\r\n\r\n1234567")
    assert (head.length, head.keep_alive, head.method) == (7, True, b"POST")
    answer = response_head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: \xe9\r\n\r\n")
    assert (answer.length, answer.keep_alive, answer.status) == (CHUNKED, True, 200)


def test_who_asks_again_for_nothing():
    assert not heads.may_be_complete(b"GET / HTTP/1.1\r\nHost: x\r\n", 5)
    assert heads.may_be_complete(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 26)
    assert heads.may_be_complete(b"GET / HTTP/1.1\n\n", 15)


@pytest.mark.parametrize(
    ("line", "lasts"),
    [("", True), ("Connection: close", False), ("connection: x, CLOSE", False), ("Connection: keep-alive", True)],
)
def test_keep_alive(line, lasts):
    lines = f"Host: x\r\n{line}\r\n" if line else "Host: x\r\n"
    assert request_head(f"GET / HTTP/1.1\r\n{lines}\r\n".encode()).keep_alive is lasts
    assert request_head(f"GET / HTTP/1.0\r\n{lines}\r\n".encode()).keep_alive is (line == "Connection: keep-alive")
