from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterator

import pytest
from mirrord_trace.supervisor.channel import websocket as module
from mirrord_trace.supervisor.channel.websocket import UpgradeRefused, WebSocket, WebSocketBroken, upgrade
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri


class Pair:
    """A WebSocket and the server at the other end of a socketpair."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair()
        self.theirs.settimeout(5)
        self.server = ServerProtocol(state=State.OPEN, max_size=None)
        self.client = WebSocket(ours, ClientProtocol(parse_uri("ws://pod/"), state=State.OPEN, max_size=1 << 20))

    def say(self) -> bytes:
        return b"".join(self.server.data_to_send())

    def hear(self) -> list[Frame]:
        self.server.receive_data(self.theirs.recv(1 << 20))
        return [event for event in self.server.events_received() if isinstance(event, Frame)]

    def close(self) -> None:
        self.client.close()
        self.theirs.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()


def test_a_message_that_comes_byte_by_byte(pair: Pair) -> None:
    pair.server.send_binary(b"hello")
    for byte in pair.say():
        assert not pair.client.messages
        pair.theirs.send(bytes([byte]))
        pair.client.pull()
    assert [bytes(message) for message in pair.client.messages] == [b"hello"]


def test_several_messages_in_one_read(pair: Pair) -> None:
    for text in (b"one", b"", b"two"):
        pair.server.send_binary(text)
    pair.theirs.sendall(pair.say())
    pair.client.pull()
    assert [bytes(message) for message in pair.client.messages] == [b"one", b"", b"two"]


def test_fragments_make_one_message(pair: Pair) -> None:
    pair.server.send_binary(b"one ", fin=False)
    pair.server.send_continuation(b"two ", fin=False)
    pair.server.send_ping(b"in between")
    pair.server.send_continuation(b"three", fin=True)
    pair.theirs.sendall(pair.say())
    pair.client.pull()
    assert [bytes(message) for message in pair.client.messages] == [b"one two three"]


def test_nothing_there_is_not_an_end(pair: Pair) -> None:
    with pytest.raises(BlockingIOError):
        pair.client.pull()
    assert not pair.client.ended


def test_a_ping_is_answered_while_reading(pair: Pair) -> None:
    pair.server.send_ping(b"are you there")
    pair.theirs.sendall(pair.say())
    pair.client.pull()
    pong = pair.hear()
    assert [(frame.opcode, bytes(frame.data)) for frame in pong] == [(Opcode.PONG, b"are you there")]


def test_push_refuses_when_the_peer_does_not_read(pair: Pair) -> None:
    taken = 0
    message = os.urandom(64 * 1024)
    while taken < 100:
        try:
            pair.client.push(message)
        except BlockingIOError:
            break
        taken += 1
    assert pair.client.wants_write()
    assert taken * len(message) < 4 * module.WRITE_LIMIT
    received = 0
    while received < taken:
        for frame in pair.hear():
            assert frame.data == message
            received += 1
        pair.client.flush()
    assert not pair.client.wants_write()


def test_the_closing_handshake_keeps_what_came_before(pair: Pair) -> None:
    pair.server.send_binary(b"last words")
    pair.server.send_close()
    pair.theirs.sendall(pair.say())
    pair.client.pull()
    assert [bytes(message) for message in pair.client.messages] == [b"last words"]
    assert pair.client.ended
    with pytest.raises(BrokenPipeError):
        pair.client.push(b"too late")


def test_an_end_without_a_closing_handshake(pair: Pair) -> None:
    pair.theirs.close()
    with pytest.raises(WebSocketBroken, match="broke off"):
        pair.client.pull()
    assert pair.client.ended


def test_an_end_within_a_message_loses_nothing_before_it(pair: Pair) -> None:
    pair.server.send_binary(b"whole")
    pair.server.send_binary(b"cut")
    pair.theirs.sendall(pair.say()[:-1])
    pair.theirs.close()
    pair.client.pull()
    assert [bytes(pair.client.messages.popleft())] == [b"whole"]
    with pytest.raises(WebSocketBroken):
        pair.client.pull()


def test_a_message_beyond_the_limit_breaks_the_connection(pair: Pair) -> None:
    pair.theirs.sendall(struct.pack("!BBQ", 0x82, 127, 1 << 40))
    with pytest.raises(WebSocketBroken):
        pair.client.pull()


def test_garbage_breaks_the_connection(pair: Pair) -> None:
    pair.theirs.sendall(b"\xff" * 20)
    with pytest.raises(WebSocketBroken):
        pair.client.pull()


def test_close_says_goodbye(pair: Pair) -> None:
    pair.client.close()
    pair.hear()
    assert pair.server.state is State.CLOSING
    assert pair.client.fileno() == -1
    pair.client.close()


def answer_upgrade(response: bytes) -> WebSocket:
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(response)
        theirs.shutdown(socket.SHUT_WR)
        try:
            return upgrade(ours, "ws://pod/path", {"Authorization": "Bearer x"}, ["v4.channel.k8s.io"])
        except BaseException:
            ours.close()
            raise


def test_a_refused_upgrade_gives_status_and_body() -> None:
    with pytest.raises(UpgradeRefused) as refused:
        answer_upgrade(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\nreason")
    assert (refused.value.status, refused.value.body) == (403, b"reason")


def test_a_refused_upgrade_without_length() -> None:
    with pytest.raises(UpgradeRefused) as refused:
        answer_upgrade(b"HTTP/1.1 500 Internal Server Error\r\n\r\nreason")
    assert (refused.value.status, refused.value.body) == (500, b"reason")


@pytest.mark.parametrize("answer", [b"", b"220 mail.example ESMTP\r\n", b"HTTP/1.1 101 Switching Protocols\r\n\r\n"])
def test_no_websocket_server(answer: bytes) -> None:
    with pytest.raises(WebSocketBroken, match="does not speak WebSocket"):
        answer_upgrade(answer)


def test_the_handshake_carries_headers_and_subprotocol() -> None:
    ours, theirs = socket.socketpair()
    server = ServerProtocol(subprotocols=None, select_subprotocol=lambda _, offered: offered[0])
    with ours, theirs:

        def accept() -> None:
            server.receive_data(theirs.recv(65536))
            (request,) = server.events_received()
            server.send_response(server.accept(request))
            server.send_binary(b"first")  # In one piece with the response.
            theirs.sendall(b"".join(server.data_to_send()))
            authorization.append(request.headers["Authorization"])

        authorization: list[str] = []
        thread = threading.Thread(target=accept)
        thread.start()
        client = upgrade(ours, "ws://pod/path", {"Authorization": "Bearer x"}, ["v4.channel.k8s.io"])
        thread.join()
        assert authorization == ["Bearer x"]
        if not client.messages:
            client.pull()
        assert [bytes(message) for message in client.messages] == [b"first"]


def test_a_server_without_the_subprotocol(pair: Pair) -> None:
    ours, theirs = socket.socketpair()
    server = ServerProtocol()
    with ours, theirs:

        def accept() -> None:
            server.receive_data(theirs.recv(65536))
            (request,) = server.events_received()
            server.send_response(server.accept(request))
            theirs.sendall(b"".join(server.data_to_send()))

        thread = threading.Thread(target=accept)
        thread.start()
        with pytest.raises(WebSocketBroken, match="no subprotocol"):
            upgrade(ours, "ws://pod/path", {}, ["v4.channel.k8s.io"])
        thread.join()
