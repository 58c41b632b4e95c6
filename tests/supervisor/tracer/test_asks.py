"""Requests are numbered, verdicts kept, replies handed over in order: over a real link."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

import pytest
from mirrord_trace.agent.wire.codec import encode
from mirrord_trace.agent.wire.messages import Address, Done, Failed, GetPod, Message
from mirrord_trace.supervisor.relay.link import RelayLink, make_link
from mirrord_trace.supervisor.tracer.asks import Asks
from mirrord_trace.syscalls.actions import Answer
from mirrord_trace.syscalls.net.sockets import Sockets
from mirrord_trace.syscalls.requests import Lost, NamesLearnt, PeerRefused, Verdict

Ends = tuple[Asks, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """The tracer's end, and the relay's socket."""
    ours, theirs = make_link()
    link = RelayLink(ours)
    with theirs:
        yield Asks(link), theirs
    link.close()


def _send(sock: socket.socket, kind: bytes, number: int, message: Message, fds: tuple[int, ...] = ()) -> None:
    socket.send_fds(sock, [struct.pack(">cI", kind, number) + encode(message)], list(fds))


def _delivered(asks: Asks) -> list[tuple[int, Answer]]:
    got: list[tuple[int, Answer]] = []
    asks.deliver(lambda number, answer: got.append((number, answer)))
    return got


def test_requests_have_ids_of_their_own(ends: Ends) -> None:
    asks, relay = ends
    assert [asks.ask(GetPod()), asks.ask(GetPod())] == [1, 2]
    assert [relay.recv(100)[:5] for _ in range(2)] == [b"A\0\0\0\1", b"A\0\0\0\2"]


def test_ids_wrap_without_zero(ends: Ends) -> None:
    asks, relay = ends
    asks._next_id = 0xFFFFFFFE
    assert [asks.ask(GetPod()), asks.ask(GetPod())] == [0xFFFFFFFF, 1]
    assert len(relay.recv(100)) > 5


def test_replies_wait_until_they_are_delivered_in_order(ends: Ends) -> None:
    asks, relay = ends
    _send(relay, b"R", 2, Done())
    _send(relay, b"R", 1, Failed(5, ""))
    asks.drain()
    assert _delivered(asks) == [(2, Answer(Done())), (1, Answer(Failed(5, "")))]
    assert _delivered(asks) == []


def test_a_reply_brings_its_file(ends: Ends) -> None:
    asks, relay = ends
    read, write = os.pipe()
    _send(relay, b"R", 1, Done(), (write,))
    os.close(write)
    asks.drain()
    ((number, answer),) = _delivered(asks)
    assert number == 1
    os.write(answer.fd, b"x")
    assert os.read(read, 1) == b"x"
    os.close(answer.fd)
    os.close(read)


def test_a_reply_may_lead_to_a_further_request_whose_reply_is_there_at_once(ends: Ends) -> None:
    asks, relay = ends
    _send(relay, b"R", 1, Done())
    asks.drain()
    seen: list[int] = []

    def answer(number: int, reply: Answer) -> None:
        seen.append(number)
        if number == 1:
            assert asks.ask(GetPod()) == 1
            _send(relay, b"R", 9, Done())
            asks.drain()

    asks.deliver(answer)
    assert seen == [1, 9]


def test_verdicts_are_current_after_a_drain(ends: Ends) -> None:
    asks, relay = ends
    asks.sockets = Sockets()
    connection = asks.sockets.begin(7, Address(bytes(4), 80))
    _send(relay, b"T", 0, Verdict(connection.key, 111, connection.peer, connection.peer))
    asks.drain()
    assert connection.errno == 111


def test_the_first_reason_of_a_lost_session_stays(ends: Ends) -> None:
    asks, relay = ends
    _send(relay, b"T", 0, Lost("the node is gone"))
    relay.close()
    asks.drain()
    asks.drain()
    assert asks.lost == "the node is gone"


def test_a_killed_relay_is_a_lost_session(ends: Ends) -> None:
    asks, relay = ends
    relay.close()
    asks.drain()
    assert "relay" in asks.lost


def test_names_and_refusals_go_where_they_belong(ends: Ends) -> None:
    asks, relay = ends
    refused: list[PeerRefused] = []
    asks.on_refused = refused.append
    _send(relay, b"T", 0, NamesLearnt(("a.example",), (b"1234",), 5))
    _send(relay, b"T", 0, PeerRefused(7, Address(b"1234", 9)))
    asks.drain()
    assert asks.names.of(b"1234") == ("a.example",)
    assert refused == [PeerRefused(7, Address(b"1234", 9))]
