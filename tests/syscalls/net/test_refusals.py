"""A refusal in the pod becomes one of this machine's kernel, on the program's own socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
from callers import Caller, address, inet
from mirrord_trace.syscalls.net.connecting import connect
from mirrord_trace.syscalls.net.refusals import refused
from mirrord_trace.syscalls.requests import PeerRefused, UdpPeer
from script import session

PEER = address("10.1.1.1", 99)
NAME = inet("10.1.1.1", 99)
IP_RECVERR = 11


@pytest.fixture
def udp() -> Iterator[socket.socket]:
    with socket.socket(type=socket.SOCK_DGRAM) as own:
        own.settimeout(5)
        yield own


@pytest.fixture
def connected(udp: socket.socket) -> Caller:
    caller = Caller(udp, session())
    caller.names(connect, NAME).traps("recvmsg", "recvmmsg").gets(0).returns(0)
    caller.told()
    return caller


def _refuse(caller: Caller, peer: str = "10.1.1.1") -> None:
    refused(caller.context, PeerRefused(1, address(peer, 99)), lambda tgid, fd: os.dup(caller.task.fds[fd]))


def test_a_connected_socket_is_told_at_once(connected: Caller, udp: socket.socket) -> None:
    port = udp.getpeername()[1]
    _refuse(connected)
    with pytest.raises(ConnectionRefusedError):
        udp.recv(10)
    assert connected.told() == [UdpPeer(1, 4, PEER)], "the port stands for the peer again"
    assert connected.context.sockets.datagrams[connected.inode].ports[PEER] == port


def test_the_port_may_be_gone(connected: Caller, udp: socket.socket) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as other:
        other.bind(udp.getpeername())
        _refuse(connected)
    assert connected.told() == []
    assert connected.context.sockets.datagrams[connected.inode].use(PEER) is None


def test_an_unconnected_socket_is_told_if_it_asks(connected: Caller, udp: socket.socket) -> None:
    connected.names(connect, bytes(16)).continues()
    udp.connect(("127.0.0.1", udp.getpeername()[1]))
    stand_in = udp.getpeername()[1]
    with socket.socket(type=socket.SOCK_DGRAM) as free:
        free.settimeout(5)
        connected.context.sockets.datagrams[os.fstat(free.fileno()).st_ino] = connected.context.sockets.datagrams.pop(
            connected.inode
        )
        os.dup2(free.fileno(), connected.task.fds[7])
        _refuse(connected)
        free.setblocking(False)
        with pytest.raises(BlockingIOError):
            free.recv(10)
        free.settimeout(5)
        free.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        _refuse(connected)
        with pytest.raises(ConnectionRefusedError):
            free.recv(10)
    assert stand_in


def test_an_fd_that_is_another_file_now(connected: Caller, udp: socket.socket) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as other:
        os.dup2(other.fileno(), connected.task.fds[7])
        _refuse(connected)
    udp.setblocking(False)
    with pytest.raises(BlockingIOError):
        udp.recv(10)
    assert connected.told() == [UdpPeer(1, 4, PEER)]


def test_an_fd_that_is_no_socket_now(connected: Caller) -> None:
    copies: list[int] = []

    def duplicate(tgid: int, fd: int) -> int:
        copies.append(os.open(os.devnull, os.O_RDONLY))
        return copies[0]

    refused(connected.context, PeerRefused(1, PEER), duplicate)
    with pytest.raises(OSError):
        os.fstat(copies[0])


def test_unknown_sockets_and_peers(connected: Caller) -> None:
    _refuse(connected, "10.1.1.2")
    refused(connected.context, PeerRefused(99, PEER), lambda tgid, fd: -1)
    assert connected.told() == []
