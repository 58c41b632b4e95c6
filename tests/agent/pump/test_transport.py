"""A socket as a transport."""

from __future__ import annotations

import socket
from typing import Callable, Tuple

import pytest
from mirrord_trace.agent.pump.transport import SocketTransport, Transport, VectorTransport

PairMaker = Callable[[], Tuple[socket.socket, socket.socket]]


def fill(transport: Transport) -> None:
    while True:
        transport.send(bytes(65536))


def test_socket_transport_is_a_transport() -> None:
    one, other = socket.socketpair()
    transport: VectorTransport = SocketTransport(one)
    plain: Transport = transport
    with other:
        assert plain.fileno() == one.fileno()
        assert not plain.pending()
        assert not plain.wants_write()
        with pytest.raises(BlockingIOError):
            plain.recv(10)
        assert plain.send(b"one") == 3
        assert transport.sendv([b"two", memoryview(b"three")]) == 8
        assert other.recv(100) == b"onetwothree"
        with pytest.raises(BlockingIOError):
            fill(plain)
        plain.close()
        assert one.fileno() == -1


def test_tcp_sends_without_delay(tcp_pair: PairMaker) -> None:
    one, _ = tcp_pair()
    SocketTransport(one)
    assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert not one.getblocking()
