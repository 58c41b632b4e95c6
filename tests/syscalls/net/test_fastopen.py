"""MSG_FASTOPEN by script: connect and send in one call."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator

import pytest
from callers import AT, FD, Caller, address, inet, local_only, number
from mirrord_trace.syscalls.abi import msghdr
from mirrord_trace.syscalls.actions import Reason, Scratch
from mirrord_trace.syscalls.net.datagrams import sendmmsg, sendmsg, sendto
from mirrord_trace.syscalls.net.fastopen import MSG_FASTOPEN
from mirrord_trace.syscalls.requests import EndConnect, StartConnect
from script import Script, session

PEER = address("10.96.0.20", 80)
PEER_NAME = inet("10.96.0.20", 80)
STAND_IN = inet("127.0.0.1", 40004)
NAME_AT, IOVEC_AT, HEADER_AT = 0x3000, 0x4000, 0x5000
POD_END = address("10.244.0.7", 40000)


@pytest.fixture
def caller() -> Iterator[Caller]:
    with socket.socket() as own:
        yield Caller(own)


def _header(peer: bytes = PEER_NAME) -> bytes:
    return struct.pack("=QI4xQQQQI4x", NAME_AT, len(peer), IOVEC_AT, 2, 0, 0, 0)


def _memory(peer: bytes = PEER_NAME) -> dict[int, bytes]:
    iovecs = struct.pack("=QQQQ", AT, 30, AT, 12)
    return {NAME_AT: peer, IOVEC_AT: iovecs, HEADER_AT: _header(peer) + number(0) + number(0)}


def _sendto(caller: Caller, peer: bytes = PEER_NAME) -> Script:
    return caller.calls(sendto, (AT, 5, MSG_FASTOPEN, NAME_AT, len(peer)), _memory(peer))


def _started(caller: Caller) -> list[object]:
    return [one.peer if isinstance(one, StartConnect) else one for one in caller.told()]


def test_sendto_names_the_stand_in(caller: Caller) -> None:
    script = _sendto(caller).runs({4: Scratch(STAND_IN), 5: len(STAND_IN)})
    assert _started(caller) == [PEER]
    script.gets(5).keeps(Reason.OUTGOING)


def test_a_refusal_is_the_pods(caller: Caller) -> None:
    script = _sendto(caller).runs({4: Scratch(STAND_IN), 5: len(STAND_IN)})
    caller.verdict(errno.EHOSTUNREACH, POD_END, PEER)
    script.gets(-errno.ECONNRESET).returns(-errno.EHOSTUNREACH)


def test_what_this_kernel_refuses_is_not_wanted_in_the_pod(caller: Caller) -> None:
    _sendto(caller).runs({4: Scratch(STAND_IN), 5: len(STAND_IN)}).gets(-errno.EOPNOTSUPP).keeps()
    assert _started(caller) == [PEER, EndConnect(1)]


def test_sendmsg_and_sendmmsg(caller: Caller) -> None:
    message = _header() + STAND_IN
    script = caller.calls(sendmsg, (HEADER_AT, MSG_FASTOPEN), _memory())
    script.runs({1: Scratch(message, ((msghdr.NAME_OFFSET, 56),))}).gets(-errno.EINPROGRESS).keeps()
    with socket.socket() as own:
        other = Caller(own)
        scratch = Scratch(_header() + bytes(8) + STAND_IN, ((msghdr.NAME_OFFSET, 64),))
        script = other.calls(sendmmsg, (HEADER_AT, 3, MSG_FASTOPEN), _memory())
        script.runs({1: scratch, 2: 1}).gets(1).returns(1, {HEADER_AT + msghdr.MSG_LEN_OFFSET: number(42)})
        other.calls(sendmmsg, (HEADER_AT, 0, MSG_FASTOPEN), _memory()).continues()


def test_local_peers_and_no_peers_are_the_kernels() -> None:
    with socket.socket() as own:
        caller = Caller(own, session(local_only("10.96.0.20")))
        _sendto(caller).continues()
        _sendto(caller, bytes(16)).continues()  # AF_UNSPEC
        _sendto(caller, inet("fd00::1", 80)).continues()
        caller.calls(sendto, (AT, 5, MSG_FASTOPEN, 0, 0)).continues()
        caller.calls(sendmsg, (0x9000, MSG_FASTOPEN)).continues(Reason.BAD_ARGUMENT)
        caller.calls(sendmmsg, (0x9000, 1, MSG_FASTOPEN)).continues(Reason.BAD_ARGUMENT)
        assert caller.told() == []


def test_a_connected_socket_is_told_so_by_the_kernel(caller: Caller) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        caller.own.connect(server.getsockname())
        _sendto(caller).continues()
        caller.context.sockets.begin(caller.inode, PEER)
        _sendto(caller, inet("10.96.0.21", 80)).runs({4: Scratch(STAND_IN), 5: 16}).gets(-errno.EISCONN).keeps()
    assert caller.told() == []


def test_udp_ignores_the_flag() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        _sendto(Caller(own, session(local_only("10.96.0.20")))).continues(Reason.OUTGOING_FILTER)
    assert FD
