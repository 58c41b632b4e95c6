"""bind(2) by script."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from callers import FD, Caller, address, inet
from mirrord_trace.agent.wire.messages import Done
from mirrord_trace.syscalls.actions import Decision, Reason, Route
from mirrord_trace.syscalls.net.binding import bind
from mirrord_trace.syscalls.requests import ReceiveUdp
from script import session

OFF = Decision(Route.LOCAL, Reason.INCOMING_OFF)
IGNORED = Decision(Route.LOCAL, Reason.INCOMING_IGNORED)


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


def _free_port() -> int:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        return int(other.getsockname()[1])


# -- names that are there -------------------------------------------------------------------------------------------


def test_ordinary_names_are_the_kernels(caller: Caller) -> None:
    caller.names(bind, inet("0.0.0.0", 8080)).runs().gets(0).keeps(Reason.INCOMING)
    assert not caller.context.sockets
    assert not caller.context.sockets.floating


def test_a_port_that_the_kernel_chooses(caller: Caller, tcp: socket.socket) -> None:
    caller.names(bind, inet("127.0.0.1", 0)).continues(Reason.LOCAL_OBJECT)
    assert caller.context.sockets.floating == {caller.inode}
    caller.names(bind, inet("127.0.0.1", 8080)).runs().gets(0).keeps()
    assert not caller.context.sockets.floating
    tcp.bind(("127.0.0.1", 0))
    caller.names(bind, inet("127.0.0.1", 0)).continues()  # EINVAL: it has a port
    assert not caller.context.sockets.floating


def test_a_port_that_is_taken_on_this_machine(tcp: socket.socket) -> None:
    lines: list[str] = []
    caller = Caller(tcp, session(notices=lines))
    caller.context.port_holder = lambda protocol, port: f"nginx on {protocol} {port}"
    caller.names(bind, inet("0.0.0.0", 8080)).runs().gets(-errno.EADDRINUSE).keeps(Reason.INCOMING)
    assert lines == [
        "Address already in use: port 8080 of this machine is taken by nginx on tcp 8080; "
        "feature.network.incoming.listen_ports [[8080, OTHER]] lets the program have another one here"
    ]
    off = Caller(tcp, session(incoming_route=OFF, notices=lines))
    off.names(bind, inet("0.0.0.0", 8080)).runs().gets(-errno.EADDRINUSE).keeps(Reason.LOCAL_OBJECT)
    assert len(lines) == 1


def test_listen_ports(tcp: socket.socket) -> None:
    lines: list[str] = []
    port = _free_port()
    context = session(notices=lines, listen_ports={80: port})
    caller = Caller(tcp, context)
    caller.names(bind, inet("0.0.0.0", 80)).returns(0, decision=Reason.INCOMING)
    assert _bound_to(tcp) == ("0.0.0.0", port)
    assert context.sockets.names == {caller.inode: address("0.0.0.0", 80)}
    with socket.socket() as second:
        Caller(second, context).names(bind, inet("10.244.0.7", 80)).returns(-errno.EADDRINUSE)
    assert lines == [f"Address already in use: port {port} of this machine is taken by another socket"]


# -- the pod's names ------------------------------------------------------------------------------------------------


def test_the_pods_address_is_on_loopback(caller: Caller, tcp: socket.socket) -> None:
    port = _free_port()
    caller.names(bind, inet("10.244.0.7", port)).returns(0, decision=Reason.INCOMING)
    assert _bound_to(tcp) == ("127.0.0.1", port)
    assert caller.context.sockets.names == {caller.inode: address("10.244.0.7", port)}
    caller.names(bind, inet("10.244.0.7", port)).returns(-errno.EINVAL)  # bound already


def test_any_port_of_the_pods_address(caller: Caller, tcp: socket.socket) -> None:
    caller.names(bind, inet("10.244.0.7", 0)).returns(0)
    assert caller.context.sockets.names[caller.inode] == address("10.244.0.7", _bound_to(tcp)[1])
    assert _bound_to(tcp)[1]
    assert caller.context.sockets.floating == {caller.inode}


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


def test_a_source_address_for_connections_from_the_pod(tcp: socket.socket) -> None:
    """Whatever ports are ignored: a client may bind the pod's address."""
    Caller(tcp, session(incoming_route=IGNORED)).names(bind, inet("10.244.0.7", 0)).returns(0)
    assert _bound_to(tcp)[0] == "127.0.0.1"


# -- privileged ports -----------------------------------------------------------------------------------------------


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


def test_a_privileged_port_that_is_bound_again_is_the_same_one() -> None:
    """As the kernel has it: workers with SO_REUSEPORT share it, a second copy gets EADDRINUSE, a successor gets it."""
    context = session()
    context.port_holder = lambda protocol, port: "a program"

    callers = []

    def tries(own: socket.socket) -> Any:
        callers.append(Caller(own, context))
        return callers[-1].names(bind, inet("0.0.0.0", 80)).runs().gets(-errno.EACCES)

    with socket.socket() as first, socket.socket() as second, socket.socket() as third:
        for own in (first, second):
            own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            tries(own).returns(0)
        assert _bound_to(first) == _bound_to(second)
        tries(third).returns(-errno.EADDRINUSE)
        # Nobody listens there: some client has the port, and the program is not to suffer for it.
        context.port_holder = lambda protocol, port: ""
        tries(third).returns(0)
        port = _bound_to(third)[1]
        assert port != _bound_to(first)[1]
        for caller in callers:
            caller.task.close()
    with socket.socket() as fourth:
        tries(fourth).returns(0)
        assert _bound_to(fourth)[1] == port


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


