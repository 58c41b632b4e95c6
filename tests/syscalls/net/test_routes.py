"""Netlink sockets: what is substituted, and that the program sees those of the kernel."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator

import pytest
from callers import AT, FD, LENGTH_AT, Caller, number
from mirrord_trace.agent.wire.messages import Done
from mirrord_trace.syscalls.abi import msghdr, netlink
from mirrord_trace.syscalls.actions import Reason, Route, Scratch
from mirrord_trace.syscalls.context import Context
from mirrord_trace.syscalls.net import routes
from mirrord_trace.syscalls.net.sockets import Routing
from mirrord_trace.syscalls.requests import AwaitRoutes, RouteSocket
from mirrord_trace.syscalls.table import ROWS, handlers
from script import FakeTask, Script, session

_MADE = (netlink.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, netlink.NETLINK_ROUTE)
_TRAPS = ("sendmsg", "sendmmsg", "recvmsg", "recvmmsg", "recvfrom")
_DISPATCH = dict(handlers({row.name: n for n, row in enumerate(ROWS)}).values())
_KERNEL = netlink.encode_name(0, 0)
_BUFFER_AT, _NAME_AT, _HEADER_AT = 0x5000, 0x6000, 0x7000


def _usersock() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, netlink.NETLINK_USERSOCK)


@pytest.fixture
def relay() -> Iterator[socket.socket]:
    with _usersock() as sock:
        sock.bind((0, 0))
        yield sock


@pytest.fixture
def caller(relay: socket.socket) -> Iterator[Caller]:
    """A thread whose socket has just been made."""
    with _usersock() as own:
        context = session()
        context.routes_port = relay.getsockname()[0]
        caller = Caller(own, context)
        script = Script(_DISPATCH["socket"], _MADE, task=caller.task, context=context)
        script.traps(*_TRAPS).gets(0).runs({2: netlink.NETLINK_USERSOCK}).gets(FD).keeps(Reason.POD_INTERFACES)
        yield caller


def _known(caller: Caller) -> Routing:
    return caller.context.sockets.routing[caller.inode]


def _names(caller: Caller, call: str) -> bytes:
    caller.task.memory.update({AT: bytearray(32), LENGTH_AT: bytearray(number(32))})
    handling = _DISPATCH[call](caller.context, caller.task, (FD, AT, LENGTH_AT, 0, 0, 0))
    try:
        next(handling)
    except StopIteration as stop:
        writes = dict(stop.value.writes)
        assert writes[LENGTH_AT] == number(netlink.SOCKADDR_BYTES)
        return bytes(writes[AT])
    raise AssertionError(call)


def test_the_socket_talks_to_the_relay(caller: Caller, relay: socket.socket) -> None:
    port = caller.own.getsockname()[0]
    assert caller.own.getpeername() == relay.getsockname()
    assert caller.told() == [RouteSocket(port, caller.task.tgid)]
    assert _names(caller, "getsockname") == netlink.encode_name(caller.task.tgid, 0)
    caller.own.send(b"question")
    assert relay.recvfrom(100) == (b"question", (port, 0))


def test_no_port_is_used_again(caller: Caller) -> None:
    with _usersock() as second:
        caller.holds(8, second)
        script = Script(_DISPATCH["socket"], _MADE, task=caller.task, context=caller.context)
        script.traps(*_TRAPS).gets(0).runs({2: netlink.NETLINK_USERSOCK}).gets(8).keeps()
        assert second.getsockname()[0] not in (0, caller.own.getsockname()[0])


def test_ports_that_others_have_are_left_out(caller: Caller) -> None:
    port = caller.own.getsockname()[0]
    with _usersock() as taken, _usersock() as second:
        taken.bind((port + 1, 0))
        caller.holds(8, second)
        script = Script(_DISPATCH["socket"], _MADE, task=caller.task, context=caller.context)
        script.traps(*_TRAPS).gets(0).runs({2: netlink.NETLINK_USERSOCK}).gets(8).keeps()
        assert second.getsockname()[0] == port + 2


def test_a_socket_that_cannot_be_made(caller: Caller) -> None:
    script = Script(_DISPATCH["socket"], _MADE, context=caller.context)
    script.traps(*_TRAPS).gets(0).runs({2: netlink.NETLINK_USERSOCK}).gets(-errno.EMFILE).keeps()
    Script(_DISPATCH["socket"], _MADE, context=caller.context).traps(*_TRAPS).gets(-errno.EPERM).raises(errno.EPROTONOSUPPORT)


def test_left_alone_by_config() -> None:
    Script(_DISPATCH["socket"], _MADE, context=session(pod_interfaces=False)).continues(Reason.INTERFACES_OFF)


def test_without_netlink_in_the_relay() -> None:
    context = session()
    context.routes_port = 0
    Script(_DISPATCH["socket"], _MADE, context=context).raises(errno.EPROTONOSUPPORT, Route.REMOTE)


def test_bind_is_remembered(caller: Caller) -> None:
    port = caller.task.tgid
    caller.names(_DISPATCH["bind"], netlink.encode_name(0, 5)).returns(0)
    assert _names(caller, "getsockname") == netlink.encode_name(port, 5)
    caller.names(_DISPATCH["bind"], netlink.encode_name(port, 0)).returns(0)
    caller.names(_DISPATCH["bind"], netlink.encode_name(port + 1, 0)).raises(errno.EINVAL)
    caller.names(_DISPATCH["bind"], netlink.encode_name(0, 0)).raises(errno.EINVAL)


def test_bind_to_a_port_of_the_programs_choice(caller: Caller) -> None:
    caller.told()
    caller.names(_DISPATCH["bind"], netlink.encode_name(4711, 0)).returns(0)
    assert caller.told() == [RouteSocket(_known(caller).port, 4711)]
    assert _names(caller, "getsockname") == netlink.encode_name(4711, 0)


def test_names_that_are_none(caller: Caller) -> None:
    for call in ("bind", "connect"):
        caller.names(_DISPATCH[call], _KERNEL[:11]).raises(errno.EINVAL)
        caller.names(_DISPATCH[call], struct.pack("=HHII", socket.AF_INET, 0, 0, 0)).raises(errno.EINVAL)
        caller.calls(_DISPATCH[call], (1, 12)).raises(errno.EFAULT)


def test_connect(caller: Caller) -> None:
    caller.names(_DISPATCH["connect"], _KERNEL).returns(0)
    caller.names(_DISPATCH["connect"], bytes(12)).returns(0)
    caller.names(_DISPATCH["connect"], netlink.encode_name(1, 0)).raises(errno.EPERM)
    caller.names(_DISPATCH["connect"], netlink.encode_name(0, 1)).raises(errno.EPERM)
    assert _names(caller, "getpeername") == _KERNEL


def test_groups(caller: Caller) -> None:
    group = {_BUFFER_AT: number(3)}
    join, leave = netlink.NETLINK_ADD_MEMBERSHIP, netlink.NETLINK_DROP_MEMBERSHIP
    caller.calls(routes.setsockopt, (netlink.SOL_NETLINK, join, _BUFFER_AT, 4), group).returns(0)
    assert _names(caller, "getsockname")[8:] == number(4)
    caller.calls(routes.setsockopt, (netlink.SOL_NETLINK, leave, _BUFFER_AT, 4), group).returns(0)
    assert _known(caller).groups == 0
    caller.calls(routes.setsockopt, (netlink.SOL_NETLINK, join, _BUFFER_AT, 3), group).raises(errno.EINVAL)
    caller.calls(routes.setsockopt, (netlink.SOL_NETLINK, join, _BUFFER_AT, 4), {_BUFFER_AT: number(0)}).raises(errno.EINVAL)
    with socket.socket() as other:
        Caller(other).calls(routes.setsockopt, (netlink.SOL_NETLINK, join, _BUFFER_AT, 4), group).continues()


def test_sendto(caller: Caller) -> None:
    send = _DISPATCH["sendto"]
    caller.calls(send, (_BUFFER_AT, 8, 0, AT, 12), {AT: _KERNEL}).runs({4: 0, 5: 0}).gets(8).keeps()
    caller.calls(send, (_BUFFER_AT, 8, 0, AT, 12), {AT: netlink.encode_name(1, 0)}).raises(errno.EPERM)
    caller.calls(send, (_BUFFER_AT, 8, 0, AT, 4), {AT: _KERNEL}).raises(errno.EINVAL)


def _header(name: int = _NAME_AT) -> bytes:
    return struct.pack("=QI4xQQQQI4x", name, 12, _BUFFER_AT, 1, 0, 0, 0)


def _memory(header: bytes) -> dict[int, bytes]:
    return {_HEADER_AT: header, _NAME_AT: _KERNEL, _BUFFER_AT: struct.pack("=QQ", 0x9000, 20)}


def test_sendmsg(caller: Caller) -> None:
    named = Scratch(bytes(12) + _header()[12:])
    caller.calls(_DISPATCH["sendmsg"], (_HEADER_AT, 0), _memory(_header())).runs({1: named}).gets(20).keeps()
    caller.calls(_DISPATCH["sendmsg"], (_HEADER_AT, 0), _memory(_header(0))).continues()
    caller.calls(_DISPATCH["sendmsg"], (1, 0)).raises(errno.EFAULT)


def test_sendmmsg(caller: Caller) -> None:
    send = _DISPATCH["sendmmsg"]
    many = (_header() + bytes(8)) * 2
    named = Scratch(bytes(12) + many[12:64])
    length_at = _HEADER_AT + msghdr.MSG_LEN_OFFSET
    caller.calls(send, (_HEADER_AT, 2, 0), _memory(many)).runs({1: named, 2: 1}).gets(1).returns(1, {length_at: number(20)})
    caller.calls(send, (_HEADER_AT, 2, 0), _memory(many)).runs({1: named, 2: 1}).gets(-errno.EAGAIN).keeps()
    caller.calls(send, (_HEADER_AT, 2, 0), _memory((_header(0) + bytes(8)) * 2)).runs({2: 1}).gets(1).keeps()
    caller.calls(send, (_HEADER_AT, 0, 0)).continues()


def test_what_comes_is_from_the_kernel(caller: Caller) -> None:
    from_kernel = {_NAME_AT + 4: bytes(8)}
    receive = _DISPATCH["recvfrom"]
    memory = {LENGTH_AT: number(12)}
    caller.calls(receive, (_BUFFER_AT, 8, 0, _NAME_AT, LENGTH_AT), memory).runs().gets(20).returns(20, from_kernel)
    caller.calls(receive, (_BUFFER_AT, 8, 0, _NAME_AT, LENGTH_AT), {LENGTH_AT: number(6)}).runs().gets(20).returns(
        20, {_NAME_AT + 4: bytes(2)}
    )
    caller.calls(receive, (_BUFFER_AT, 8, 0, _NAME_AT, LENGTH_AT), memory).runs().gets(-errno.EINTR).keeps()
    caller.calls(_DISPATCH["recvmsg"], (_HEADER_AT, 0), _memory(_header())).runs().gets(20).returns(20, from_kernel)
    caller.calls(_DISPATCH["recvmsg"], (_HEADER_AT, 0), _memory(_header(0))).continues()
    many = _header() + bytes(8) + _header(0) + bytes(8)
    caller.calls(_DISPATCH["recvmmsg"], (_HEADER_AT, 2, 0, 0), _memory(many)).runs().gets(2).returns(2, from_kernel)
    caller.calls(_DISPATCH["recvmmsg"], (_HEADER_AT, 2, 0, 0), _memory(many)).runs().gets(-errno.EAGAIN).keeps()


def test_a_call_that_does_not_wait_finds_the_answer(caller: Caller) -> None:
    wait = AwaitRoutes(_known(caller).port)
    flags = routes.MSG_DONTWAIT
    caller.calls(_DISPATCH["recvfrom"], (_BUFFER_AT, 8, flags)).asks(wait).replies(Done()).continues()
    caller.calls(_DISPATCH["recvmsg"], (_HEADER_AT, flags), _memory(_header(0))).asks(wait).replies(Done()).continues()


def test_other_sockets_are_others_business(caller: Caller) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        context: Context = caller.context
        apart = Caller(other, context)
        apart.asks_name(_DISPATCH["getsockname"]).continues()
        assert isinstance(apart.task, FakeTask)
        assert os.fstat(other.fileno()).st_ino not in context.sockets.routing
