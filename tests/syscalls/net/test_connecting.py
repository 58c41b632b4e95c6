"""connect(2) by script: who answers what, in which order, and with which errno."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from callers import AT, FD, LENGTH_AT, Caller, address, full_listener, inet, local_only, number
from mirrord_trace.agent.wire.messages import Address, Done
from mirrord_trace.supervisor.relay.connects import FullListener
from mirrord_trace.syscalls.actions import Decision, Reason, Route, Scratch
from mirrord_trace.syscalls.net.connecting import connect, getsockopt
from mirrord_trace.syscalls.net.names import getsockname
from mirrord_trace.syscalls.net.sockets import Listener
from mirrord_trace.syscalls.requests import EndConnect, StartConnect
from script import Script, session

PEER = address("10.96.0.20", 80)
PEER_NAME = inet("10.96.0.20", 80)
POD_END = address("10.244.0.7", 40000)
STAND_IN = inet("127.0.0.1", 40004)
TO_STAND_IN: dict[int, int | Scratch] = {1: Scratch(STAND_IN), 2: len(STAND_IN)}
IP_BIND_ADDRESS_NO_PORT = 24


@pytest.fixture
def tcp() -> Iterator[socket.socket]:
    with socket.socket() as own:
        yield own


@pytest.fixture
def caller(tcp: socket.socket) -> Caller:
    return Caller(tcp)


def _so_error(caller: Caller, room: int = 4, value: int = 0) -> Script:
    memory = {AT: number(value), LENGTH_AT: number(room)}
    return caller.calls(getsockopt, (socket.SOL_SOCKET, socket.SO_ERROR, AT, LENGTH_AT), memory)


def _started(caller: Caller) -> list[tuple[int, Address, Address]]:
    """Key, peer and local name of what the relay was told to connect since this was last asked."""
    return [(one.key, one.peer, one.local) for one in caller.told() if isinstance(one, StartConnect)]


@contextmanager
def failing_listener(caller: Caller) -> Iterator[Callable[[], None]]:
    """A full listener for the caller; what is yielded fails the caller's pending connect as the relay does."""
    listener = FullListener(socket.AF_INET)
    caller.context.listener4_port = listener.port

    def fail() -> None:
        with listener.settling_socket(for_reset=True) as ours:
            ours.connect_ex(caller.own.getsockname())
            select.select([], [ours], [], 10)
        select.select([], [caller.own], [], 10)

    yield fail
    listener.close()


def _begin_and_fail(caller: Caller, tcp: socket.socket, fail: Callable[[], None], blocking: bool = False) -> None:
    tcp.setblocking(False)
    caller.names(connect, PEER_NAME).returns(-errno.EINPROGRESS)
    caller.told()
    tcp.setblocking(blocking)
    fail()
    caller.verdict(errno.ECONNREFUSED, POD_END, PEER)


def _own_end(tcp: socket.socket) -> Address:
    return address(*tcp.getsockname()[:2])


def test_a_blocking_connect_blocks_in_the_kernel(caller: Caller, tcp: socket.socket) -> None:
    script = caller.names(connect, PEER_NAME).runs(TO_STAND_IN)
    # The relay knows before the kernel starts.
    assert _started(caller) == [(1, PEER, address("127.0.0.1", tcp.getsockname()[1]))]
    script.gets(0).keeps(Reason.OUTGOING)


@pytest.mark.parametrize("number", [errno.EINTR, errno.EINPROGRESS])
def test_an_interrupted_or_timed_out_connect_is_the_kernels(caller: Caller, number: int) -> None:
    caller.names(connect, PEER_NAME).runs(TO_STAND_IN).gets(-number).keeps()


