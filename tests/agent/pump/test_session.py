"""Requests, notices, early streams, resume and the end of a session."""

from __future__ import annotations

import socket
from errno import ECONNRESET, EFBIG, ENOBUFS, ETIMEDOUT
from typing import Any, List

import pytest
from mirrord_trace.agent.pump import session as session_module
from mirrord_trace.agent.pump.transport import SocketTransport
from mirrord_trace.agent.wire import codec, frames
from mirrord_trace.agent.wire.errors import LocalProtocolError
from mirrord_trace.agent.wire.messages import Bye, Done, Failed, GetPod, Log, Message, ReadLink


def test_request_reply_and_counts(world: Any) -> None:
    world.agent.on_request = lambda message, reply: reply(Bye(message.path.hex()))
    replies: List[Message] = []
    for number in range(3):
        world.client.session.request(ReadLink(bytes([number])), replies.append)
    assert replies == []
    world.until(lambda: len(replies) == 3)
    assert replies == [Bye("00"), Bye("01"), Bye("02")]
    assert world.client.session.round_trips == 3
    assert world.agent.session.bytes_received == world.client.session.bytes_sent > 0
    assert world.client.session.bytes_received == world.agent.session.bytes_sent > 0


def test_both_sides_may_ask(world: Any) -> None:
    world.client.on_request = lambda message, reply: reply(Done())
    replies: List[Message] = []
    world.agent.session.request(GetPod(), replies.append)
    world.until(lambda: replies == [Done()])


def test_notices(world: Any) -> None:
    world.agent.session.notify(Log(20, "hello"))
    world.until(lambda: world.client.notices == [Log(20, "hello")])


def test_deadline_and_late_reply(world: Any) -> None:
    replies: List[Message] = []
    world.client.session.request(GetPod(), replies.append, deadline_s=0.01)
    world.until(lambda: bool(replies))
    assert isinstance(replies[0], Failed)
    assert replies[0].errno == ETIMEDOUT
    world.until(lambda: bool(world.agent.requests))
    world.agent.requests[0][1](Done())
    world.round_trip()
    assert len(replies) == 1
    assert world.client.session.connection.open_requests == 0


def test_more_requests_than_may_be_under_way_wait_their_turn(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "MAX_REQUESTS", 4)
    monkeypatch.setattr(frames, "MAX_REQUESTS", 4)
    replies: List[Message] = []
    for number in range(10):
        world.client.session.request(ReadLink(bytes([number])), replies.append)
    world.client.session.request(GetPod(), replies.append, deadline_s=0.01)
    world.until(lambda: bool(replies))
    assert isinstance(replies[0], Failed)
    assert len(world.agent.requests) == 4
    world.agent.on_request = lambda message, reply: reply(Bye(message.path.hex()))
    for message, reply in world.agent.requests:
        reply(Bye(message.path.hex()))
    world.until(lambda: len(replies) == 11)
    assert replies[1:] == [Bye(f"{number:02x}") for number in range(10)]


def test_a_notice_does_not_overtake_requests_that_wait_their_turn(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "MAX_REQUESTS", 2)
    monkeypatch.setattr(frames, "MAX_REQUESTS", 2)
    order: List[object] = []
    world.agent.on_request = lambda message, reply: (order.append(message.path), reply(Done()))
    world.agent.session._on_notice = order.append
    for number in range(5):
        world.client.session.request(ReadLink(bytes([number])), lambda reply: None)
    world.client.session.notify(Bye("last"))
    world.until(lambda: len(order) == 6)
    assert order == [b"\0", b"\1", b"\2", b"\3", b"\4", Bye("last")]


def test_a_reply_that_is_too_large_fails_instead(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "MAX_MESSAGE_BYTES", 1000)
    world.agent.on_request = lambda message, reply: reply(Bye("x" * 1000))
    replies: List[Any] = []
    world.client.session.request(GetPod(), replies.append)
    world.until(lambda: bool(replies))
    assert replies[0].errno == EFBIG


def test_a_reply_after_the_close_is_ignored(world: Any) -> None:
    world.client.session.request(GetPod(), lambda message: None)
    world.until(lambda: bool(world.agent.requests))
    world.agent.session.abandon()
    world.agent.requests[0][1](Done())
    world.agent.session.notify(Done())


def test_what_comes_before_the_stream_is_joined_waits(world: Any) -> None:
    stream = world.client.session.new_stream()
    connection = world.client.session.connection
    connection.send_data(stream, b"early ")
    connection.send_data(stream, b"bytes")
    connection.send_eof(stream)
    world.round_trip()
    got = bytearray()
    ends: List[int] = []
    world.agent.session.consume(stream, got.extend, ends.append)
    assert got == b""
    world.until(lambda: ends == [0])
    assert got == b"early bytes"


def test_early_frames_are_bounded(world: Any) -> None:
    stream = world.agent.session.new_stream()
    ends: List[int] = []
    world.agent.session.consume(stream, lambda data: None, ends.append)
    late = world.agent.session.new_stream()
    for _ in range(session_module.EARLY_FRAMES + 1):
        world.agent.session.connection.send_data(late, b"x")
    world.agent.session.datagrams(late, lambda datagram: None, ends.append)
    world.until(lambda: ends == [ENOBUFS])
    assert world.client.session.connection.is_open(stream)


