"""listen(2), accept(2) by script."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from callers import AT, FD, LENGTH_AT, Caller, address, inet, number
from mirrord_trace.agent.wire.messages import Address, Done
from mirrord_trace.syscalls.actions import Decision, Reason, Route
from mirrord_trace.syscalls.incoming_rules import Subscription
from mirrord_trace.syscalls.net.binding import bind
from mirrord_trace.syscalls.net.listening import accept, accept4, listen
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


# -- listen ---------------------------------------------------------------------------------------------------------


def _listens(caller: Caller) -> Script:
    return caller.calls(listen, (128,))


def _asks(inode: int, local: Address, port: int, multipath: bool = False) -> Listen:
    return Listen(inode, local, port, multipath, False, "", True)


def test_listen_takes_the_port_over_once(caller: Caller, tcp: socket.socket) -> None:
    tcp.bind(("0.0.0.0", 0))
    port = tcp.getsockname()[1]
    asks = _asks(caller.inode, address("0.0.0.0", port), port)
    _listens(caller).runs().gets(0).asks(asks).replies(Done()).keeps(Reason.INCOMING)
    assert caller.context.sockets.listeners == {caller.inode: Listener(port, port)}
    _listens(caller).continues(Reason.INCOMING)
    # A duplicate is the same socket, in another process, too.
    Caller(tcp, caller.context).calls(listen, (1,)).continues()


def test_listen_on_a_moved_port(caller: Caller, tcp: socket.socket) -> None:
    caller.names(bind, inet("0.0.0.0", 80)).runs().gets(-errno.EACCES).returns(0)
    port = tcp.getsockname()[1]
    asks = _asks(caller.inode, address("127.0.0.1", port), 80)
    _listens(caller).runs().gets(0).asks(asks).replies(Done()).keeps()
    assert caller.context.sockets.listeners == {caller.inode: Listener(80, port)}
    assert 80 in caller.context.sockets.listening_ports


def test_listen_of_ipv6_and_multipath_tcp() -> None:
    with socket.socket(socket.AF_INET6) as own:
        own.bind(("::", 0))
        caller = Caller(own)
        port = own.getsockname()[1]
        asks = _asks(caller.inode, address("::", port), port)
        _listens(caller).runs().gets(0).asks(asks).replies(Done()).keeps()
    try:
        own = socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP)
    except OSError:
        pytest.skip("this kernel has no multipath TCP")
    with own:
        own.bind(("127.0.0.1", 0))
        caller = Caller(own)
        port = own.getsockname()[1]
        asks = _asks(caller.inode, address("127.0.0.1", port), port, multipath=True)
        _listens(caller).runs().gets(0).asks(asks).replies(Done()).keeps()


def test_a_port_that_another_session_has(tcp: socket.socket) -> None:
    lines: list[str] = []
    tcp.bind(("127.0.0.1", 0))
    caller = Caller(tcp, session(notices=lines))
    local = address(*tcp.getsockname())
    asks = _asks(caller.inode, local, local.port)
    _listens(caller).runs().gets(0).asks(asks).fails(errno.EADDRINUSE).returns(-errno.EADDRINUSE)
    assert not caller.context.sockets.listeners
    assert lines == [f"pod port {local.port} is already taken over by another session"]
    _listens(caller).runs().gets(0).asks(asks).fails(errno.EPERM).keeps(Reason.INCOMING)
    assert local.port in caller.context.sockets.listening_ports  # the program can reach itself
    assert "CAP_NET_ADMIN" in lines[1]


def test_what_the_session_asks_for(tcp: socket.socket) -> None:
    tcp.bind(("127.0.0.1", 0))
    caller = Caller(tcp, session(subscribes=Subscription(True, "{}", False)))
    local = address(*tcp.getsockname())
    asks = Listen(caller.inode, local, local.port, False, True, "{}", False)
    _listens(caller).runs().gets(0).asks(asks).replies(Done()).keeps()


@pytest.mark.parametrize("binds", [True, False])
def test_a_port_that_the_kernel_chose_is_the_programs_own(caller: Caller, tcp: socket.socket, binds: bool) -> None:
    if binds:
        caller.names(bind, inet("127.0.0.1", 0)).continues()
        tcp.bind(("127.0.0.1", 0))
    script = _listens(caller).runs()
    tcp.listen()  # binds it if need be
    script.gets(0).keeps(Reason.PORT_ZERO)
    port = tcp.getsockname()[1]
    assert caller.context.sockets.listeners == {caller.inode: Listener(port, port)}
    _listens(caller).continues()


def test_a_port_that_is_taken_on_this_machine(tcp: socket.socket) -> None:
    lines: list[str] = []
    tcp.bind(("127.0.0.1", 0))
    caller = Caller(tcp, session(notices=lines))
    caller.context.port_holder = lambda protocol, port: "nginx (pid 9)"
    _listens(caller).runs().gets(-errno.EADDRINUSE).keeps()
    assert f"port {tcp.getsockname()[1]} of this machine is taken by nginx (pid 9)" in lines[0]


def test_listen_that_is_the_kernels(caller: Caller, tcp: socket.socket) -> None:
    tcp.bind(("127.0.0.1", 0))
    _listens(caller).runs().gets(-errno.EINVAL).keeps()
    off = Caller(tcp, session(incoming_route=OFF))
    _listens(off).runs().gets(0).keeps(Reason.INCOMING_OFF)
    assert tcp.getsockname()[1] in off.context.sockets.listening_ports
    with socket.socket(type=socket.SOCK_DGRAM) as udp, socket.socket(socket.AF_UNIX) as local:
        _listens(Caller(udp)).continues(Reason.NOT_INTERNET)
        _listens(Caller(local)).continues(Reason.NOT_INTERNET)
    os.close(caller.task.fds.pop(FD))
    _listens(caller).continues(Reason.NOT_INTERNET)


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
