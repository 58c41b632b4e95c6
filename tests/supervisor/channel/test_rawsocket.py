from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import self_signed
from mirrord_trace.supervisor.channel import rawsocket
from mirrord_trace.supervisor.channel.rawsocket import RawSocket, upgrade_raw
from mirrord_trace.supervisor.channel.websocket import UpgradeRefused


@pytest.fixture
def pair() -> Iterator[tuple[RawSocket, socket.socket]]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(5)
    made = RawSocket(ours)
    yield made, theirs
    made.close()
    theirs.close()


def test_bytes_and_the_end(pair: tuple[RawSocket, socket.socket]) -> None:
    ours, theirs = pair
    with pytest.raises(BlockingIOError):
        ours.pull()
    theirs.sendall(b"hello")
    ours.pull()
    assert bytes(ours.messages.popleft()) == b"hello"
    theirs.close()
    assert not ours.ended
    ours.pull()
    assert ours.ended
    assert not ours.messages
    ours.pull()
    with pytest.raises(BrokenPipeError):
        ours.push(b"too late")


def test_what_came_before_a_reset_is_delivered() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    ours = RawSocket(client)
    server.sendall(b"last")
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    server.close()
    ours.pull()
    assert bytes(ours.messages.popleft()) == b"last"
    with pytest.raises(ConnectionResetError):
        ours.pull()
    ours.close()


def test_output_is_bounded(pair: tuple[RawSocket, socket.socket], monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pair
    monkeypatch.setattr(rawsocket, "WRITE_LIMIT", 1 << 20)
    sent = 0
    while not ours.wants_write():
        ours.push(bytes(1 << 16))
        sent += 1 << 16
    ours.push(bytes(1 << 20))
    sent += 1 << 20
    with pytest.raises(BlockingIOError):
        ours.push(b"!")
    assert ours.wants_write()
    assert not ours.flush()
    received = 0
    while received < sent:
        received += len(theirs.recv(1 << 16))
        ours.flush()
    assert not ours.wants_write()
    assert ours.flush()


def test_tls_hides_nothing(tmp_path: Path) -> None:
    certificate, key = self_signed()
    both = tmp_path / "server.pem"
    both.write_bytes(certificate + key)
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(both)
    client_context = ssl.create_default_context(cadata=certificate.decode())
    ours, theirs = socket.socketpair()
    content = bytes(range(256)) * 4096

    def serve() -> None:
        with server_context.wrap_socket(theirs, server_side=True) as wrapped:
            wrapped.sendall(content)
            wrapped.recv(1)

    thread = threading.Thread(target=serve)
    thread.start()
    raw = RawSocket(client_context.wrap_socket(ours, server_hostname="127.0.0.1"))
    received = b""
    while len(received) < len(content):
        if not raw.pending():
            rawsocket_wait(raw)
        try:
            raw.pull()
        except BlockingIOError:
            continue
        received += bytes(raw.messages.popleft())
    assert received == content
    raw.push(b"!")
    thread.join(5)
    raw.close()


def rawsocket_wait(raw: RawSocket) -> None:
    from mirrord_trace.supervisor.channel.forwarding import wait_for

    wait_for(raw.fileno(), False, 5)


def upgraded(answer: bytes) -> tuple[RawSocket, bytes]:
    """What comes of an upgrade that is answered so, and the request."""
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(answer)
        theirs.shutdown(socket.SHUT_WR)
        try:
            made = upgrade_raw(ours, "POST", "api:6443", "/path", {"Authorization": "Bearer x"}, "SPDY/3.1")
        except BaseException:
            ours.close()
            raise
        return made, theirs.recv(4096)


def test_an_upgrade_leaves_what_follows() -> None:
    raw, request = upgraded(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: SPDY/3.1\r\n\r\nfirst")
    raw.pull()
    assert bytes(raw.messages.popleft()) == b"first"
    raw.close()
    lines = request.decode().split("\r\n")
    assert lines[:2] == ["POST /path HTTP/1.1", "Host: api:6443"]
    assert {"Connection: Upgrade", "Upgrade: SPDY/3.1", "Content-Length: 0", "Authorization: Bearer x"} <= set(lines)
    assert request.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nnope", b"nope"),
        (b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nnope\r\n0\r\n\r\n", b"nope"),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 400\r\n\r\nnope", b"nope"),
        (b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n", b""),
    ],
)
def test_a_refusal_has_the_servers_answer(answer: bytes, body: bytes) -> None:
    with pytest.raises(UpgradeRefused) as refused:
        upgraded(answer)
    assert (refused.value.status, refused.value.body) == (403, body)


@pytest.mark.parametrize("answer", [b"", b"garbage\r\n\r\n", b"HTTP/1.1"])
def test_no_http(answer: bytes) -> None:
    with pytest.raises(ConnectionError):
        upgraded(answer)