def test_joining_a_closed_stream_ends_at_once(world: Any) -> None:
    stream = world.stream()
    world.client.session.reset(stream, 0)
    world.round_trip()
    ends: List[int] = []
    world.agent.session.consume(stream, lambda data: None, ends.append)
    assert ends == []
    world.until(lambda: ends == [ECONNRESET])


def test_a_stream_has_one_end(world: Any) -> None:
    stream = world.stream()
    world.client.session.consume(stream, lambda data: None, lambda errno: None)
    with pytest.raises(LocalProtocolError):
        world.client.session.consume(stream, lambda data: None, lambda errno: None)


def test_resume_goes_on_where_it_stopped(world: Any) -> None:
    world.agent.on_request = lambda message, reply: reply(Bye(message.path.hex()))
    replies: List[Message] = []
    for number in range(20):
        world.client.session.request(ReadLink(bytes([number])), replies.append)
        if number % 4 == 0:
            world.until(lambda: True)
            world.join()  # the old transport is cut wherever it was
    world.until(lambda: len(replies) == 20)
    assert replies == [Bye(f"{number:02x}") for number in range(20)]
    assert world.client.session.round_trips == 20


def test_lost_transport_is_told_once_and_things_wait(world: Any) -> None:
    world.client.session._carrier.detach()
    world.until(lambda: world.agent.lost == [None])
    assert not world.agent.session.attached
    replies: List[Message] = []
    world.agent.session.request(GetPod(), replies.append)
    world.client.on_request = lambda message, reply: reply(Done())
    world.join()
    world.until(lambda: replies == [Done()])
    assert world.agent.lost == [None]


def test_attach_to_a_closed_session(world: Any) -> None:
    world.client.session.abandon()
    one, other = socket.socketpair()
    with one, other, pytest.raises(LocalProtocolError):
        world.client.session.attach(SocketTransport(one))
    replies: List[Any] = []
    world.client.session.request(GetPod(), replies.append)
    world.until(lambda: bool(replies))
    assert replies[0].errno == ECONNRESET


def test_close_says_bye_behind_everything_queued(world: Any) -> None:
    closed: List[int] = []
    stream = world.stream()
    got = bytearray()
    world.agent.session.consume(stream, got.extend, lambda errno: None)
    world.client.session.connection.send_data(stream, bytes(300_000))
    world.client.session.notify(Log(10, "last"))
    replies: List[Any] = []
    world.client.session.request(GetPod(), replies.append)
    world.client.session.close("done", on_closed=lambda: closed.append(1))
    world.client.session.close("again")
    world.until(lambda: bool(closed) and bool(world.agent.lost))
    assert world.agent.notices == [Log(10, "last"), Bye("done")]
    assert len(got) == 300_000
    assert replies[0].errno == ECONNRESET
    assert world.client.lost == []
    assert world.client.session.closed


def test_close_waits_for_what_sockets_still_have_to_say(world: Any) -> None:
    stream = world.stream()
    ours, theirs = socket.socketpair()
    got = bytearray()
    world.agent.session.consume(stream, got.extend, lambda errno: None)
    world.client.session.bridge(stream, theirs)
    ours.send(bytes(50_000))
    closed: List[int] = []
    world.client.session.close("done", linger_s=5.0, on_closed=lambda: closed.append(1))
    world.loop.call_later(0.02, ours.close)
    world.until(lambda: bool(closed) and bool(world.agent.lost))
    assert len(got) == 50_000
    assert world.agent.notices == [Bye("done")]


def test_close_does_not_wait_for_ever(world: Any) -> None:
    stream = world.stream()
    ours, theirs = socket.socketpair()
    world.client.session.bridge(stream, theirs)
    closed: List[int] = []
    with ours:
        world.client.session.close("done", linger_s=0.02, on_closed=lambda: closed.append(1))
        world.until(lambda: bool(closed))
        assert ours.recv(1) == b""


def test_close_without_a_transport(world: Any) -> None:
    world.client.session._carrier.detach()
    closed: List[int] = []
    world.client.session.close("done", on_closed=lambda: closed.append(1))
    world.until(lambda: bool(closed))


def test_abandon_ends_everything_here(world: Any) -> None:
    replies: List[Any] = []
    ends: List[int] = []
    world.client.session.request(GetPod(), replies.append)
    world.client.session.consume(world.client.session.new_stream(), lambda data: None, ends.append)
    ours, theirs = socket.socketpair()
    with ours:
        world.client.session.bridge(world.client.session.new_stream(), theirs, ends.append)
        world.client.session.abandon()
        world.client.session.abandon()
        assert ours.recv(1) == b""
    assert ends == [ECONNRESET, ECONNRESET]
    assert replies[0].errno == ECONNRESET
    world.until(lambda: bool(world.agent.lost))


def test_an_exception_of_a_callback_is_a_bug_and_goes_up(world: Any) -> None:
    def bug(message: Message, reply: Any) -> None:
        raise FileNotFoundError("not a matter of the transport")

    world.agent.on_request = bug
    world.client.session.request(GetPod(), lambda message: None)
    with pytest.raises(FileNotFoundError):
        world.until(lambda: False, within_s=5.0)
    assert world.agent.session.attached
