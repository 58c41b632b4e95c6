from __future__ import annotations

from mirrord_trace.agent.http.actions import CLIENT, Close, Open, Send
from mirrord_trace.agent.http.copies import Copies
from mirrord_trace.agent.http.decide import Decider
from mirrord_trace.agent.http.heads import request_head
from wires import ME, get, ok, rules_of


def copies():
    return Copies(Decider(rules_of(ME), True, lambda: True))


HEAD = request_head(get())


def test_a_connection_is_used_again_when_its_copy_is_answered():
    them, out = copies(), []
    first = them.begin(HEAD, out)
    them.send(first, get(), True, out)
    assert out == [Open(1, CLIENT, copy=True), Send(1, get())]
    assert them
    assert them.received(1, ok()) == []
    assert not them
    out.clear()
    assert them.begin(HEAD, out).connection == 1
    assert out == []


def test_one_that_closes_is_not():
    them, out = copies(), []
    them.send(them.begin(HEAD, out), get(), True, out)
    assert them.received(1, ok(b"", "Connection: close")) == [Close(1)]
    assert them.begin(HEAD, out).connection == 2
    assert them.ended(2) == [Close(2)]
    assert them.failed(2) == []


def test_an_answer_before_the_end_of_the_copy():
    them, out = copies(), []
    copy = them.begin(HEAD, out)
    them.send(copy, b"part", False, out)
    assert them.received(1, ok()) == []
    assert them
    them.send(copy, b"rest", True, out)
    assert not them


def test_closing_lets_whole_copies_end():
    them, out = copies(), []
    whole, half = them.begin(HEAD, out), them.begin(HEAD, out)
    them.send(whole, b"all", True, out)
    them.send(half, b"part", False, out)
    out.clear()
    them.close(out)
    assert out == [Close(2)]
    them.send(half, b"more", True, out)
    assert them.received(1, ok()) == [Close(1)]
    them.close(out, at_once=True)
    assert len(out) == 1
