from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mirrord_trace.agent.http.actions import CLIENT, PEER, POD
from mirrord_trace.agent.http.detect import HTTP1, HTTP2, RAW, UNDECIDED, detect
from wires import Wires, get, mine, ok

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@pytest.mark.parametrize(
    ("start", "verdict"),
    [
        (b"", UNDECIDED),
        (b"G", UNDECIDED),
        (b"GET /x HTTP/1.", UNDECIDED),
        (b"GET /x HTTP/1.1\r", UNDECIDED),
        (b"GET /x HTTP/1.1\r\n", HTTP1),
        (b"GET /x HTTP/1.0\n", HTTP1),
        (b"M-SEARCH * HTTP/1.1\r\n", HTTP1),
        (b"PRI * HTTP/2.0\r\n\r\nSM", UNDECIDED),
        (PREFACE, HTTP2),
        (PREFACE + b"more", HTTP2),
        (b"PRI * HTTP/2.0\r\n\r\nXX", RAW),
        (b"\x16\x03\x01", RAW),
        (b"GET /x HTTP/3", RAW),
        (b"SET key value\r\n", RAW),
        (b"GET /x\r\n", RAW),
        (b"PING\r\n", RAW),
        (b"*1\r\n$4\r\nPING\r\n", RAW),
        (b"SSH-2.0-OpenSSH\r\n", RAW),
        (b"\0\0\0\x08\x04\xd2\x16\x2f", RAW),
        (b"X" * 33, RAW),
        (b"GET " + b"/" * 70000, RAW),
    ],
)
def test_first_bytes(start, verdict):
    assert detect(start) == verdict


@given(
    st.one_of(st.binary(max_size=60), st.sampled_from([get(), PREFACE, b"GET / HTTP/2\r\n", b"SET a b\r\n"])),
    st.binary(max_size=10),
)
def test_a_verdict_is_final(start, more):
    data = start + more
    verdicts = [detect(data[:size]) for size in range(len(data) + 1)]
    decided = [verdict for verdict in verdicts if verdict != UNDECIDED]
    assert len(set(decided)) <= 1
    assert verdicts == [UNDECIDED] * (len(verdicts) - len(decided)) + decided


def test_the_default_end_is_opened_at_once():
    assert Wires().opened[1] == POD
    assert Wires({}).opened[1] == CLIENT
    assert Wires({}, mirror=True).opened[1] == POD


def test_a_server_that_speaks_first_is_not_delayed():
    w = Wires().says(1, b"220 mail\r\n")
    assert w.answer == b"220 mail\r\n"
    assert w.joined == {PEER: 1, 1: PEER}
    w = Wires().peer(b"GE").says(1, b"220 mail\r\n")
    assert w.to(POD) == b"GE"
    assert w.joined[PEER] == 1


def test_what_is_not_http_is_joined_with_all_that_came():
    w = Wires().peer(b"SE").peer(b"T a b\r\n")
    assert w.to(POD) == b"SET a b\r\n"
    assert w.joined[PEER] == 1
    assert Wires({}).peer(b"\0").to(CLIENT) == b"\0"


def test_half_a_line_waits_a_while():
    w = Wires()
    assert w.router.wants_s == 0
    w.peer(b"GET")
    assert w.router.wants_s == 2
    w.waits()
    assert w.to(POD) == b"GET"
    assert w.router.wants_s == 0


def test_ends_before_anything_is_known():
    w = Wires().ends(PEER)
    assert w.eof == {1}
    assert w.joined[PEER] == 1
    assert Wires().ends(1).closed == {1: 0, PEER: 0}
    assert Wires().fails(PEER).closed == {1: errno.ECONNRESET, PEER: errno.ECONNRESET}


def test_a_pod_that_cannot_be_reached_does_not_keep_requests_from_the_client():
    w = Wires().fails(1, errno.ECONNREFUSED)
    assert w.router.wants_s > 0
    w.peer(mine())
    assert w.to(CLIENT) == mine()
    w.says(2, ok())
    assert w.answer == ok()
    assert Wires().fails(1, errno.ECONNREFUSED).waits().closed[PEER] == errno.ECONNREFUSED
    assert Wires().fails(1, errno.ECONNREFUSED).peer(b"\0").closed[PEER] == errno.ECONNREFUSED


SETTINGS = b"\0\0\6\4\0\0\0\0\0\0\3\0\0\0\7"


def test_a_server_of_http_2_may_speak_first():
    w = Wires()
    for byte in SETTINGS:
        w.says(1, bytes([byte]))
        assert w.router.wants_s > 0
    assert not w.joined
    assert w.answer == b""
    w.peer(PREFACE + b"\0\0\0\4\0\0\0\0\0")
    assert PEER not in w.joined
    assert b"\0\0\0\4\1\0\0\0\0" in w.answer


@pytest.mark.parametrize("more", [b"\0", b"\0\0\7\4", b"\0\0\6\4\0\0\0\0\1", b"\0\0\6\5"])
def test_who_only_begins_like_one_is_joined(more):
    w = Wires().says(1, more)
    if not w.joined:
        assert w.router.wants_s == 2
        w.waits()
    assert w.answer == more
    assert w.joined[PEER] == 1


def test_settings_before_a_peer_of_another_protocol():
    w = Wires().says(1, SETTINGS).peer(get())
    assert w.answer == SETTINGS
    assert w.to(POD) == get()
    assert w.joined[PEER] == 1