def test_a_blocking_connect_fails_with_the_pods_errno(caller: Caller) -> None:
    script = caller.names(connect, PEER_NAME).runs(TO_STAND_IN)
    caller.verdict(errno.ECONNREFUSED, POD_END, PEER)
    script.gets(-errno.ECONNRESET).returns(-errno.ECONNREFUSED)
    # Told once: SO_ERROR has nothing more to say, and the next connect is a new one.
    _so_error(caller).continues(Route.REMOTE)
    caller.told()
    caller.names(connect, PEER_NAME).runs(TO_STAND_IN).gets(0).keeps()
    assert [getattr(message, "key", 0) for message in caller.told()] == [2]


def test_the_kernels_own_failure_stands(caller: Caller) -> None:
    caller.names(connect, PEER_NAME).runs(TO_STAND_IN).gets(-errno.ETIMEDOUT).keeps()


def test_a_nonblocking_connect_is_under_way_at_once(caller: Caller, tcp: socket.socket) -> None:
    tcp.setblocking(False)
    with full_listener() as caller.context.listener4_port:
        caller.names(connect, PEER_NAME).returns(-errno.EINPROGRESS, decision=Reason.OUTGOING)
        assert _started(caller) == [(1, PEER, _own_end(tcp))]
        # A second one asks the kernel, which knows that the first is under way.
        caller.names(connect, PEER_NAME).returns(-errno.EALREADY, decision=Reason.OUTGOING)
        caller.names(connect, inet("10.96.0.21", 80)).returns(-errno.EALREADY)
    assert caller.told() == []
    assert caller.context.sockets.connections[caller.inode].peer == PEER


def test_a_nonblocking_connect_that_fails_at_once_starts_nothing(caller: Caller, tcp: socket.socket) -> None:
    tcp.setblocking(False)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        caller.context.listener4_port = unused.getsockname()[1]
        tcp.bind(("127.0.0.1", 0))
        tcp.connect_ex(unused.getsockname())  # refused: the error waits in the socket
    caller.names(connect, PEER_NAME).returns(-errno.ECONNREFUSED)
    assert caller.told() == []


def test_so_error_tells_the_pods_errno_once(caller: Caller, tcp: socket.socket) -> None:
    tcp.setblocking(False)
    with full_listener() as caller.context.listener4_port:
        caller.names(connect, PEER_NAME).returns(-errno.EINPROGRESS)
    caller.context.relay.drain()
    _so_error(caller).continues(Route.REMOTE)
    caller.verdict(errno.EHOSTUNREACH, POD_END, PEER)
    # The verdict is here, the reset is not: nothing to translate yet.
    _so_error(caller).runs().gets(0).keeps()
    script = _so_error(caller, value=errno.ECONNRESET)
    script.runs().gets(0).returns(0, {AT: number(errno.EHOSTUNREACH)}, Route.REMOTE)
    _so_error(caller).continues(Route.REMOTE)


def test_so_error_fits_the_callers_room(caller: Caller) -> None:
    caller.names(connect, PEER_NAME).runs(TO_STAND_IN).gets(-errno.EINPROGRESS).keeps()
    caller.verdict(errno.ECONNREFUSED, POD_END, PEER)
    _so_error(caller, 4).runs().gets(-errno.EFAULT).keeps()
    _so_error(caller, 0, errno.ECONNRESET).runs().gets(0).keeps()
    script = _so_error(caller, 1, errno.ECONNRESET)
    script.runs().gets(0).returns(0, {AT: bytes((errno.ECONNREFUSED,))})


def test_so_error_of_other_sockets_is_the_kernels(caller: Caller) -> None:
    _so_error(caller).continues(Reason.LOCAL_OBJECT)
    with socket.socket() as other:
        stranger = Caller(other, caller.context)
        caller.names(connect, PEER_NAME).runs(TO_STAND_IN).gets(0).keeps()
        _so_error(stranger).continues(Reason.LOCAL_OBJECT)


@pytest.mark.parametrize("blocking", [False, True])
def test_a_second_connect_tells_the_pods_errno(caller: Caller, tcp: socket.socket, blocking: bool) -> None:
    with failing_listener(caller) as fail:
        _begin_and_fail(caller, tcp, fail, blocking)
        caller.names(connect, PEER_NAME).returns(-errno.ECONNREFUSED, decision=Reason.OUTGOING)
        assert caller.told() == []


