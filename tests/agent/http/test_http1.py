"""Requests and answers of one HTTP/1 connection, by script and at random."""

from __future__ import annotations

import errno
import itertools

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mirrord_trace.agent.http.actions import CLIENT, PEER, POD
from wires import ME, Wires, get, mine, ok

CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


def chunked(*parts, trailers=b""):
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n" + trailers + b"\r\n"


def test_requests_go_where_they_belong_and_answers_come_back():
    w = Wires()
    w.peer(get("/a"))
    assert w.to(POD) == get("/a")
    w.says(w.last(POD), ok(b"pod"))
    assert w.answer == ok(b"pod")
    w.peer(mine("/b"))
    assert w.to(CLIENT) == mine("/b")
    w.says(w.last(CLIENT), ok(b"client"))
    assert w.answer == ok(b"client")
    w.peer(get("/c"))
    assert w.to(POD) == get("/a") + get("/c")
    assert w.count(POD) == w.count(CLIENT) == 1
    assert not w.closed


def test_bytes_are_passed_on_as_they_are():
    odd = b"get /%7e?x HTTP/1.1\r\nhOsT:pod\r\nX-A:  b \t\r\nX-A: b\r\ncontent-length: 3\r\n\r\nabc"
    answer = b"HTTP/1.1 200\r\nx-Y :z\r\n\r\n".replace(b" :", b":") + b"until the end"
    w = Wires().peer(odd)
    assert w.to(POD) == odd
    w.says(1, answer)
    assert w.answer == answer
    w.ends(1)
    assert w.closed == {1: 0, PEER: 0}


def test_pipelined_requests_are_answered_in_order():
    w = Wires().peer(get("/1") + mine("/2") + get("/3"))
    assert w.to(POD) == get("/1")
    assert w.count(CLIENT) == 0
    w.says(1, ok(b"1"))
    assert w.to(CLIENT) == mine("/2")
    assert w.to(POD) == get("/1")
    w.says(w.last(CLIENT), ok(b"2"))
    assert w.to(POD) == get("/1") + get("/3")
    w.says(1, ok(b"3"))
    assert w.answer == ok(b"1") + ok(b"2") + ok(b"3")


def test_too_much_pipelining_stops_the_peer():
    w = Wires().peer(get("/1"))
    assert not w.router.full
    w.peer(get("/2", "X: " + "y" * 70000))
    assert w.router.full
    w.says(1, ok())
    assert not w.router.full


def test_bodies_stream_both_ways():
    w = Wires()
    head = mine("/", "Content-Length: 10", method="POST")
    w.peer(head + b"123")
    assert w.to(CLIENT) == head + b"123"
    w.peer(b"4567")
    assert w.to(CLIENT) == head + b"1234567"
    w.peer(b"890" + get("/next"))
    assert w.to(CLIENT) == head + b"1234567890"
    w.says(2, b"HTTP/1.1 200 OK\r\n" + CHUNKED)
    w.says(2, b"5\r\nhel")
    assert w.answer.endswith(b"hel")  # as it comes
    assert w.to(POD) == b""
    w.says(2, b"lo\r\n0\r\nTrailer: x\r\n\r\n")
    assert w.answer == b"lo\r\n0\r\nTrailer: x\r\n\r\n"
    assert w.to(POD) == get("/next")


def test_chunks_of_a_request_end_where_they_end():
    head = get("/", method="POST")[:-2] + CHUNKED
    body = chunked(b"abc", b"d" * 300, trailers=b"X: y\r\n")
    w = Wires().peer(head + body + mine("/2"))
    assert w.to(POD) == head + body
    w.says(1, ok())
    assert w.to(CLIENT) == mine("/2")


def test_interim_answers_are_passed_on():
    w = Wires().peer(mine("/", "Content-Length: 2", "Expect: 100-continue", method="PUT"))
    w.says(2, b"HTTP/1.1 100 Continue\r\n\r\n")
    assert w.answer == b"HTTP/1.1 100 Continue\r\n\r\n"
    w.peer(b"hi")
    w.says(2, b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + ok(b"done"))
    assert w.answer == b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + ok(b"done")
    assert w.to(CLIENT).endswith(b"\r\n\r\nhi")


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_answers_without_a_body(status):
    w = Wires().peer(get())
    w.says(1, f"HTTP/1.1 {status}\r\n\r\n".encode())
    w.peer(mine())
    assert w.to(CLIENT) == mine()


