from __future__ import annotations

import pytest
from mirrord_trace.agent.http.actions import CLIENT, POD
from mirrord_trace.agent.http.decide import Decider
from mirrord_trace.agent.http.filters import Facts
from mirrord_trace.agent.http.heads import request_head
from mirrord_trace.agent.http.waiting import WaitingBody
from wires import rules_of

DECIDER = Decider(rules_of({"filter": {"body": {"query": "$", "matches": "me"}}}), False, lambda: True)


def waiting(lines, body=b""):
    head = request_head(f"POST / HTTP/1.1\r\nHost: x\r\n{lines}\r\n\r\n".encode() + body)
    return WaitingBody(head, Facts(head.method, head.target, head.headers))


@pytest.mark.parametrize("lines", ["Content-Length: 4", "Transfer-Encoding: chunked"])
def test_the_choice_comes_with_the_body(lines):
    body = b'"me"' if "Length" in lines else b'1\r\n"\r\n3\r\nme"\r\n0\r\n\r\n'
    one = waiting(lines)
    head = b"x" * one.head.size
    assert one.look(head + body[:2], DECIDER, False) is None
    assert one.look(head + body, DECIDER, False) == CLIENT


def test_what_does_not_come_matches_nothing():
    one = waiting("Content-Length: 4")
    assert one.look(b"x" * one.head.size, DECIDER, True) == POD
    one.give_up()
    assert one.look(b"x" * one.head.size, DECIDER, False) == POD
    one = waiting("Content-Length: 70000")
    assert one.look(b"x" * one.head.size, DECIDER, False) == POD
    one = waiting("Transfer-Encoding: chunked")
    assert one.look(b"x" * one.head.size + b"zz\r\n", DECIDER, False) == POD


def test_the_peer_is_told_to_go_on_once():
    one = waiting("Content-Length: 4\r\nExpect: 100-continue")
    assert [one.wants_continue(), one.wants_continue()] == [True, False]
    assert one.continued
    assert not waiting("Content-Length: 4").wants_continue()
