from __future__ import annotations

import os
import select
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from fakeapi import FakeApi, ForwardPeer, echo, greet, refuse
from mirrord_trace.supervisor.channel.dial import Host
from mirrord_trace.supervisor.channel.portforward import (
    SEND_SIZE,
    SUBPROTOCOL,
    AgentPort,
    ForwardFailed,
    Opener,
    PortForwardChannel,
    PortForwardTransport,
    open_port_forward,
)
from mirrord_trace.supervisor.channel.spdyforward import PROTOCOL, TUNNELLED
from mirrord_trace.supervisor.channel.websocket import UpgradeRefused, WebSocketBroken
from mirrord_trace.supervisor.errors import UsageError

AGENT = AgentPort("default", "web", 61234)
HELLO = bytes(32)
PATH = "/api/v1/namespaces/default/pods/web/portforward"


@dataclass
class Access:
    """An endpoint without a kubeconfig."""

    host: Host
    tokens: list[str] = field(default_factory=lambda: ["secret"])
    proxy: str | None = None
    server_name: str | None = None

    def context(self) -> ssl.SSLContext | None:
        return None

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[0]}"}

    def renew(self) -> bool:
        self.tokens.pop(0)
        return bool(self.tokens)


@pytest.fixture
def access(fake_api: FakeApi) -> Access:
    return Access(Host.parse(fake_api.host))


@pytest.fixture(params=[PROTOCOL, TUNNELLED, SUBPROTOCOL])
def protocol(request: pytest.FixtureRequest, fake_api: FakeApi) -> str:
    """Each of the protocols, as the only one that the server takes."""
    chosen: str = request.param
    fake_api.spdy = chosen == PROTOCOL
    fake_api.subprotocol = None if chosen == PROTOCOL else chosen
    return chosen


def receive(transport: PortForwardTransport, size: int) -> bytes:
    received = b""
    while len(received) < size:
        if not transport.pending():
            assert select.select([transport.fileno()], [], [], 5)[0], f"only {len(received)} bytes came"
        try:
            part = transport.recv(size - len(received))
        except BlockingIOError:
            continue
        if not part:
            break
        received += part
    return received


def send(transport: PortForwardTransport, data: bytes) -> None:
    view = memoryview(data)
    while view or transport.wants_write():
        try:
            view = view[transport.send(view) :]
        except BlockingIOError:
            select.select([], [transport.fileno()], [], 5)


def send_for_ever(transport: PortForwardTransport) -> None:
    for _ in range(10_000):
        transport.send(bytes(SEND_SIZE))


def forward(peer_does: Callable[[ForwardPeer], None], fake_api: FakeApi, access: Access) -> PortForwardTransport:
    fake_api.forwards = [peer_does]
    return open_port_forward(access, AGENT)


def test_bytes_go_there_and_back(protocol: str, fake_api: FakeApi, access: Access) -> None:
    transport = forward(echo, fake_api, access)
    content = os.urandom(300_000)
    send(transport, content[:1000])
    assert receive(transport, 1000) == content[:1000]
    assert transport.protocol == protocol
    transport.close()
    assert fake_api.requests[-1] == (("POST", PATH) if protocol == PROTOCOL else ("GET", f"{PATH}?ports=61234"))


def test_a_piece_of_a_message_may_be_asked_for(protocol: str, fake_api: FakeApi, access: Access) -> None:
    def peer(side: ForwardPeer) -> None:
        side.announce()
        side.send(0, b"abcdef")
        side.send(0, b"ghi")
        side.send(0, b"")
        side.receive()

    transport = forward(peer, fake_api, access)
    assert receive(transport, 4) == b"abcd"
    assert transport.pending()
    assert receive(transport, 5) == b"efghi"
    assert not transport.pending()
    with pytest.raises(BlockingIOError):
        transport.recv(1)
    transport.close()


def test_frames_byte_by_byte(protocol: str, fake_api: FakeApi, access: Access) -> None:
    def peer(side: ForwardPeer) -> None:
        side.announce()
        side.send_split(0, b"slowly")
        side.end()

    transport = forward(peer, fake_api, access)
    assert receive(transport, 100) == b"slowly"
    assert transport.recv(1) == b""
    transport.close()


def test_send_takes_a_bounded_piece(protocol: str, fake_api: FakeApi, access: Access) -> None:
    transport = forward(echo, fake_api, access)
    assert transport.send(b"") == 0
    assert transport.send(bytes(SEND_SIZE + 1)) == SEND_SIZE
    transport.close()


def test_sendv_makes_one_message_of_many_buffers(protocol: str, fake_api: FakeApi, access: Access) -> None:
    messages = []

    def peer(side: ForwardPeer) -> None:
        side.announce()
        messages.append(side.receive())
        side.send(0, b"!")
        messages.append(side.receive())
        side.send(0, b"!")

    transport = forward(peer, fake_api, access)
    assert transport.sendv([b"one", bytearray(b"two"), memoryview(b"three")]) == 11
    receive(transport, 1)
    assert transport.sendv([b"x", bytes(SEND_SIZE), b"left"]) == SEND_SIZE
    send(transport, b"")
    receive(transport, 1)
    assert messages == [b"\0onetwothree", b"\0x" + bytes(SEND_SIZE - 1)]
    transport.close()


def test_a_peer_that_does_not_read_stops_the_sender(protocol: str, fake_api: FakeApi, access: Access) -> None:
    done = threading.Event()

    def peer(side: ForwardPeer) -> None:
        side.announce()
        side.send(0, b"!")
        done.wait(5)

    transport = forward(peer, fake_api, access)
    receive(transport, 1)
    with pytest.raises(BlockingIOError):
        send_for_ever(transport)
    assert transport.wants_write()
    transport.close()
    done.set()