def test_after_so_error_a_second_connect_has_the_kernels_answer(caller: Caller, tcp: socket.socket) -> None:
    with failing_listener(caller) as fail:
        _begin_and_fail(caller, tcp, fail)
        assert tcp.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET
        caller.names(connect, PEER_NAME).returns(-errno.ECONNABORTED)
        assert caller.told() == []


def test_a_failed_socket_connects_anew_from_the_pod_alone(caller: Caller, tcp: socket.socket) -> None:
    """Whatever took the error away (read(2), say): the kernel is never given the real address."""
    with failing_listener(caller) as fail:
        _begin_and_fail(caller, tcp, fail)
        with pytest.raises(ConnectionResetError):
            tcp.recv(1)
        caller.names(connect, PEER_NAME).returns(-errno.ECONNABORTED)
        caller.names(connect, PEER_NAME).returns(-errno.EINPROGRESS)
        assert [(key, peer) for key, peer, _ in _started(caller)] == [(2, PEER)]


def test_a_blocking_socket_with_a_history_waits_in_the_kernel(caller: Caller, tcp: socket.socket) -> None:
    with failing_listener(caller) as fail:
        _begin_and_fail(caller, tcp, fail, blocking=True)
        caller.names(connect, PEER_NAME).returns(-errno.ECONNREFUSED)
        stand_in = inet("127.0.0.1", caller.context.listener4_port)
        again = caller.names(connect, PEER_NAME).runs({1: Scratch(stand_in), 2: len(stand_in)})
        assert [(key, peer) for key, peer, _ in _started(caller)] == [(2, PEER)]
        assert tcp.getblocking()
        # Its time is up (SO_SNDTIMEO): for the program this is where the attempt began.
        again.gets(-errno.EALREADY).returns(-errno.EINPROGRESS)
        under_way = caller.names(connect, PEER_NAME).runs({1: Scratch(stand_in), 2: len(stand_in)})
        under_way.gets(-errno.EALREADY).keeps()
        assert caller.told() == []


def test_shutdown_of_a_pending_connect_then_another(caller: Caller, tcp: socket.socket) -> None:
    """shutdown(2) takes a connect back and does not stop: the relay must let go before the next one begins."""
    tcp.setblocking(False)
    with full_listener() as caller.context.listener4_port:
        caller.names(connect, PEER_NAME).returns(-errno.EINPROGRESS)
        caller.told()
        tcp.shutdown(socket.SHUT_RDWR)
        second = caller.names(connect, inet("10.96.0.21", 80)).asks(EndConnect(1))
        assert caller.told() == []
        second.replies(Done()).returns(-errno.EINPROGRESS)
        assert [(key, peer) for key, peer, _ in _started(caller)] == [(2, address("10.96.0.21", 80))]


def test_what_the_kernel_gives_up_the_pod_gives_up(caller: Caller) -> None:
    script = caller.names(connect, PEER_NAME).runs(TO_STAND_IN)
    caller.told()
    script.gets(-errno.ETIMEDOUT).keeps()
    assert caller.told() == [EndConnect(1)]


def test_a_connected_or_listening_socket_is_the_kernels(caller: Caller, tcp: socket.socket) -> None:
    tcp.listen()
    caller.names(connect, PEER_NAME).continues(Route.REMOTE)
    assert caller.told() == []


def test_unspec_disconnects(caller: Caller) -> None:
    caller.names(connect, bytes(16)).continues(Reason.NOT_INTERNET)
    with full_listener() as port:
        caller.context.listener4_port = port
        to_stand_in: dict[int, int | Scratch] = {1: Scratch(inet("127.0.0.1", port)), 2: len(STAND_IN)}
        caller.names(connect, PEER_NAME).runs(to_stand_in).gets(0).keeps()
        caller.verdict(0, POD_END, PEER)
        caller.context.relay.drain()
        caller.names(connect, bytes(16)).asks(EndConnect(1)).replies(Done()).continues(Reason.NOT_INTERNET)
        caller.asks_name(getsockname).continues()
        caller.names(connect, PEER_NAME).runs(to_stand_in).gets(0).keeps()
    assert [getattr(message, "key", 0) for message in caller.told()] == [1, 2]


