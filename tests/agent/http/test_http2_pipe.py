from __future__ import annotations

from mirrord_trace.agent.http.actions import CLIENT
from mirrord_trace.agent.http.http2_pipe import Pipe
from mirrord_trace.agent.http.http2_side import Side


def pipe():
    peer, link = Side(0, "peer", is_client=False), Side(1, CLIENT, is_client=True)
    link.h2.send_headers(1, [(b":method", b"POST")])
    made = Pipe(peer, 1)
    made.target, made.target_id = link, 1
    return made


def test_data_waits_for_its_window():
    one = pipe()
    one.data(b"x" * 70000, 0)
    one.pump()
    assert one.held_bytes == 70000 - 65535
    assert one in one.target.blocked
    one.ended = True
    one.pump()
    assert not one.done
    one.target.h2.receive_data(b"\0\0\0\4\0\0\0\0\0" + b"\0\0\4\x08\0\0\0\0\1\0\1\0\0" + b"\0\0\4\x08\0\0\0\0\0\0\1\0\0")
    one.pump()
    assert one.done
    assert not one.held_bytes
    assert one not in one.target.blocked


def test_what_is_discarded_is_gone():
    one = pipe()
    one.data(b"abc", 0)
    one.discard()
    one.data(b"def", 0)
    one.ended = True
    one.pump()
    assert not one.held
    assert not one.done  # the source says when
    one.discard()
    assert one.done


def test_without_a_target_everything_waits():
    one = Pipe(Side(0, "peer", is_client=False), 1)
    one.data(b"abc", 0)
    one.ended = True
    one.pump()
    assert one.held_bytes == 3