def test_what_came_before_the_error_is_delivered(protocol: str, fake_api: FakeApi, access: Access) -> None:
    def peer(side: ForwardPeer) -> None:
        side.announce()
        side.send(0, b"last words")
        side.send(1, b"lost connection to pod")
        side.end()

    transport = forward(peer, fake_api, access)
    assert receive(transport, 10) == b"last words"
    with pytest.raises(ForwardFailed, match="lost connection to pod"):
        receive(transport, 1)
    transport.close()


def test_a_reset_is_an_os_error(protocol: str, fake_api: FakeApi, access: Access) -> None:
    def peer(side: ForwardPeer) -> None:
        side.announce()
        side.reset()

    transport = forward(peer, fake_api, access)
    with pytest.raises(ConnectionError):
        receive(transport, 1)
    transport.close()


@pytest.mark.parametrize("message", [b"\0\x01\x02", b"\0\x32", b"\x02\x32\xef"])
def test_a_server_that_does_not_keep_to_the_protocol(message: bytes, fake_api: FakeApi, access: Access) -> None:
    def peer(side: ForwardPeer) -> None:
        side.send(message[0], message[1:])
        side.receive()

    transport = forward(peer, fake_api, access)
    with pytest.raises(WebSocketBroken):
        receive(transport, 1)
    transport.close()


def test_a_server_that_chooses_another_protocol(fake_api: FakeApi, access: Access) -> None:
    fake_api.subprotocol = "v5.channel.k8s.io"
    with pytest.raises(WebSocketBroken):
        forward(echo, fake_api, access)


def test_credentials_are_renewed_once(fake_api: FakeApi) -> None:
    access = Access(Host.parse(fake_api.host), ["old", "secret"])
    forward(echo, fake_api, access).close()
    with pytest.raises(UpgradeRefused) as refused:
        forward(echo, fake_api, Access(Host.parse(fake_api.host), ["old", "older", "secret"]))
    assert refused.value.status == 401


def test_spdy_is_asked_for_once_if_it_is_refused(fake_api: FakeApi, access: Access) -> None:
    fake_api.forwards = [echo]
    opener = Opener(access, AGENT)
    for _ in range(2):
        transport = opener.open()
        assert transport.protocol == SUBPROTOCOL
        transport.close()
    assert [method for method, _ in fake_api.requests] == ["POST", "GET", "GET"]


def test_spdy_is_asked_for_again_after_an_error_of_the_server(fake_api: FakeApi, access: Access) -> None:
    fake_api.forwards = [echo]
    fake_api.spdy = True
    fake_api.answers["POST", PATH] = (502, {})
    opener = Opener(access, AGENT)
    opener.open().close()
    del fake_api.answers["POST", PATH]
    transport = opener.open()
    assert transport.protocol == PROTOCOL
    transport.close()
    assert [method for method, _ in fake_api.requests] == ["POST", "GET", "POST"]


def test_credentials_are_renewed_for_spdy(fake_api: FakeApi) -> None:
    fake_api.spdy = True
    transport = forward(echo, fake_api, Access(Host.parse(fake_api.host), ["old", "secret"]))
    assert transport.protocol == PROTOCOL
    transport.close()
    assert [method for method, _ in fake_api.requests] == ["POST", "POST"]


def channel(access: Access) -> PortForwardChannel:
    return PortForwardChannel(access, AGENT, HELLO, lambda error: UsageError(f"refused: {error}"), lambda: "the end")


def test_probe_waits_for_the_loaders_answer(protocol: str, fake_api: FakeApi, access: Access) -> None:
    fake_api.forwards = [refuse, greet]
    made = channel(access)
    assert not made.probe(5)
    assert made.probe(5)
    transport = made.open()
    send(transport, HELLO)
    assert receive(transport, 8) == b"MTBOOT1\n"
    assert fake_api.forward_count == 3
    transport.close()
    made.close()
    assert made.last_words() == "the end"
    assert made.resumable


def test_probe_of_a_silent_port(protocol: str, fake_api: FakeApi, access: Access) -> None:
    def silent(side: ForwardPeer) -> None:
        side.announce()
        while side.receive():
            pass

    fake_api.forwards = [silent]
    assert not channel(access).probe(0.05)


@pytest.mark.parametrize(("status", "raised"), [(401, UpgradeRefused), (403, UpgradeRefused), (404, None), (500, None)])
def test_probe_goes_on_unless_it_is_refused(
    status: int, raised: type[Exception] | None, fake_api: FakeApi, access: Access
) -> None:
    fake_api.answers["GET", PATH] = (status, {})
    if raised is None:
        assert not channel(access).probe(5)
        return
    access.tokens = ["secret", "secret"]
    with pytest.raises(raised):
        channel(access).probe(5)


@pytest.mark.parametrize(("status", "raised"), [(401, UsageError), (404, UsageError), (429, OSError), (503, OSError)])
def test_open_knows_what_is_worth_another_try(status: int, raised: type[Exception], fake_api: FakeApi, access: Access) -> None:
    fake_api.answers["GET", PATH] = (status, {})
    with pytest.raises(raised):
        channel(access).open()


def test_open_without_a_server_is_worth_another_try() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(OSError):
        channel(Access(Host("127.0.0.1", port, False, ""))).open()


def test_the_announcement_is_the_port_in_little_endian(fake_api: FakeApi, access: Access) -> None:
    def peer(side: ForwardPeer) -> None:
        side.send(0, (61234).to_bytes(2, "big"))
        side.receive()

    transport = forward(peer, fake_api, access)
    with pytest.raises(WebSocketBroken, match="port's number"):
        receive(transport, 1)
    transport.close()
