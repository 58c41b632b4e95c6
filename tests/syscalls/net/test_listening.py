"""bind(2), listen(2), accept(2) by script."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from callers import AT, FD, LENGTH_AT, Caller, address, inet, number
from mirrord_trace.agent.wire.messages import Done
from mirrord_trace.syscalls.actions import Decision, Reason, Route
from mirrord_trace.syscalls.net.listening import accept, accept4, bind, listen
from mirrord_trace.syscalls.net.sockets import Listener
from mirrord_trace.syscalls.requests import Listen
from script import Script, session

IPPROTO_MPTCP = 262
OFF = Decision(Route.LOCAL, Reason.INCOMING_OFF)
CLIENT = address("10.244.1.9", 51000)
POD_END = address("10.244.0.7", 8080)


@pytest.fixture
def tcp() -> Iterator[socket.socket]:
    with socket.socket() as own:
        yield own


@pytest.fixture
def caller(tcp: socket.socket) -> Caller:
    return Caller(tcp)


def _bound_to(own: socket.socket) -> tuple[str, int]:
    name = own.getsockname()
    return name[0], name[1]


# -- bind -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [inet("0.0.0.0", 8080), inet("127.0.0.1", 0), inet("192.168.1.1", 1024)])
def test_ordinary_names_are_the_kernels(caller: Caller, name: bytes) -> None:
    caller.names(bind, name).continues(Reason.LOCAL_OBJECT)
    assert not caller.context.sockets


def test_the_pods_address_is_on_loopback(caller: Caller, tcp: socket.socket) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
    caller.names(bind, inet("10.244.0.7", port)).returns(0, decision=Reason.INCOMING)
    assert _bound_to(tcp) == ("127.0.0.1", port)
    assert caller.context.sockets.names == {caller.inode: address("10.244.0.7", port)}
    caller.names(bind, inet("10.244.0.7", port)).raises(errno.EINVAL)  # bound already


def test_any_port_of_the_pods_address(caller: Caller, tcp: socket.socket) -> None:
    caller.names(bind, inet("10.244.0.7", 0)).returns(0)
    assert caller.context.sockets.names[caller.inode] == address("10.244.0.7", _bound_to(tcp)[1])
    assert _bound_to(tcp)[1]


@pytest.mark.parametrize(
    ("name", "bound"),
    [("::ffff:10.244.0.7", "::ffff:127.0.0.1"), ("fd00::7", "::1")],
)
def test_the_pods_address_on_an_ipv6_socket(name: str, bound: str) -> None:
    with socket.socket(socket.AF_INET6) as own:
        caller = Caller(own)
        caller.context.pod = replace(caller.context.pod, addresses=(*caller.context.pod.addresses, address("fd00::7", 0).ip))
        caller.names(bind, inet(name, 0)).returns(0)
        assert _bound_to(own)[0] == bound


@pytest.mark.parametrize(
    ("name", "bound"),
    [("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "127.0.0.1"), ("192.168.1.1", "127.0.0.1"), ("::", "::"), ("::1", "::1")],
)
def test_a_refused_privileged_port_becomes_a_free_one(name: str, bound: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in name else socket.AF_INET) as own:
        caller = Caller(own)
        caller.names(bind, inet(name, 80)).runs().gets(-errno.EACCES).returns(0, decision=Reason.INCOMING)
        assert _bound_to(own)[0] == bound
        assert _bound_to(own)[1] >= 1024
        assert caller.context.sockets.names[caller.inode] == address(name, 80)


@pytest.mark.parametrize("result", [0, -errno.EADDRINUSE, -errno.EINVAL])
def test_a_privileged_port_that_is_not_refused(caller: Caller, result: int) -> None:
    caller.names(bind, inet("0.0.0.0", 80)).runs().gets(result).keeps(Reason.INCOMING)
    assert not caller.context.sockets.names


def test_a_privileged_port_of_the_pods_address(caller: Caller, tcp: socket.socket) -> None:
    """Where this user may have it (and nobody else has) it is that port, else a free one."""
    name = address("10.244.0.7", 997)
    try:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 997))
        allowed = True
    except PermissionError:
        allowed = False
    caller.names(bind, inet("10.244.0.7", 997)).returns(0)
    assert (_bound_to(tcp)[1] == 997) is allowed
    assert caller.context.sockets.names[caller.inode] == name


def test_nothing_moves_while_incoming_traffic_stays_away(tcp: socket.socket) -> None:
    caller = Caller(tcp, session(incoming_route=OFF))
    caller.names(bind, inet("10.244.0.7", 8080)).continues(Reason.INCOMING_OFF)
    caller.names(bind, inet("0.0.0.0", 80)).continues(Reason.INCOMING_OFF)


def test_bad_names_are_the_kernels(caller: Caller) -> None:
    caller.calls(bind, (0, 16)).continues(Reason.BAD_ARGUMENT)
    caller.names(bind, inet("10.244.0.7", 80)[:9]).continues(Reason.BAD_ARGUMENT)
    caller.names(bind, struct.pack("=H", socket.AF_UNIX) + b"/tmp/s").continues(Reason.NOT_INTERNET)
    caller.names(bind, inet("::ffff:10.244.0.7", 8080)).continues(Route.REMOTE)  # on an IPv4 socket
    caller.names(bind, inet("::", 80)).runs().gets(-errno.EACCES).keeps()
    os.close(caller.task.fds.pop(FD))
    caller.names(bind, inet("10.244.0.7", 8080)).continues(Route.REMOTE)
    caller.names(bind, inet("0.0.0.0", 80)).runs().gets(-errno.EACCES).keeps()


# -- listen ---------------------------------------------------------------------------------------------------------


def _listens(caller: Caller) -> Script:
    return caller.calls(listen, (128,))


def test_listen_takes_the_port_over_once(caller: Caller, tcp: socket.socket) -> None:
    tcp.bind(("0.0.0.0", 0))
    port = tcp.getsockname()[1]
    asks = Listen(caller.inode, address("0.0.0.0", port), port)
    _listens(caller).runs().gets(0).asks(asks).replies(Done()).keeps(Reason.INCOMING)
    assert caller.context.sockets.listeners == {caller.inode: Listener(port, port)}
    _listens(caller).continues(Reason.INCOMING)
    # A duplicate is the same socket, in another process, too.
    Caller(tcp, caller.context).calls(listen, (1,)).continues()


def test_listen_on_a_moved_port(caller: Caller, tcp: socket.socket) -> None:
    caller.names(bind, inet("0.0.0.0", 80)).runs().gets(-errno.EACCES).returns(0)
    port = tcp.getsockname()[1]
    asks = Listen(caller.inode, address("127.0.0.1", port), 80)
    _listens(caller).runs().gets(0).asks(asks).replies(Done()).keeps()
    assert caller.context.sockets.listeners == {caller.inode: Listener(80, port)}
    assert 80 in caller.context.sockets.listening_ports


def test_listen_of_ipv6_and_multipath_tcp() -> None:
    with socket.socket(socket.AF_INET6) as own:
        own.bind(("::", 0))
        caller = Caller(own)
        port = own.getsockname()[1]
        asks = Listen(caller.inode, address("::", port), port)
        _listens(caller).runs().gets(0).asks(asks).replies(Done()).keeps()
    try:
        own = socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP)
    except OSError:
        pytest.skip("this kernel has no multipath TCP")
    with own:
        own.bind(("127.0.0.1", 0))
        port = own.getsockname()[1]
        asks = Listen(0, address("127.0.0.1", port), port)
        _listens(Caller(own)).runs().gets(0).asks(asks).replies(Done()).keeps()


def test_a_port_that_another_session_has(tcp: socket.socket) -> None:
    lines: list[str] = []
    tcp.bind(("127.0.0.1", 0))
    caller = Caller(tcp, session(notices=lines))
    local = address(*tcp.getsockname())
    asks = Listen(caller.inode, local, local.port)
    _listens(caller).runs().gets(0).asks(asks).fails(errno.EADDRINUSE).returns(-errno.EADDRINUSE)
    assert not caller.context.sockets.listeners
    assert len(lines) == 1
    _listens(caller).runs().gets(0).asks(asks).fails(errno.EPERM).keeps(Reason.INCOMING)
    assert local.port in caller.context.sockets.listening_ports  # the program can reach itself
    assert "CAP_NET_ADMIN" in lines[1]


def test_listen_that_is_the_kernels(caller: Caller, tcp: socket.socket) -> None:
    _listens(caller).continues()  # unbound: the kernel chooses a port that nobody knows
    tcp.bind(("127.0.0.1", 0))
    _listens(caller).runs().gets(-errno.EADDRINUSE).keeps()
    off = Caller(tcp, session(incoming_route=OFF))
    _listens(off).runs().gets(0).keeps(Reason.INCOMING_OFF)
    assert tcp.getsockname()[1] in off.context.sockets.listening_ports
    with socket.socket(type=socket.SOCK_DGRAM) as udp, socket.socket(socket.AF_UNIX) as local:
        _listens(Caller(udp)).continues(Reason.NOT_INTERNET)
        _listens(Caller(local)).continues(Reason.NOT_INTERNET)
    os.close(caller.task.fds.pop(FD))
    _listens(caller).continues(Reason.NOT_INTERNET)


def test_datagram_sockets_of_the_program_are_known() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as udp:
        bound = Caller(udp)
        udp.bind(("127.0.0.1", 0))  # what the kernel does while the call runs
        script = bound.names(bind, inet("127.0.0.1", 0))
        script.runs().gets(0).keeps(Reason.LOCAL_OBJECT)
        assert udp.getsockname()[1] in bound.context.sockets.datagram_ports


# -- accept ---------------------------------------------------------------------------------------------------------


class _Server:
    """A listener for the pod and a relay's connection to it."""

    def __init__(self, family: int, loopback: str) -> None:
        self.listener = socket.socket(family)
        self.listener.bind((loopback, 0))
        self.listener.listen()
        self.caller = Caller(self.listener)
        port = self.listener.getsockname()[1]
        self.caller.context.sockets.listeners[self.caller.inode] = Listener(8080, port)
        self.relay_end = socket.create_connection((loopback, port))
        self.accepted, _ = self.listener.accept()
        self.entry = ":" in loopback, self.relay_end.getsockname()[1], port

    def come(self) -> None:
        """The connection came for the pod."""
        self.caller.addresses.entries[self.entry] = CLIENT, POD_END

    def close(self) -> None:
        for own in (self.listener, self.relay_end, self.accepted):
            own.close()

    def accepts(self, handler: Any, room: int) -> Script:
        """The kernel accepts it as fd 9."""
        script = self.caller.asks_name(handler, room).runs()
        self.caller.holds(9, self.accepted)
        return script


