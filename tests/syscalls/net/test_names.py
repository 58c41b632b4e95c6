"""getpeername(2), getsockname(2) by script."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

import pytest
from callers import AT, FD, LENGTH_AT, Caller, address, inet, number
from mirrord_trace.syscalls.actions import Reason
from mirrord_trace.syscalls.net.names import getpeername, getsockname
from mirrord_trace.syscalls.net.sockets import Connection, Datagrams
from script import Script

PEER = address("10.96.0.20", 80)
PEER_NAME = inet("10.96.0.20", 80)
POD_END = address("10.244.0.7", 40000)
POD_NAME = inet("10.244.0.7", 40000)


@pytest.fixture
def pair() -> Iterator[tuple[Caller, socket.socket]]:
    """A connected TCP socket of a caller, and the relay's end of it."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with socket.create_connection(listener.getsockname()) as own:
            other, _ = listener.accept()
            with other:
                yield Caller(own), other


def _connected(caller: Caller) -> Connection:
    """A connect(2) from the pod that the relay has not told the verdict of."""
    return caller.context.sockets.begin(caller.inode, PEER)


def _names(script: Script, name: bytes, room: int = 128) -> None:
    script.returns(0, {AT: name[:room], LENGTH_AT: number(len(name))}, Reason.REMOTE_OBJECT)


def test_a_connection_from_the_pod(pair: tuple[Caller, socket.socket]) -> None:
    caller, _ = pair
    key = _connected(caller).key
    caller.verdict(0, POD_END, PEER, key)
    _names(caller.asks_name(getpeername), PEER_NAME)
    _names(caller.asks_name(getsockname), POD_NAME)


@pytest.mark.parametrize("room", [16, 15, 3])
def test_little_room(pair: tuple[Caller, socket.socket], room: int) -> None:
    caller, _ = pair
    _connected(caller)
    _names(caller.asks_name(getpeername, room), PEER_NAME, room)


def test_no_room(pair: tuple[Caller, socket.socket]) -> None:
    caller, _ = pair
    _connected(caller)
    caller.asks_name(getpeername, 0).returns(0, {LENGTH_AT: number(16)})
    caller.asks_name(getpeername, 2**32 - 1).continues(Reason.BAD_ARGUMENT)
    caller.calls(getpeername, (AT, 1)).continues(Reason.BAD_ARGUMENT)


def test_a_connect_that_is_under_way_or_has_failed() -> None:
    with socket.socket() as own:
        caller = Caller(own)
        connection = _connected(caller)
        own.bind(("127.0.0.1", 0))
        caller.asks_name(getpeername).continues(Reason.LOCAL_OBJECT)
        _names(caller.asks_name(getsockname), inet("10.244.0.7", own.getsockname()[1]))
        caller.verdict(errno.ECONNREFUSED, address("0.0.0.0", 0), PEER, connection.key)
        caller.asks_name(getsockname).continues(Reason.LOCAL_OBJECT)


def test_what_bind_was_asked_for() -> None:
    with socket.socket() as own:
        caller = Caller(own)
        caller.context.sockets.names[caller.inode] = address("0.0.0.0", 80)
        _names(caller.asks_name(getsockname), inet("0.0.0.0", 80))
        caller.asks_name(getpeername).continues(Reason.LOCAL_OBJECT)
    with socket.socket(socket.AF_INET6) as own:
        caller = Caller(own)
        caller.context.sockets.names[caller.inode] = address("::", 80)
        _names(caller.asks_name(getsockname), inet("::", 80))


def test_a_connection_that_came_for_the_pod(pair: tuple[Caller, socket.socket]) -> None:
    caller, other = pair
    caller.context.sockets.names[1] = PEER  # so that there is something to look up at all
    caller.asks_name(getpeername).continues(Reason.LOCAL_OBJECT)
    caller.asks_name(getsockname).continues(Reason.LOCAL_OBJECT)
    ports = other.getsockname()[1], caller.own.getsockname()[1]
    caller.addresses.entries[False, ports[0], ports[1]] = PEER, POD_END
    _names(caller.asks_name(getpeername), PEER_NAME)
    _names(caller.asks_name(getsockname), POD_NAME)


def test_datagrams() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as own, socket.socket(type=socket.SOCK_DGRAM) as relay:
        caller = Caller(own)
        relay.bind(("127.0.0.1", 0))
        known = caller.context.sockets.datagrams[caller.inode] = Datagrams(1)
        caller.asks_name(getpeername).continues(Reason.LOCAL_OBJECT)
        caller.asks_name(getsockname).continues(Reason.LOCAL_OBJECT)
        own.connect(relay.getsockname())
        # The relay's TCP sockets have a port table of their own.
        caller.addresses.entries[False, relay.getsockname()[1], own.getsockname()[1]] = POD_END, POD_END
        caller.asks_name(getsockname).continues(Reason.LOCAL_OBJECT)
        known.connected = PEER
        _names(caller.asks_name(getpeername), PEER_NAME)
        _names(caller.asks_name(getsockname), inet("10.244.0.7", own.getsockname()[1]))
        known.connected = address("fd00::20", 80)
        caller.asks_name(getsockname).continues(Reason.LOCAL_OBJECT)  # the pod has no such address


def test_other_files_are_the_kernels() -> None:
    with socket.socket(socket.AF_UNIX) as local:
        caller = Caller(local)
        caller.asks_name(getpeername).continues(Reason.LOCAL_OBJECT)
        assert caller.relay.drains == 0, "nothing is known of any socket"
        caller.context.sockets.names[1] = PEER
        caller.asks_name(getpeername).continues(Reason.LOCAL_OBJECT)
        os.close(caller.task.fds.pop(FD))
        caller.asks_name(getsockname).continues(Reason.LOCAL_OBJECT)
        caller.task.fds[FD] = os.open("/dev/null", os.O_RDONLY)
        caller.asks_name(getsockname).continues(Reason.LOCAL_OBJECT)
