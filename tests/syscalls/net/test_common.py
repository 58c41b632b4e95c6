"""Steps that all socket handlers share; and no argument, however wrong, is more than the kernel's business."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from callers import AT, FD, LENGTH_AT, Caller, address, inet, local_only, number
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mirrord_trace.syscalls.abi import sockaddr
from mirrord_trace.syscalls.actions import Ask, Continue, Keep, Return, Run, SyscallError, Trap
from mirrord_trace.syscalls.net import binding, common, connecting, datagrams, listening, names
from mirrord_trace.syscalls.net.sockets import Datagrams, Listener
from script import FakeTask, session


def test_addresses_are_read_as_the_kernel_reads_them() -> None:
    task = FakeTask({AT: inet("10.0.0.1", 80) + bytes(200)})
    assert common.read_address(task, AT, 16) == sockaddr.Internet(socket.AF_INET, address("10.0.0.1", 80))
    assert common.read_address(task, AT, 128) is not None
    for length in (0, 1, 15, 129, 2**31, 2**32 - 1, 2**64 - 1):
        assert common.read_address(task, AT, length) is None
    assert common.read_address(task, AT, 2**32 + 16) is not None, "an int: the kernel ignores the upper half"
    assert common.read_address(task, 0, 16) is None


def test_rooms() -> None:
    task = FakeTask({AT: number(28), LENGTH_AT: number(2**31)})
    assert common.read_room(task, AT) == 28
    assert common.read_room(task, LENGTH_AT) is None
    assert common.read_room(task, 0) is None


def test_duplicates_are_closed() -> None:
    with socket.socket() as own:
        caller = Caller(own)
        with common.duplicate(caller.task, FD) as copy:
            assert copy is not None
            assert common.inode(copy) == common.inode_of(caller.task, FD) == caller.inode
            fd = copy.fileno()
        with pytest.raises(OSError):
            os.fstat(fd)
        with common.duplicate(caller.task, 99) as copy:
            assert copy is None
        assert common.inode_of(caller.task, 99) == 0
        caller.task.fds[8] = os.open("/dev/null", os.O_RDONLY)
        before = len(os.listdir("/proc/self/fd"))
        with common.duplicate(caller.task, 8) as copy:
            assert copy is None
        assert len(os.listdir("/proc/self/fd")) == before


def test_protocols() -> None:
    made = [socket.socket(), socket.socket(type=socket.SOCK_DGRAM), socket.socket(socket.AF_UNIX)]
    owns = [socket.socket(fileno=one.detach()) for one in made]  # only then its protocol is looked up
    assert [common.is_tcp(own) for own in owns] == [True, False, False]
    assert [common.is_udp(own) for own in owns] == [False, True, False]
    for own in owns:
        own.close()


def test_own_names() -> None:
    with socket.socket(socket.AF_INET6) as six, socket.socket() as four:
        assert common.own_name(four) == (address("0.0.0.0", 0), socket.AF_INET)
        common.bind_to_loopback(six, address("10.0.0.1", 80))
        name, family = common.own_name(six)
        assert (name, family) == (address("127.0.0.1", six.getsockname()[1]), socket.AF_INET6)


def test_loopback() -> None:
    assert common.through_loopback(address("0.0.0.0", 1)) == address("127.0.0.1", 1)
    assert common.through_loopback(address("::", 1)) == address("::1", 1)
    assert common.through_loopback(address("10.0.0.1", 1)) == address("10.0.0.1", 1)
    assert common.loopback(address("10.0.0.1", 1), 2) == address("127.0.0.1", 2)
    assert common.loopback(address("fd00::1", 1), 2) == address("::1", 2)
    assert [common.is_loopback(address(ip, 0)) for ip in ("127.3.2.1", "::1", "10.0.0.1", "fd00::1", "::")] == [
        True, True, False, False, False,
    ]  # fmt: skip


# -- any arguments --------------------------------------------------------------------------------------------------

HANDLERS: list[Callable[..., Any]] = [
    connecting.connect,
    connecting.getsockopt,
    datagrams.socket,
    datagrams.sendto,
    datagrams.sendmsg,
    datagrams.sendmmsg,
    datagrams.recvfrom,
    datagrams.recvmsg,
    datagrams.recvmmsg,
    binding.bind,
    listening.listen,
    listening.accept,
    listening.accept4,
    names.getpeername,
    names.getsockname,
]

_MAPPED = 0x10000
_WORDS = st.sampled_from([0, 1, FD, 16, 28, 64, 128, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1])
_POINTERS = st.sampled_from([_MAPPED, _MAPPED + 64, _MAPPED + 500, _MAPPED + 4000, 0, 1, 2**47, 2**64 - 1])
_ARGUMENTS = st.tuples(*[st.one_of(_WORDS, _POINTERS, st.integers(0, 2**64 - 1))] * 5)
_FAMILIES = st.sampled_from([0, 1, 2, 10, 16, 38, 65535])
_NAMES = st.builds(lambda family, rest: struct.pack("=H", family) + rest, _FAMILIES, st.binary(min_size=4, max_size=40))
_HEADERS = st.builds(
    lambda name, length, iovec, count: struct.pack("=QI4xQQQQI4xQ", name, length, iovec, count, 0, 0, 0, 0),
    _POINTERS,
    st.sampled_from([0, 2, 16, 28, 128, 129, 2**31, 2**32 - 1]),
    _POINTERS,
    st.sampled_from([0, 1, 3, 2**32, 2**63]),
)
_MEMORY = st.lists(st.one_of(_NAMES, _HEADERS, st.binary(max_size=64)), max_size=30).map(b"".join)
_RESULTS = st.sampled_from([0, 1, 2, 5, -1, -11, -13, -22, -104, -115])


class _Caller(Caller):
    """One that has remote sockets of every kind, so that every handler has something to look at."""

    def __init__(self, own: socket.socket, memory: bytes) -> None:
        super().__init__(own, session(local_only("10.0.0.0/8")))
        self.task.memory[_MAPPED] = bytearray(memory)
        sockets = self.context.sockets
        sockets.begin(self.inode, address("10.0.0.1", 80))
        sockets.datagrams[self.inode] = Datagrams(1, connected=address("10.0.0.1", 80))
        sockets.listeners[self.inode] = Listener(8080, 8080)


@pytest.fixture(scope="module")
def kinds() -> Iterator[list[socket.socket]]:
    """Bound where connect(2) would bind, so that examples do not use up ports."""
    opened = [
        socket.socket(socket.AF_INET, socket.SOCK_STREAM),
        socket.socket(socket.AF_INET6, socket.SOCK_STREAM),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM),
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM),
    ]
    yield opened
    for own in opened:
        own.close()


@pytest.mark.parametrize("handler", HANDLERS, ids=lambda handler: handler.__name__)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    fd=st.sampled_from([FD, FD, FD, 3, 2**31, 2**64 - 1]),
    kind=st.integers(0, 4),
    arguments=_ARGUMENTS,
    memory=_MEMORY,
    result=_RESULTS,
)
def test_no_argument_breaks_a_handler(
    kinds: list[socket.socket],
    handler: Callable[..., Any],
    fd: int,
    kind: int,
    arguments: tuple[int, ...],
    memory: bytes,
    result: int,
) -> None:
    caller = _Caller(kinds[kind], memory)
    steps = handler(caller.context, caller.task, (fd, *arguments))
    final = _end(steps, result, arguments[1])
    assert isinstance(final, (Continue, Keep, Return)) or 0 < final.errno < 4096
    caller.task.close()


def _end(steps: Any, result: int, count: int) -> Continue | Keep | Return | SyscallError:
    """How a handler ends if the kernel's results are `result`; the relay fails."""
    try:
        action = next(steps)
        while True:
            if isinstance(action, Ask):
                action = steps.throw(SyscallError(1))
                continue
            assert isinstance(action, (Run, Trap))
            # The kernel never sends or receives more messages than it was given.
            messages = action.args.get(2, count) if isinstance(action, Run) else 0
            assert isinstance(messages, int)
            action = steps.send(min(result, messages & 0xFFFFFFFF))
    except StopIteration as stop:
        final: Continue | Keep | Return = stop.value
        return final
    except SyscallError as error:
        return error
