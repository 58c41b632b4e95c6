from __future__ import annotations

import os
import socket
from typing import Any

import pytest
from mirrord_trace.supervisor.relay import watch
from mirrord_trace.supervisor.relay.watch import SocketWatch, bound_udp_sockets, listening_sockets, udp_ports


def listener(family: int = socket.AF_INET) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
    except OSError as error:
        sock.close()
        pytest.skip(f"no such loopback address: {error}")
    sock.listen()
    return sock


def bound() -> socket.socket:
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return sock


def inode_of(sock: socket.socket) -> int:
    return os.fstat(sock.fileno()).st_ino


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_listening_sockets(family: int) -> None:
    sock = listener(family)
    inode = inode_of(sock)
    with socket.create_connection(sock.getsockname()[:2]) as connected:
        assert listening_sockets()[inode] == sock.getsockname()[1]
        assert inode_of(connected) not in listening_sockets()
    sock.close()
    assert inode not in listening_sockets()


def test_bound_udp_sockets() -> None:
    with bound() as sock:
        inode = inode_of(sock)
        assert bound_udp_sockets()[inode] == sock.getsockname()[1]
    assert inode not in bound_udp_sockets()


def test_udp_ports() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as first, socket.socket(type=socket.SOCK_DGRAM) as second:
        first.bind(("127.0.0.1", 0))
        second.connect(first.getsockname())
        ports = udp_ports()
        assert (first.getsockname()[1], 0) in ports
        assert (second.getsockname()[1], first.getsockname()[1]) in ports


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("with_events", [True, False])
def test_a_socket_that_goes_is_reported_once(
    pod: Any, monkeypatch: pytest.MonkeyPatch, with_events: bool, protocol: str
) -> None:
    """With events at once (the interval is an hour then), without them at the next look."""
    gone: list[int] = []
    monkeypatch.setattr(watch, "INTERVAL_S", 0.01)
    monkeypatch.setattr(watch, "INTERVAL_WITH_EVENTS_S", 3600)
    if with_events and (events := watch._destroy_events(protocol)) is None:
        pytest.skip("this kernel does not report destroyed sockets to this user")
    elif with_events:
        events.close()
    guard = SocketWatch(pod.loop, gone.append, protocol, with_events=with_events)
    make = listener if protocol == "tcp" else bound
    first, second = make(), make()
    inodes = [inode_of(first), inode_of(second)]
    for sock, inode in zip((first, second), inodes, strict=True):
        guard.add(inode, sock.getsockname()[1])
    first.close()
    pod.until(lambda: gone)
    assert gone == inodes[:1]
    second.close()
    pod.until(lambda: len(gone) == 2)
    assert gone == inodes
    guard.close()


def test_a_listener_that_stays_or_is_removed_is_not_reported(pod: Any) -> None:
    gone: list[int] = []
    guard = SocketWatch(pod.loop, gone.append)
    sock = listener()
    guard.add(inode_of(sock), sock.getsockname()[1])
    duplicate = sock.dup()
    sock.close()
    guard.check()
    assert gone == []
    guard.remove(inode_of(duplicate))
    duplicate.close()
    guard.check()
    assert gone == []
    guard.close()
