"""uname(2), clone(2), clone3(2)."""

from __future__ import annotations

import errno
import signal
import struct

import pytest
from mirrord_trace.syscalls.actions import Reason, Scratch
from mirrord_trace.syscalls.process import clone, clone3, ptrace, uname
from script import Script, session

AT = 0x3000
UNTRACED = 0x00800000
THREAD = 0x003D0F00
"""What pthread_create(3) sets."""


def clone_args(flags: int, size: int = 88) -> bytes:
    """A struct clone_args (linux/sched.h): flags, ten more fields no two of which are alike, and a tail of zeros."""
    return struct.pack("=Q10Q", flags, *range(0x7F00_0000_0001, 0x7F00_0000_000B)).ljust(size, b"\0")[:size]


def test_nodename_is_the_pods() -> None:
    script = Script(uname, (0x2000,)).runs().gets(0)
    script.returns(0, {0x2000 + 65: b"pod-7f9c".ljust(65, b"\0")}, Reason.POD_HOSTNAME)


def test_a_bad_buffer_is_the_kernels_to_judge() -> None:
    Script(uname, (0,)).runs().gets(-errno.EFAULT).keeps()


def test_local_hostname_stops_once() -> None:
    Script(uname, (0x2000,), context=session(pod_hostname=False)).continues(Reason.HOSTNAME_OFF)


def test_clone_is_traced_whatever_it_asks_for() -> None:
    flags = UNTRACED | signal.SIGCHLD
    Script(clone, (flags, 0x7F0000, 1, 2, 3)).runs({0: signal.SIGCHLD}).gets(77).keeps(Reason.NOT_OURS)
    Script(clone, (flags | THREAD,)).runs({0: THREAD | signal.SIGCHLD}).gets(-errno.EAGAIN).keeps()
    # The kernel's own parser takes the low half; the rest of the register is passed on as it is.
    Script(clone, (1 << 40 | UNTRACED,)).runs({0: 1 << 40}).gets(77).keeps()


@pytest.mark.parametrize("size", [8, 64, 80, 88, 256])
def test_clone3_is_traced_whatever_it_asks_for(size: int) -> None:
    script = Script(clone3, (AT, size), memory={AT: clone_args(UNTRACED | THREAD, size)})
    # The copy is as long as the size that the kernel is still told, and differs by the one flag.
    script.runs({0: Scratch(clone_args(THREAD, size))}).gets(77).keeps(Reason.NOT_OURS)
    assert script.task.memory[AT] == clone_args(UNTRACED | THREAD, size), "the caller's own memory stays as it is"


def test_clone3_with_flags_of_the_upper_half() -> None:
    clear_sighand = 1 << 32
    script = Script(clone3, (AT, 88), memory={AT: clone_args(clear_sighand | UNTRACED)})
    script.runs({0: Scratch(clone_args(clear_sighand))}).gets(-errno.EINVAL).keeps()


@pytest.mark.parametrize("flags", [0, THREAD, ~UNTRACED & 2**64 - 1])
def test_clone3_without_the_flag_stops_once(flags: int) -> None:
    Script(clone3, (AT, 88), memory={AT: clone_args(flags)}).continues(Reason.NOT_OURS)


@pytest.mark.parametrize("size", [0, 7, 257, 1 << 32 | 88, -1])
def test_sizes_out_of_bounds_are_the_kernels_to_judge(size: int) -> None:
    script = Script(clone3, (AT, size), memory={AT: clone_args(UNTRACED, 512)})
    script.continues(Reason.NOT_OURS)
    assert script.task.reads == 0


@pytest.mark.parametrize("memory", [{}, {AT: clone_args(UNTRACED)[:-1]}])
def test_bad_pointers_are_the_kernels_to_judge(memory: dict[int, bytes]) -> None:
    Script(clone3, (AT, 88), memory=memory).continues(Reason.NOT_OURS)
    Script(clone3, (0, 88)).continues(Reason.NOT_OURS)


@pytest.mark.parametrize("request_number", [0, 16, 0x4206])
def test_tracing_that_the_kernel_refuses_is_explained(request_number: int) -> None:
    told: list[str] = []
    Script(ptrace, (request_number, 77), context=session(notices=told)).runs().gets(-errno.EPERM).keeps()
    assert len(told) == 1
    assert "one tracer" in told[0]


@pytest.mark.parametrize("result", [0, -errno.ESRCH])
def test_tracing_that_is_not_about_the_supervised_is_the_kernels(result: int) -> None:
    told: list[str] = []
    Script(ptrace, (16, 77), context=session(notices=told)).runs().gets(result).keeps()
    assert told == []