def test_head_has_a_length_and_no_body():
    w = Wires().peer(get(method="HEAD"))
    w.says(1, b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    assert w.peer(mine()).to(CLIENT) == mine()


def test_an_upgrade_leaves_the_connection_to_both():
    request = mine("/ws", "Connection: Upgrade", "Upgrade: websocket")
    w = Wires().peer(request + b"early")
    assert w.to(CLIENT) == request
    answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    w.says(2, answer + b"\x81\x02hi")
    assert w.answer == answer + b"\x81\x02hi"
    assert w.to(CLIENT) == request + b"early"
    assert w.joined == {PEER: 2, 2: PEER}
    assert w.closed == {1: 0}


def test_an_upgrade_that_is_refused_changes_nothing():
    w = Wires().peer(get("/", "Connection: Upgrade", "Upgrade: h2c"))
    w.says(1, ok(b"plain"))
    assert w.peer(mine()).to(CLIENT) == mine()


def test_connect():
    w = Wires().peer(b"CONNECT pod:80 HTTP/1.1\r\nHost: pod:80\r\n\r\n")
    w.says(1, b"HTTP/1.1 200 OK\r\n\r\nraw")
    assert w.answer == b"HTTP/1.1 200 OK\r\n\r\nraw"
    assert w.joined[PEER] == 1


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (get("/", "Connection: close"), ok(b"x")),
        (get("/"), ok(b"x", "Connection: foo, Close")),
        (b"GET / HTTP/1.0\r\n\r\n", ok(b"x")),
        (get("/"), b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx"),
    ],
)
def test_the_last_answer_closes(request_, answer):
    w = Wires().peer(request_).says(1, answer)
    assert w.answer == answer
    assert w.closed == {PEER: 0, 1: 0}


def test_http_1_0_with_keep_alive():
    request = b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"
    answer = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx"
    w = Wires().peer(request).says(1, answer).peer(request).says(1, answer)
    assert w.answer == answer * 2
    assert not w.closed


def test_an_end_that_closes_between_requests_is_opened_anew():
    w = Wires().peer(get("/1")).says(1, ok()).ends(1)
    assert w.closed == {1: 0}
    assert w.router.wants_s > 0
    w.peer(get("/2"))
    assert w.router.wants_s == 0
    assert w.sent[w.last(POD)] == get("/2")


def test_a_peer_that_no_end_waits_for_is_closed_after_a_while():
    w = Wires().peer(get("/1")).says(1, ok()).ends(1).waits()
    assert w.closed == {1: 0, PEER: 0}


@pytest.mark.parametrize("break_", [Wires.ends, Wires.fails])
def test_a_connection_that_was_closed_under_a_request_is_tried_again(break_):
    w = Wires().peer(get("/1")).says(1, ok(b"1"))
    break_(w.peer(get("/2")), 1)
    assert w.sent[w.last(POD)] == get("/2")
    w.says(w.last(POD), ok(b"2"))
    assert w.answer == ok(b"1") + ok(b"2")


def test_what_may_have_been_done_is_not_done_twice():
    post = get("/2", "Content-Length: 0", method="POST")
    w = Wires().peer(get("/1")).says(1, ok(b"1")).peer(post).fails(1)
    assert w.closed[PEER] == errno.ECONNRESET
    assert w.count(POD) == 1


@pytest.mark.parametrize("break_", [Wires.ends, Wires.fails])
def test_a_client_that_does_not_answer_is_a_bad_gateway_and_the_connection_goes_on(break_):
    w = Wires().peer(mine("/1"))
    break_(w, w.last(CLIENT))
    assert w.answer.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
    assert PEER not in w.closed
    w.peer(get("/2"))
    assert w.to(POD) == get("/2")
    w.peer(b"").says(w.last(POD), ok(b"2"))
    assert w.answer == ok(b"2")


def test_a_bad_gateway_takes_in_the_rest_of_the_body():
    w = Wires().peer(mine("/1", "Content-Length: 5", method="POST") + b"ab").fails(2, errno.ECONNREFUSED)
    assert b"Connection refused" in w.answer
    w.peer(b"cde" + get("/2"))
    assert w.to(POD) == get("/2")
    assert PEER not in w.closed


def test_a_bad_gateway_for_head_has_no_body():
    assert Wires().peer(mine(method="HEAD")).fails(2).answer.endswith(b"\r\n\r\n")