@pytest.fixture
def server() -> Iterator[_Server]:
    made = _Server(socket.AF_INET, "127.0.0.1")
    yield made
    made.close()


@pytest.mark.parametrize("room", [128, 16, 7, 0])
@pytest.mark.parametrize("handler", [accept, accept4])
def test_accept_names_the_real_client(server: _Server, handler: Any, room: int) -> None:
    server.come()
    name = inet("10.244.1.9", 51000)
    writes = {AT: name[:room], LENGTH_AT: number(16)} if room else {LENGTH_AT: number(16)}
    server.accepts(handler, room).gets(9).returns(9, writes, Reason.INCOMING)


def test_accept_on_ipv6() -> None:
    server = _Server(socket.AF_INET6, "::1")
    server.come()
    writes = {AT: inet("::ffff:10.244.1.9", 51000), LENGTH_AT: number(28)}
    server.accepts(accept4, 128).gets(9).returns(9, writes)
    server.close()


def test_accept_that_is_the_kernels(server: _Server) -> None:
    caller = server.caller
    server.accepts(accept4, 128).gets(9).keeps(Route.LOCAL)  # somebody of this machine
    server.come()
    server.accepts(accept4, 128).gets(-errno.EAGAIN).keeps()
    server.accepts(accept4, 2**32 - 1).gets(-errno.EINVAL).keeps()
    caller.calls(accept4, (AT, 1)).runs().gets(-errno.EFAULT).keeps()
    script = caller.asks_name(accept4).runs()
    os.close(caller.task.fds.pop(9))
    script.gets(9).keeps()  # another thread has closed it already
    with socket.socket() as other:
        Caller(other, caller.context).asks_name(accept4).continues(Reason.LOCAL_OBJECT)
        Caller(other).asks_name(accept).continues(Reason.LOCAL_OBJECT)
