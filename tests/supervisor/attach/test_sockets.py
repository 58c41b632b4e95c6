"""Sockets of before: listeners and datagram sockets are known afterwards."""

from __future__ import annotations

import ctypes
import os
import socket

import pytest
from mirrord_trace.supervisor.attach.sockets import SENDING, adopt, existing_sockets, has_ring, inodes_of
from mirrord_trace.supervisor.tracer.tree import Tree
from mirrord_trace.syscalls.net.sockets import Listener, Sockets
from rig import ARCH


def test_they_are_known() -> None:
    tree, sockets = Tree(ARCH), Sockets()
    process = tree.add(os.getpid(), os.getpid()).process
    other = tree.add(1, 1).process
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("127.0.0.1", 0))
        adopt(sockets, tree)
        inode, port = os.fstat(listener.fileno()).st_ino, listener.getsockname()[1]
        assert sockets.listeners[inode] == Listener(port, port)
        assert sockets.own_datagrams[os.fstat(datagrams.fileno()).st_ino] == datagrams.getsockname()[1]
        assert process.traps == SENDING
        assert not other.traps & SENDING or inodes_of(1)


def test_what_the_session_knows_better_stays() -> None:
    tree, sockets = Tree(ARCH), Sockets()
    tree.add(os.getpid(), os.getpid())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        inode = os.fstat(listener.fileno()).st_ino
        sockets.listeners[inode] = Listener(80, 8080)
        adopt(sockets, tree)
        assert sockets.listeners[inode] == Listener(80, 8080)


def test_only_those_that_listen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        found = existing_sockets()
        assert os.fstat(listener.fileno()).st_ino in found.listeners
        assert os.fstat(client.fileno()).st_ino not in found.listeners
        assert {os.fstat(one.fileno()).st_ino for one in (listener, client)} <= inodes_of(os.getpid())


def test_nothing_to_see() -> None:
    assert inodes_of(0) == set()
    assert existing_sockets("/nowhere").listeners == {}


def test_rings() -> None:
    assert not has_ring(os.getpid())
    parameters = ctypes.create_string_buffer(120)
    fd = ctypes.CDLL(None, use_errno=True).syscall(ARCH.syscall_numbers["io_uring_setup"], 1, parameters)
    if fd < 0:
        pytest.skip("this needs a kernel with io_uring")
    try:
        assert has_ring(os.getpid())
    finally:
        os.close(fd)
