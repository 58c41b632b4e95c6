"""What the relay is told of a socket: its name, cookie, source and options; and what connect(2) gives in the end."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import pytest
from callers import Caller, address
from mirrord_trace.agent.wire.messages import Address
from mirrord_trace.syscalls.actions import Decision, Keep, Reason, Return, Route, SyscallError
from mirrord_trace.syscalls.net import attempts
from mirrord_trace.syscalls.requests import EndConnect, StartConnect

PEER = address("10.96.0.20", 80)
REMOTE = Decision(Route.REMOTE, Reason.OUTGOING)
NOTHING = Address(bytes(4), 0)
TCP_FASTOPEN_CONNECT, TCP_USER_TIMEOUT, SO_COOKIE = 30, 18, 57


@pytest.fixture
def caller() -> Iterator[Caller]:
    with socket.socket() as own:
        yield Caller(own)


def _begun(caller: Caller, peer: Address = PEER) -> StartConnect:
    attempt = attempts.prepare(caller.context, caller.own, peer, REMOTE)
    attempts.begin(caller.context, caller.own, attempt, attempts.bound(caller.own, peer, REMOTE))
    (started,) = caller.told()
    assert isinstance(started, StartConnect)
    return started


def test_an_unbound_socket_leaves_the_choice_to_the_pod(caller: Caller) -> None:
    started = _begun(caller)
    assert (started.source, started.is_port_firm, started.options) == (NOTHING, False, ())
    assert started.local == address(*caller.own.getsockname())
    assert started.cookie == int.from_bytes(caller.own.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8), "little") != 0


@pytest.mark.parametrize("by_kernel", [False, True])
def test_a_bound_socket_has_its_source_in_the_pod(caller: Caller, by_kernel: bool) -> None:
    caller.own.bind(("0.0.0.0", 0))
    caller.context.sockets.bound(caller.inode, 0 if by_kernel else 1)
    started = _begun(caller)
    assert started.source == Address(bytes(4), caller.own.getsockname()[1])
    assert started.is_port_firm is not by_kernel


def test_an_address_of_the_pod_that_is_bound_elsewhere_here(caller: Caller) -> None:
    caller.own.bind(("127.0.0.1", 0))
    caller.context.sockets.names[caller.inode] = address("10.244.0.7", 5000)
    assert _begun(caller).source == address("10.244.0.7", 5000)


def test_a_second_attempt_has_the_source_of_the_first(caller: Caller) -> None:
    """The kernel's name for the socket is then what is left of the first attempt."""
    assert _begun(caller).source == _begun(caller).source == NOTHING
    caller.context.sockets.disconnected(caller.inode)
    assert _begun(caller).source == NOTHING


def test_options_go_along(caller: Caller) -> None:
    own = caller.own
    own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    own.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 11)
    own.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 12)
    own.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    own.setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, 14)
    own.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 16)
    own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    own.bind(("0.0.0.0", 0))
    options = _begun(caller).options
    triples = set(zip(options[::3], options[1::3], options[2::3], strict=True))
    assert triples == {
        (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 11),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 12),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
        (socket.IPPROTO_TCP, TCP_USER_TIMEOUT, 14),
        (socket.IPPROTO_IP, socket.IP_TOS, 16),
    }


def test_a_deferred_connect_would_be_connected_too_early(caller: Caller) -> None:
    caller.own.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
    attempts.prepare(caller.context, caller.own, PEER, REMOTE)
    assert caller.own.getsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT) == 0


def test_without_the_family_on_this_machine(caller: Caller) -> None:
    caller.context.listener4_port = 0
    with pytest.raises(SyscallError) as refused:
        attempts.prepare(caller.context, caller.own, PEER, REMOTE)
    assert refused.value.errno == errno.ENETUNREACH


def test_outcomes(caller: Caller) -> None:
    key = _begun(caller).key
    assert attempts.outcome(caller.context, caller.inode, 0, REMOTE, ran=True) == Keep(REMOTE)
    assert attempts.outcome(caller.context, caller.inode, -errno.EALREADY, REMOTE) == Return(-errno.EALREADY, REMOTE)
    caller.verdict(errno.ECONNREFUSED, NOTHING, PEER, key)
    refused = Return(-errno.ECONNREFUSED, REMOTE)
    assert attempts.outcome(caller.context, caller.inode, -errno.ECONNRESET, REMOTE, ran=True) == refused
    assert attempts.outcome(caller.context, caller.inode, -errno.ECONNRESET, REMOTE, ran=True) == Keep(REMOTE)
    assert caller.told() == []
    key = _begun(caller).key
    attempts.outcome(caller.context, caller.inode, -errno.ETIMEDOUT, REMOTE, ran=True)
    assert caller.told() == [EndConnect(key)]