def test_a_peer_that_waits_for_100_is_closed_with_the_bad_gateway():
    w = Wires().peer(mine("/1", "Content-Length: 5", "Expect: 100-continue", method="POST")).fails(2)
    assert b"502 Bad Gateway" in w.sent[PEER]
    assert b"Connection: close" in w.sent[PEER]
    assert PEER in w.eof
    w.ends(PEER)
    assert w.closed[PEER] == 0


def test_a_pod_that_does_not_answer_is_as_without_us():
    assert Wires().peer(get()).fails(1, errno.ECONNREFUSED).closed == {1: errno.ECONNREFUSED, PEER: errno.ECONNREFUSED}
    assert Wires().peer(get()).ends(1).closed == {1: 0, PEER: 0}
    w = Wires().peer(get()).says(1, b"HTTP/1.1 200").ends(1)
    assert w.answer == b"HTTP/1.1 200"


@pytest.mark.parametrize(
    "part", [b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"5\r\nab"]
)
def test_an_answer_that_is_cut_short_is_cut_short_for_the_peer(part):
    w = Wires().peer(mine()).says(2, part).ends(2)
    assert w.answer == part
    assert w.closed[PEER] == 0
    assert Wires().peer(mine()).says(2, part).fails(2).closed[PEER] == errno.ECONNRESET


def test_an_early_answer_lets_the_request_go_on():
    head = get("/", "Content-Length: 10", method="POST")
    w = Wires().peer(head + b"12345").says(1, ok(b"no"))
    assert w.answer == ok(b"no")
    w.peer(b"67890" + mine())
    assert w.to(POD) == head + b"1234567890"
    assert w.to(CLIENT) == mine()


def test_an_early_answer_that_closes_is_not_reset():
    head = get("/", "Content-Length: 10", method="POST")
    w = Wires().peer(head + b"12345").says(1, ok(b"no", "Connection: close"))
    assert w.eof == {PEER}
    assert not w.closed
    w.peer(b"678")
    w.ends(1)
    assert w.closed == {1: 0, PEER: 0}


def test_a_half_close_of_the_peer_is_passed_on():
    w = Wires().peer(mine()).ends(PEER)
    assert w.eof == {2}
    w.says(2, ok(b"still"))
    assert w.answer == ok(b"still")
    assert w.closed == {1: 0, 2: 0, PEER: 0}


def test_a_half_close_behind_pipelined_requests_goes_with_the_last():
    w = Wires().peer(get("/1") + mine("/2")).ends(PEER)
    assert not w.eof
    w.says(1, ok(b"1"))
    assert w.eof == {2}
    w.says(2, ok(b"2"))
    assert w.answer == ok(b"1") + ok(b"2")
    assert w.closed[PEER] == 0


def test_a_peer_that_goes_away():
    w = Wires().peer(get("/1")).says(1, ok()).ends(PEER)
    assert w.closed == {1: 0, PEER: 0}
    w = Wires().peer(mine("/1")).fails(PEER)
    assert w.closed == {1: 0, 2: errno.ECONNRESET, PEER: errno.ECONNRESET}


def test_events_are_streamed_and_their_end_is_passed_on():
    w = Wires().peer(mine("/events"))
    w.says(2, b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
    for number in range(3):
        w.says(2, b"data: %d\n\n" % number)
        assert w.answer.endswith(b"data: %d\n\n" % number)
    w.ends(PEER)
    assert w.eof == {2}


def test_an_unused_pod_connection_does_not_keep_a_worker():
    w = Wires().peer(mine())
    assert w.closed == {1: 0}
    w.says(2, ok()).peer(get()).says(w.last(POD), ok())
    w.peer(mine())
    assert list(w.closed) == [1]


@pytest.mark.parametrize(
    "strange",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
    ],
)
def test_what_h11_refuses_is_the_pods_to_judge(strange):
    w = Wires().peer(strange)
    assert w.to(POD) == strange
    assert w.joined == {PEER: 1, 1: PEER}
    w = Wires().peer(mine()).says(2, ok()).peer(strange)
    if PEER in w.joined:
        pytest.fail("what follows a request of the client's must not become the pod's unseen")
    assert PEER in w.closed


def test_lines_that_end_with_a_line_feed_alone():
    request = b"GET / HTTP/1.1\nHost: a\nX-User: me\n\n"
    w = Wires().peer(request + get())
    assert w.to(CLIENT) == request
    answer = b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi"
    w.says(2, answer)
    assert w.answer == answer
    assert w.to(POD) == get()


