"""Calls in which a thread waits when it is attached: PTRACE_INTERRUPT ends them.

Most end with one of the kernel's own results that make it begin the call again unless a signal handler is run first:
nothing is to be done. Some say EINTR all the same (signal(7), "Interruption of system calls and library functions by
stop signals"). The thread is stopped then before the kernel looks for signals, and after that it judges the result in
the register anew; so the result is changed into the one that means "EINTR if a handler is run, else again". A signal
that comes at the same moment has its effect, and without one nobody notices.

On aarch64 the kernel has judged the result before that stop, and has overwritten the first argument with it. There the
program sees that EINTR.
"""

from __future__ import annotations

import errno

from ..tracer.arch import Arch
from ..tracer.arch.x86_64 import ORIG_RAX
from ..tracer.call import RESTARTS

RESTART_WITHOUT_HANDLER = -514
"""ERESTARTNOHAND."""

# None of these has done anything when it says EINTR. Of sockets it is those with SO_RCVTIMEO or SO_SNDTIMEO.
_X86_64 = {
    "read": 0, "write": 1, "readv": 19, "writev": 20, "connect": 42, "accept": 43, "sendto": 44, "recvfrom": 45,
    "sendmsg": 46, "recvmsg": 47, "semop": 65, "rt_sigtimedwait": 128, "io_getevents": 208, "semtimedop": 220,
    "epoll_wait": 232, "epoll_pwait": 281, "accept4": 288, "recvmmsg": 299, "sendmmsg": 307, "io_pgetevents": 333,
    "io_uring_enter": 426, "epoll_pwait2": 441, "futex_waitv": 449,
}  # fmt: skip
_ENDED = frozenset(_X86_64.values())
_NONE = -1


def may_go_on(arch: Arch, sysno: int) -> bool:
    """Whether such a call, interrupted with EINTR and no signal, can be made again as if nothing had been."""
    return arch.name == "x86_64" and sysno in _ENDED


def call_in_progress(arch: Arch, words: list[int], *, by_us: bool) -> tuple[int, bool]:
    """At the first stop of a thread: the number of the call that it will make again, and whether that needs help.

    Number -1: none. `by_us`: the thread was stopped by PTRACE_INTERRUPT alone, not by a signal that stops programs, at
    which EINTR is what these calls say without us, too.
    """
    if arch.name != "x86_64" or words[ORIG_RAX] >> 63:
        return _NONE, False
    sysno, result = words[ORIG_RAX], arch.result(words)
    if result in RESTARTS:
        return sysno, False
    if by_us and result == -errno.EINTR and sysno in _ENDED:
        return sysno, True
    return _NONE, False