def test_unspec_without_a_session_is_the_kernels(caller: Caller) -> None:
    caller.names(connect, PEER_NAME).runs(TO_STAND_IN).gets(-errno.EINTR).keeps()
    caller.names(connect, bytes(16)).asks(EndConnect(1)).fails(errno.ENETDOWN).continues(Reason.NOT_INTERNET)


def test_this_host_means_the_pods_loopback(caller: Caller) -> None:
    caller.names(connect, inet("0.0.0.0", 80)).runs(TO_STAND_IN).gets(0).keeps()
    assert caller.context.sockets.connections[caller.inode].peer == address("127.0.0.1", 80)


@pytest.mark.parametrize("bound", ["127.0.0.1", "127.0.0.2", "0.0.0.0"])
def test_a_socket_bound_before_keeps_its_port_and_address(caller: Caller, tcp: socket.socket, bound: str) -> None:
    tcp.bind((bound, 0))
    port = tcp.getsockname()[1]
    caller.names(connect, PEER_NAME).runs(TO_STAND_IN).gets(0).keeps()
    expected = "127.0.0.1" if bound == "0.0.0.0" else bound
    assert _started(caller) == [(1, PEER, address(expected, port))]


@pytest.mark.parametrize("bind_first", [False, True])
def test_a_port_put_off_until_connect_is_chosen(caller: Caller, tcp: socket.socket, bind_first: bool) -> None:
    tcp.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    if bind_first:
        tcp.bind(("127.0.0.1", 0))
        assert not tcp.getsockname()[1]
    caller.names(connect, PEER_NAME).runs(TO_STAND_IN).gets(0).keeps()
    (started,) = caller.told()
    assert isinstance(started, StartConnect)
    assert started.local.port == tcp.getsockname()[1] != 0


def test_a_failed_connects_port_is_not_taken_for_bound(caller: Caller, tcp: socket.socket) -> None:
    with socket.socket() as refusing, socket.socket() as other:
        refusing.bind(("127.0.0.1", 0))
        assert tcp.connect_ex(refusing.getsockname()) == errno.ECONNREFUSED
        caller.names(connect, PEER_NAME).runs(TO_STAND_IN).gets(0).keeps()
        (started,) = caller.told()
        assert isinstance(started, StartConnect)
        with pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", started.local.port))


@pytest.mark.parametrize("blocking", [False, True])
def test_ipv4_mapped_ipv6(blocking: bool) -> None:
    with socket.socket(socket.AF_INET6) as own, full_listener() as port:
        own.setblocking(blocking)
        caller = Caller(own)
        caller.context.listener4_port = port
        script = caller.names(connect, inet("::ffff:10.96.0.20", 80))
        if blocking:
            stand_in = inet("::ffff:127.0.0.1", port)
            script.runs({1: Scratch(stand_in), 2: len(stand_in)}).gets(0).keeps()
        else:
            script.returns(-errno.EINPROGRESS)
        assert _started(caller) == [(1, PEER, address("127.0.0.1", own.getsockname()[1]))]


@pytest.mark.parametrize("blocking", [False, True])
def test_ipv6(blocking: bool) -> None:
    peer = address("fd00::20", 80)
    with socket.socket(socket.AF_INET6) as own, full_listener(socket.AF_INET6) as port:
        own.setblocking(blocking)
        caller = Caller(own)
        caller.context.listener6_port = port
        script = caller.names(connect, inet("fd00::20", 80))
        if blocking:
            stand_in = inet("::1", port)
            script.runs({1: Scratch(stand_in), 2: len(stand_in)}).gets(0).keeps()
        else:
            script.returns(-errno.EINPROGRESS)
        assert _started(caller) == [(1, peer, address("::1", own.getsockname()[1]))]