def test_empty_lines_before_a_request():
    w = Wires().peer(get("/1")).says(1, ok()).peer(b"\r\n\r\n")
    w.peer(mine("/2"))
    assert w.to(CLIENT) == b"\r\n\r\n" + mine("/2")


@pytest.mark.parametrize(
    "garbage", [b"garbage", b"SSH-2.0-x\r\n", b"\0\1\2", b"HTTP/1.1 OK\r\n\r\n", b"HTTP/1.1 99 x\r\n\r\n"]
)
def test_an_answer_that_is_none_is_passed_on_up_to_its_end(garbage):
    w = Wires().peer(mine()).says(2, garbage).ends(2)
    if w.sent[PEER] != garbage:  # nothing of it could be told apart from a beginning
        assert w.answer.startswith(b"HTTP/1.1 502")
    else:
        assert w.closed[PEER] == 0


def test_what_nobody_asked_for_is_dropped():
    w = Wires().peer(get("/1")).says(1, ok()).says(1, b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    assert w.answer == ok()
    assert w.closed == {1: 0}
    w = Wires().peer(get("/1")).says(1, ok() + b"more")
    assert w.answer == ok()
    assert w.closed == {1: 0}


def test_half_a_head_is_in_the_end_the_pods():
    w = Wires().peer(get("/1")[:-2])
    assert w.to(POD) == b""
    w.waits()
    assert w.to(POD) == get("/1")[:-2]
    assert w.joined[PEER] == 1
    w = Wires().peer(get("/1")[:-2]).ends(PEER)
    assert w.to(POD) == get("/1")[:-2]
    assert 1 in w.eof


def test_a_head_without_end_is_the_pods():
    w = Wires()
    for _ in range(200):
        w.peer(b"GET / HTTP/1.1\r\nHost: a\r\n" if not w.to(POD) and not _ else b"X: " + b"y" * 1000 + b"\r\n")
    assert w.joined[PEER] == 1
    assert len(w.to(POD)) > 100_000


def test_probes_are_the_pods_unless_taken():
    probe = mine("/healthz", "User-Agent: kube-probe/1.30")
    assert Wires().peer(probe).to(POD) == probe
    assert Wires({**ME, "probes": "take"}).peer(probe).to(CLIENT) == probe
    assert Wires({}).peer(probe).to(POD) == probe
    assert Wires({}).peer(get()).to(CLIENT) == get()


def test_markers():
    w = Wires({**ME, "marker": True}).peer(mine()).says(2, b"HTTP/1.1 100 Continue\r\n\r\n" + ok(b"x"))
    expected = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nmirrord-agent: forwarded-to-client\r\n\r\nx"
    assert w.answer == b"HTTP/1.1 100 Continue\r\n\r\n" + expected
    w.peer(get()).says(w.last(POD), b"HTTP/1.1 204 No\nX: y\n\n")
    assert w.answer == b"HTTP/1.1 204 No\nX: y\nmirrord-agent: passed-through\n\n"
    w.peer(mine()).fails(2).fails(w.last(CLIENT))
    assert b"mirrord-agent: forwarded-to-client\r\n" in w.answer


BODY = {"filter": {"body": {"query": "$.user", "matches": "^me$"}}}


def post(body, *lines):
    return get("/", f"Content-Length: {len(body)}", *lines, method="POST") + body


def test_a_filter_of_bodies_waits_for_the_body():
    request = post(b'{"user": "me"}')
    w = Wires(BODY).peer(request[:-3])
    assert w.router.wants_s == 1
    assert w.to(POD) == w.to(CLIENT) == b""
    w.peer(request[-3:])
    assert w.to(CLIENT) == request
    assert w.router.wants_s == 0
    other = post(b'{"user": "you"}')
    assert Wires(BODY).peer(other).to(POD) == other
    assert Wires(BODY).peer(get()).to(POD) == get()


def test_chunks_are_looked_into():
    request = get("/", method="POST")[:-2] + CHUNKED + chunked(b'{"us', b'er": "me"}')
    w = Wires(BODY)
    for byte in request:
        w.peer(bytes([byte]))
    assert w.to(CLIENT) == request


def test_a_body_that_does_not_come_in_time_matches_nothing():
    request = post(b'{"user": "me"}')
    w = Wires(BODY).peer(request[:-3]).waits()
    assert w.to(POD) == request[:-3]
    w.peer(request[-3:])
    assert w.to(POD) == request


def test_a_body_that_is_too_long_matches_nothing_at_once():
    request = post(b'{"user": "me"}' + b" " * 70000)
    w = Wires(BODY).peer(request[:200])
    assert w.to(POD) == request[:200]
    endless = get("/", method="POST")[:-2] + CHUNKED
    w = Wires(BODY).peer(endless)
    for _ in range(80):
        w.peer(b"400\r\n" + b"x" * 1024 + b"\r\n")
    assert w.to(POD).startswith(endless)


def test_a_peer_that_waits_for_100_is_told_to_go_on_once():
    request = post(b'{"user": "me"}', "Expect: 100-continue")
    w = Wires(BODY).peer(request[:-14])
    assert w.answer == b"HTTP/1.1 100 Continue\r\n\r\n"
    w.peer(request[-14:])
    assert w.to(CLIENT) == request
    w.says(2, b"HTTP/1.1 100 Continue\r\n\r\n" + ok(b"x"))
    assert w.answer == ok(b"x")


def test_a_wait_that_begins_later_is_not_cut_short():
    first, second = post(b'{"user": "me"}'), post(b'{"user": "me", "n": 2}')
    w = Wires(BODY).peer(first[:-1])
    w.peer(first[-1:] + second[:-1]).says(w.last(CLIENT), ok())
    assert w.router.wants_s == 1
    w.peer(second[-1:])
    assert w.to(CLIENT) == first + second


# -- mirror -----------------------------------------------------------------------------------------------------------


def test_mirror_sends_copies_and_drops_their_answers():
    w = Wires(mirror=True).peer(mine("/1"))
    copy = w.last(CLIENT)
    assert w.to(POD) == w.sent[copy] == mine("/1")
    assert w.copies == {copy}
    w.says(copy, ok(b"copy")).says(1, ok(b"pod"))
    assert w.answer == ok(b"pod")
    w.peer(get("/2")).says(1, ok()).peer(mine("/3"))
    assert w.sent[copy] == mine("/1") + mine("/3")
    assert w.to(POD) == mine("/1") + get("/2") + mine("/3")


def test_a_slow_copy_gets_company_and_at_some_point_copies_are_left_out():
    w = Wires(mirror=True)
    for _ in range(30):
        w.peer(mine()).says(1, ok())
    assert len(w.copies) == 16
    assert w.to(POD) == mine() * 30


def test_a_broken_copy_is_nobodys_business():
    w = Wires(mirror=True).peer(mine("/1", "Content-Length: 4", method="POST") + b"ab").fails(2)
    w.peer(b"cd").says(1, ok(b"x"))
    assert w.answer == ok(b"x")
    w.peer(mine("/2"))
    assert w.sent[w.last(CLIENT)] == mine("/2")


def test_a_copy_may_still_be_answered_when_the_peer_is_gone():
    w = Wires(mirror=True).peer(mine("/1")).says(1, ok()).ends(PEER)
    assert w.closed == {1: 0, PEER: 0}
    assert w.router.wants_s > 0
    w.says(2, ok())
    assert w.closed == {1: 0, PEER: 0, 2: 0}
    assert w.router.wants_s == 0
    w = Wires(mirror=True).peer(mine("/1")).fails(PEER).waits()
    assert set(w.closed) == {1, 2, PEER}


def test_copies_live_on_beside_joined_connections():
    request = mine("/1", "Connection: upgrade", "Upgrade: x")
    w = Wires(mirror=True).peer(request).says(1, b"HTTP/1.1 101 S\r\n\r\n")
    assert w.joined[PEER] == 1
    w.says(2, b"HTTP/1.1 101 S\r\n\r\n")
    assert w.closed == {2: 0}


# -- at random --------------------------------------------------------------------------------------------------------

BODIES = st.binary(max_size=40)


@st.composite
def exchanges(draw):
    """(request, whose, answer), all valid, none the last of its connection."""
    is_mine, body = draw(st.booleans()), draw(BODIES)
    method = draw(st.sampled_from(["GET", "POST", "HEAD", "PUT"]))
    make = mine if is_mine else get
    framing = draw(st.sampled_from(["none", "length", "chunked"]))
    if framing == "length":
        request = make("/x", f"Content-Length: {len(body)}", method=method) + body
    elif framing == "chunked":
        request = make("/x", "Transfer-Encoding: chunked", method=method) + chunked(*([body] if body else []))
    else:
        request = make("/x", method=method)
    said = draw(BODIES)
    kind = draw(st.sampled_from(["length", "chunked", "204"]))
    interim = draw(st.sampled_from([b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"]))
    if kind == "204":
        answer = b"HTTP/1.1 204 No Content\r\n\r\n"
    elif kind == "length":
        answer = ok(b"" if method == "HEAD" else said)
    else:
        answer = b"HTTP/1.1 200 OK\r\n" + CHUNKED + (b"" if method == "HEAD" else chunked(*([said] if said else [])))
    return request, is_mine, interim + answer


def cut(data, cuts):
    places = sorted({place % (len(data) + 1) for place in cuts} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


CUTS = st.lists(st.integers(0, 5000), max_size=8)


@settings(max_examples=150, deadline=None)
@given(st.lists(exchanges(), min_size=1, max_size=5), CUTS, CUTS, st.booleans())
def test_all_answers_come_back_in_order_whatever_the_cuts(sequence, cuts, answer_cuts, mirror):
    w = Wires(mirror=mirror)
    todo = {POD: [], CLIENT: []}
    for request, is_mine, answer in sequence:
        todo[CLIENT if is_mine and not mirror else POD].append((request, answer))
    asked = {POD: b"", CLIENT: b""}

    def serve():
        progress = True
        while progress:
            progress = False
            for end, rest in todo.items():
                if rest and w.to(end) == asked[end] + rest[0][0]:
                    request, answer = rest.pop(0)
                    asked[end] += request
                    for piece in cut(answer, answer_cuts):
                        w.says(
                            w.last(end)
                            if end == CLIENT
                            else max(n for n, where in w.opened.items() if where == POD and n not in w.closed),
                            piece,
                        )
                    progress = True

    for piece in cut(b"".join(request for request, _, _ in sequence), cuts):
        w.peer(piece)
        serve()
    assert w.answer == b"".join(answer for _, _, answer in sequence)
    assert not todo[POD]
    assert not todo[CLIENT]
    assert PEER not in w.closed


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.sampled_from(["says", "says", "says", "ends", "fails", "waits"]),
            st.one_of(
                st.binary(max_size=50),
                st.sampled_from(
                    [
                        get(),
                        mine(),
                        ok(b"x"),
                        mine("/", "Content-Length: 3", method="POST"),
                        b"abc",
                        b"\r\n",
                        get()[:-2] + CHUNKED,
                        mine()[:-2] + CHUNKED,
                        chunked(b"a"),
                        b"HTTP/1.1 101 S\r\n\r\n",
                        b"HTTP/1.1 200 OK\r\n\r\n",
                        b"HTTP/1.1 100 Continue\r\n\r\n",
                        get("/", "Connection: close"),
                        b"HTTP/1.1 200 OK\r\n" + CHUNKED,
                        b"zz\r\n",
                        mine("/", "Expect: 100-continue", "Content-Length: 9"),
                    ]
                ),
            ),
        ),
        max_size=25,
    ),
    st.sampled_from([ME, BODY, {}, {**ME, "marker": True}]),
    st.booleans(),
)
def test_nothing_that_happens_is_too_much(happenings, rules, mirror):
    w = Wires(rules, mirror)
    for connection, what, data in happenings:
        if what == "waits":
            if w.router.wants_s:
                w.waits()
        elif connection in w.opened:
            getattr(w, what)(connection, *([data] if what == "says" else []))
    w.fails(PEER)
    for connection in list(w.opened):
        w.ends(connection)
    if w.router.wants_s:
        w.waits()
    # Whoever is not joined is closed in the end.
    assert set(w.opened) == set(w.closed) | set(w.joined)


def test_a_real_peer_of_h11():
    peer = h11.Connection(h11.CLIENT)
    server = h11.Connection(h11.SERVER)
    w = Wires()
    headers = [("Host", "pod"), ("X-User", "me"), ("Transfer-Encoding", "chunked")]
    w.peer(peer.send(h11.Request(method="POST", target="/", headers=headers)))
    w.peer(peer.send(h11.Data(data=b"hello")) + peer.send(h11.EndOfMessage()))
    server.receive_data(w.to(CLIENT))
    assert [type(server.next_event()) for _ in range(3)] == [h11.Request, h11.Data, h11.EndOfMessage]
    w.says(2, server.send(h11.Response(status_code=200, headers=[("Transfer-Encoding", "chunked")])))
    w.says(2, server.send(h11.Data(data=b"world")) + server.send(h11.EndOfMessage(headers=[("x", "y")])))
    peer.receive_data(w.answer)
    assert [type(peer.next_event()) for _ in range(3)] == [h11.Response, h11.Data, h11.EndOfMessage]
