"""What the kernel tells through a listener and takes as an answer, with a real filter on a real process."""

from __future__ import annotations

import errno
import os

from mirrord_trace.supervisor.notify.listener import Listener, Notification
from mirrord_trace.supervisor.tracer import filter as seccomp
from mirrord_trace.supervisor.tracer.tracee import duplicate_of
from notified import code
from rig import ARCH, CALL, apart, syscall


class _Caller:
    """A process that makes a filtered call for each word it is to."""

    def __init__(self, calls: int = 1) -> None:
        told_read, told_write = os.pipe()
        go_read, go_write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                fd = _install()
                os.write(told_write, b"%d" % fd)
                os.read(go_read, 1)
                os.close(fd)
                results = [syscall(CALL, number) for number in range(calls)]
                os.write(told_write, repr(results).encode())
            finally:
                os._exit(0)
        self._told = told_read
        self.listener = Listener(duplicate_of(self.pid, int(os.read(told_read, 16))))
        os.write(go_write, b".")

    def next(self) -> Notification:
        note = self.listener.receive()
        assert note is not None
        return note

    def results(self) -> str:
        return os.read(self._told, 1000).decode()


def _install() -> int:
    try:
        return seccomp.install(code([CALL]), no_new_privs=False, flags=seccomp.SECCOMP_FILTER_FLAG_NEW_LISTENER)
    except PermissionError:
        return seccomp.install(code([CALL]), no_new_privs=True, flags=seccomp.SECCOMP_FILTER_FLAG_NEW_LISTENER)


@apart
def test_results_errnos_and_the_kernels_own() -> None:
    caller = _Caller(4)
    for number, result in enumerate((7, -errno.EPERM, 1 << 40)):
        note = caller.next()
        assert (note.tid, note.audit, note.args[0]) == (caller.pid, ARCH.audit, number)
        assert caller.listener.answer(note.id, result)
    assert caller.listener.go_on(caller.next().id)
    assert caller.results() == f"[7, -1, {1 << 40}, {-errno.EFAULT}]"


@apart
def test_a_descriptor_becomes_the_callers() -> None:
    caller = _Caller()
    note = caller.next()
    read, write = os.pipe()
    number = caller.listener.give(note.id, write, close_on_exec=True)
    os.close(write)
    assert os.readlink(f"/proc/{caller.pid}/fd/{number}").startswith("pipe:")
    assert caller.listener.give(note.id, 1 << 20, close_on_exec=False) == -errno.EBADF
    caller.listener.answer(note.id, number)
    assert caller.results() == f"[{number}]"
    assert os.read(read, 1) == b""  # it has ended, and with it the last writer


@apart
def test_the_caller_has_gone() -> None:
    caller = _Caller()
    note = caller.next()
    assert caller.listener.is_valid(note.id)
    os.kill(caller.pid, 9)
    os.waitpid(caller.pid, 0)
    assert not caller.listener.is_valid(note.id)
    assert not caller.listener.answer(note.id, 0)
    assert not caller.listener.go_on(note.id)
    assert caller.listener.give(note.id, 0, close_on_exec=False) == -errno.ENOENT
    caller.listener.close()
    caller.listener.close()
