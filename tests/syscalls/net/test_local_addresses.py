"""Addresses that stay on this machine whatever socket connects to them, and the sockets for which that is not so."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator

import pytest
from callers import AT, FD, Caller, address, inet, local_only
from mirrord_trace.syscalls.abi import sockaddr
from mirrord_trace.syscalls.actions import Reason, Route
from mirrord_trace.syscalls.context import Context
from mirrord_trace.syscalls.net import local_addresses
from mirrord_trace.syscalls.net.connecting import connect
from mirrord_trace.syscalls.net.sockets import Datagrams, Listener, Peers
from mirrord_trace.syscalls.network_rules import OutgoingConfig
from mirrord_trace.syscalls.policy import Policy, PolicyConfig
from mirrord_trace.syscalls.table import OTHER_CHECKS
from script import session

HERE = inet("127.0.0.1", 80)
POD = inet("10.96.0.20", 80)
UNIX = struct.pack("=H", socket.AF_UNIX)


@pytest.fixture(params=[socket.SOCK_STREAM, socket.SOCK_DGRAM])
def own(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, request.param) as own:
        yield own


def caller(own: socket.socket, policy: Policy | None = None) -> Caller:
    return Caller(own, session(policy if policy is not None else local_only("127.0.0.0/8", "10.1.1.1")))


def passes(caller: Caller, name: bytes) -> bool:
    """Whether the short way lets connect(2) pass."""
    caller.task.memory[AT] = name
    return OTHER_CHECKS["connect"](caller.context, caller.task, (FD, AT, len(name), 0, 0, 0))


def decided(context: Context, name: bytes) -> bool:
    decoded = sockaddr.decode(name)
    assert decoded is not None
    return local_addresses.decide(context, name, decoded) is not None


def test_what_was_decided_once_passes_the_short_way(own: socket.socket) -> None:
    one = caller(own)
    assert not passes(one, HERE)
    one.names(connect, HERE).continues(Route.LOCAL)
    assert passes(one, HERE)
    assert not passes(one, inet("127.0.0.1", 81))
    assert not passes(one, HERE[:-1])


def test_an_address_of_the_pod_never_does(own: socket.socket) -> None:
    one = caller(own)
    assert not decided(one.context, POD)
    assert not passes(one, POD)


def test_arguments_that_the_kernel_refuses_do_not(own: socket.socket) -> None:
    one = caller(own)
    one.names(connect, HERE).continues(Route.LOCAL)
    for args in ((FD, 0x9000, 16), (FD, AT, 1), (FD, AT, 129), (FD, AT, 0xFFFFFFF0)):
        assert not OTHER_CHECKS["connect"](one.context, one.task, (*args, 0, 0, 0))


@pytest.mark.parametrize(
    "config",
    [
        OutgoingConfig(tcp=False),
        OutgoingConfig(udp=False),
        OutgoingConfig(only_local=local_only("tcp://127.0.0.1").config.outgoing.only_local),
        OutgoingConfig(only_local=local_only("udp://127.0.0.1").config.outgoing.only_local),
        OutgoingConfig(only_local=local_only("127.0.0.1:80").config.outgoing.only_local),
    ],
    ids=["no TCP", "no UDP", "TCP by rule", "UDP by rule", "not ICMP"],
)
def test_one_protocol_from_the_pod_is_enough_to_look_at_the_socket(config: OutgoingConfig) -> None:
    assert not decided(session(Policy(PolicyConfig(outgoing=config))), HERE)


def test_names_may_be_learnt_at_any_time() -> None:
    assert not decided(session(local_only("127.0.0.1", "some.name")), HERE)


@pytest.mark.parametrize("path", [b"/run/dbus\0", b"\0abstract", b""])
def test_unix_sockets_pass_whatever_else_there_is(path: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as unix:
        one = caller(unix)
        one.names(connect, UNIX + path).continues(Reason.NOT_INTERNET)
        one.context.sockets.begin(1, address("10.0.0.1", 1))
        assert passes(one, UNIX + path)


def test_sockets_of_name_service_caches_stay_absent() -> None:
    with socket.socket(socket.AF_UNIX) as unix:
        one = caller(unix)
        for _ in range(2):
            one.names(connect, UNIX + b"/run/nscd/socket\0").raises(errno.ENOENT)
            assert not passes(one, UNIX + b"/run/nscd/socket\0")


def test_a_socket_that_the_session_knows_is_looked_at(own: socket.socket) -> None:
    one = caller(own)
    decoded = sockaddr.decode(HERE)
    assert decoded is not None
    one.names(connect, HERE).continues(Route.LOCAL)
    one.context.sockets.begin(one.inode + 1, address("10.0.0.1", 1))
    # Another one's connection: not the short way, but no look at the socket either.
    assert not passes(one, HERE)
    assert local_addresses.is_untouched(one.context, one.task, FD, decoded)
    if own.type == socket.SOCK_STREAM:
        one.context.sockets.begin(one.inode, address("10.0.0.1", 1))
    else:
        one.context.sockets.datagrams[one.inode] = Datagrams(1)
    assert not local_addresses.is_untouched(one.context, one.task, FD, decoded)


def test_so_is_one_whose_peer_belongs_to_the_program(own: socket.socket) -> None:
    one = caller(own)
    decoded, other = sockaddr.decode(HERE), sockaddr.decode(inet("10.1.1.1", 80))
    assert decoded is not None
    assert other is not None
    if own.type == socket.SOCK_STREAM:
        one.context.sockets.listeners[5] = Listener(80, 8080)
    else:
        one.context.sockets.own_datagrams[5] = 80
    assert not local_addresses.is_untouched(one.context, one.task, FD, decoded)
    assert local_addresses.is_untouched(one.context, one.task, FD, other)
    one.context.sockets.receivers[53] = Peers()
    assert not local_addresses.is_untouched(one.context, one.task, FD, other)


def test_not_too_many_are_remembered() -> None:
    context = session(local_only("127.0.0.0/8"))
    for number in range(4098):
        assert decided(context, inet(f"127.0.{number >> 8}.{number & 255}", 80))
    assert len(context.local_addresses) == 2