# -- what is the kernel's -------------------------------------------------------------------------------------------


def test_nothing_moves_while_incoming_traffic_stays_away(tcp: socket.socket) -> None:
    caller = Caller(tcp, session(incoming_route=OFF))
    caller.names(bind, inet("0.0.0.0", 80)).runs().gets(-errno.EACCES).keeps(Reason.INCOMING_OFF)


def test_the_pods_address_can_be_bound_for_outgoing_connections(tcp: socket.socket) -> None:
    caller = Caller(tcp, session(incoming_route=OFF))
    caller.names(bind, inet("10.244.0.7", 0)).returns(0)
    assert _bound_to(tcp)[0] == "127.0.0.1"
    assert caller.context.sockets.names[caller.inode].ip == address("10.244.0.7", 0).ip


def test_bad_names_are_the_kernels(caller: Caller) -> None:
    caller.calls(bind, (0, 16)).continues(Reason.BAD_ARGUMENT)
    caller.names(bind, inet("10.244.0.7", 80)[:9]).continues(Reason.BAD_ARGUMENT)
    caller.names(bind, struct.pack("=H", socket.AF_UNIX) + b"/tmp/s").continues(Reason.NOT_INTERNET)
    caller.names(bind, inet("::ffff:10.244.0.7", 8080)).continues(Reason.BAD_ARGUMENT)  # on an IPv4 socket
    caller.names(bind, inet("::", 80)).continues(Reason.BAD_ARGUMENT)
    os.close(caller.task.fds.pop(FD))
    caller.names(bind, inet("10.244.0.7", 8080)).continues(Reason.BAD_ARGUMENT)


def test_other_sockets_are_the_kernels() -> None:
    try:
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    except PermissionError:
        pytest.skip("raw sockets take CAP_NET_RAW: this needs root")
    with raw:
        Caller(raw).names(bind, inet("127.0.0.1", 0)).continues(Reason.LOCAL_OBJECT)


# -- datagrams ------------------------------------------------------------------------------------------------------


@pytest.fixture
def udp() -> Iterator[socket.socket]:
    with socket.socket(type=socket.SOCK_DGRAM) as own:
        yield own


def _serves(caller: Caller, udp: socket.socket) -> tuple[Any, ReceiveUdp]:
    port = _free_port()
    script = caller.names(bind, inet("127.0.0.1", port)).traps("recvmsg", "recvmmsg").gets(0).runs()
    udp.bind(("127.0.0.1", port))  # what the kernel does while the call runs
    return script.gets(0), ReceiveUdp(caller.inode, address("127.0.0.1", port), port, False)


def test_datagram_sockets_of_the_program_are_known(udp: socket.socket) -> None:
    caller = Caller(udp)
    script = caller.names(bind, inet("127.0.0.1", 0)).runs()
    udp.bind(("127.0.0.1", 0))
    script.gets(0).keeps(Reason.LOCAL_OBJECT)
    assert udp.getsockname()[1] in caller.context.sockets.datagram_ports
    assert not caller.context.sockets.receivers


def test_a_datagram_port_receives_for_the_pod(udp: socket.socket) -> None:
    caller = Caller(udp)
    script, asks = _serves(caller, udp)
    script.asks(asks).replies(Done()).returns(0, decision=Reason.INCOMING)
    assert asks.local.port in caller.context.sockets.datagram_ports
    assert list(caller.context.sockets.receivers) == [asks.local.port]
    # Bound already: the kernel's EINVAL, and nothing is asked.
    caller.names(bind, inet("127.0.0.1", 1)).runs().gets(-errno.EINVAL).keeps()


def test_a_datagram_port_that_another_session_has(udp: socket.socket) -> None:
    lines: list[str] = []
    caller = Caller(udp, session(notices=lines))
    script, asks = _serves(caller, udp)
    script.asks(asks).fails(errno.EADDRINUSE, "ann has it").returns(-errno.EADDRINUSE)
    assert lines == ["ann has it"]


def test_a_refused_privileged_datagram_port(udp: socket.socket) -> None:
    caller = Caller(udp)
    script = caller.names(bind, inet("0.0.0.0", 53)).traps("recvmsg", "recvmmsg").gets(0).runs().gets(-errno.EACCES)
    local = address(*udp.getsockname())
    script.asks(ReceiveUdp(caller.inode, local, 53, False)).replies(Done()).returns(0)
    assert local.ip == socket.inet_aton("127.0.0.1")
    assert caller.context.sockets.names == {caller.inode: address("0.0.0.0", 53)}


def test_datagram_ports_that_stay_here(udp: socket.socket) -> None:
    lines: list[str] = []
    Caller(udp, session(incoming_route=IGNORED)).names(bind, inet("127.0.0.1", 5353)).runs().gets(0).keeps(Route.LOCAL)
    caller = Caller(udp, session(notices=lines))
    script = caller.names(bind, inet("127.0.0.1", 5353)).traps("recvmsg", "recvmmsg").gets(0)
    script.runs().gets(-errno.EADDRINUSE).keeps()
    assert lines == ["Address already in use: port 5353 of this machine is taken by another socket"]