def test_ipv6_without_it_on_this_machine() -> None:
    lines: list[str] = []
    with socket.socket(socket.AF_INET6) as own:
        caller = Caller(own, session(notices=lines))
        caller.context.listener6_port = 0
        caller.names(connect, inet("fd00::20", 80)).raises(errno.ENETUNREACH, Reason.OUTGOING)
    assert len(lines) == 1
    assert "IPv6" in lines[0]


def test_local_peers_are_the_kernels(tcp: socket.socket) -> None:
    caller = Caller(tcp, session(local_only("10.96.0.20")))
    caller.names(connect, PEER_NAME).continues(Reason.OUTGOING_FILTER)
    assert caller.told() == []
    assert tcp.getsockname()[1] == 0, "not bound"


def test_own_listeners_are_found_where_they_really_are(tcp: socket.socket) -> None:
    caller = Caller(tcp, session(local_only("192.168.0.0/16")))
    listeners = caller.context.sockets.listeners
    listeners[1] = Listener(8080, 8080)
    caller.names(connect, inet("127.0.0.1", 8080)).continues(Reason.OWN_LISTENER)
    listeners[2] = Listener(80, 45678)
    moved = inet("127.0.0.1", 45678)
    script = caller.names(connect, inet("127.0.0.1", 80)).runs({1: Scratch(moved), 2: len(moved)})
    script.gets(-errno.ECONNREFUSED).keeps(Reason.OWN_LISTENER)


def test_name_service_caches_look_absent(tcp: socket.socket) -> None:
    absent = Decision(Route.MISSING, Reason.LOCAL_RESOLVER_SOCKET)
    nscd = struct.pack("=H", socket.AF_UNIX) + b"/var/run/nscd/socket\0"
    Caller(tcp, session(unix_route=absent)).names(connect, nscd).raises(errno.ENOENT, Reason.LOCAL_RESOLVER_SOCKET)
    Caller(tcp).names(connect, nscd).continues(Reason.NOT_INTERNET)


def test_multipath_tcp_is_refused_from_the_pod_alone() -> None:
    lines: list[str] = []
    try:
        own = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
    except OSError:
        pytest.skip("this kernel has no multipath TCP")
    with own:
        Caller(own, session(notices=lines)).names(connect, PEER_NAME).raises(errno.EOPNOTSUPP, Reason.OUTGOING)
        Caller(own, session(local_only("10.96.0.20"))).names(connect, PEER_NAME).continues(Route.LOCAL)
    assert len(lines) == 1
    assert "multipath" in lines[0]


def test_bad_arguments_are_the_kernels(caller: Caller) -> None:
    caller.names(connect, inet("fd00::20", 80)).continues(Reason.BAD_ARGUMENT)  # on an IPv4 socket
    caller.names(connect, PEER_NAME[:15]).continues(Reason.BAD_ARGUMENT)
    caller.calls(connect, (AT, 129), {AT: bytes(200)}).continues(Reason.BAD_ARGUMENT)
    caller.calls(connect, (AT, -1), {AT: bytes(200)}).continues(Reason.BAD_ARGUMENT)
    caller.calls(connect, (0, 16)).continues(Reason.BAD_ARGUMENT)
    caller.names(connect, struct.pack("=H", 38) + bytes(20)).continues(Reason.NOT_INTERNET)
    closed = Caller(caller.own)
    closed.task.close()
    closed.names(connect, PEER_NAME).continues(Reason.BAD_ARGUMENT)
    closed.task.fds[FD] = os.open("/dev/null", os.O_RDONLY)
    closed.names(connect, PEER_NAME).continues(Reason.BAD_ARGUMENT)
    left, right = socket.socketpair()
    with left, right:
        Caller(left).names(connect, PEER_NAME).continues(Reason.BAD_ARGUMENT)
