"""What handlers may ask of a thread, against real ones."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from pathlib import Path

import pytest
from mirrord_trace.supervisor.errors import TraceeGone
from mirrord_trace.supervisor.tracer import ptrace
from mirrord_trace.supervisor.tracer import tracee as module
from mirrord_trace.supervisor.tracer.space import AddressSpace
from mirrord_trace.supervisor.tracer.stops import Ended, SeccompStop, SignalDeliveryStop
from mirrord_trace.supervisor.tracer.tracee import Process, Tracee, credentials_of, duplicate_of
from mirrord_trace.syscalls.abi.flags import AT_FDCWD
from mirrord_trace.syscalls.actions import OutOfReach, SyscallError
from rig import CALL, Child, apart, lower_limit, syscall


@apart
def test_its_descriptors_can_be_looked_at_and_shared() -> None:
    def body() -> int:
        fd = os.memfd_create("shared")
        os.write(fd, b"0123456789")
        os.lseek(fd, 3, os.SEEK_SET)
        os.dup2(fd, 50)
        syscall(CALL)
        return os.lseek(fd, 0, os.SEEK_CUR)

    child = Child(body)
    assert child.next() == SeccompStop()
    tracee = child.tracee()
    copy = tracee.duplicate(50)
    assert not os.get_inheritable(copy)
    status = os.fstat(copy)
    assert tracee.file_key(50) == (status.st_dev, status.st_ino)
    assert os.read(copy, 4) == b"3456"
    ptrace.cont(child.pid)
    assert child.next() == Ended(7, 0, False)
    os.close(copy)


@apart
def test_a_descriptor_that_is_not_open() -> None:
    child = Child(lambda: syscall(CALL))
    child.next()
    tracee = child.tracee()
    assert tracee.file_key(999) is None
    for fd in (999, 0xFFFFFFFF, 0xFFFFFF9C):
        with pytest.raises(SyscallError) as caught:
            tracee.duplicate(fd)
        assert caught.value.errno == errno.EBADF
    child.kill()
    with pytest.raises(TraceeGone):
        tracee.duplicate(0)
    child.next()
    with pytest.raises(TraceeGone):
        tracee.duplicate(0)
    assert tracee.file_key(0) is None
    assert tracee.current_directory() == b"/"
    assert not tracee.has_pending_signal()


@apart
def test_our_own_lack_of_descriptors_is_an_errno() -> None:
    child = Child(lambda: syscall(CALL))
    child.next()
    tracee = child.tracee()
    taken: list[int] = []
    lower_limit(32)
    with contextlib.suppress(OSError):
        while True:
            taken.append(os.dup(0))
    with pytest.raises(OutOfReach) as caught:
        tracee.duplicate(0)
    assert caught.value.errno == errno.EMFILE
    for fd in taken:
        os.close(fd)
    child.kill()


@apart
def test_older_kernels_have_pidfds_of_processes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PIDFD_THREAD", 1 << 30)  # a flag that no kernel knows: EINVAL
    child = Child(lambda: syscall(CALL))
    child.next()
    os.close(child.tracee().duplicate(2))
    child.kill()


@apart
def test_where_it_is(tmp_path: Path) -> None:
    def body() -> int:
        os.chdir(tmp_path)
        return syscall(CALL)

    child = Child(body)
    child.next()
    assert child.tracee().current_directory() == bytes(tmp_path)
    child.kill()


@apart
@pytest.mark.parametrize(
    ("disposition", "blocked", "pending"),
    [(signal.SIG_DFL, False, True), (signal.SIG_IGN, False, False), (signal.SIG_DFL, True, False)],
    ids=["would act", "ignored", "blocked"],
)
def test_whether_a_signal_waits(disposition: signal.Handlers, blocked: bool, pending: bool) -> None:
    def body() -> int:
        signal.signal(signal.SIGUSR1, disposition)
        if blocked:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        return syscall(CALL)

    child = Child(body)
    child.next()
    tracee = child.tracee()
    assert not tracee.has_pending_signal()
    os.kill(child.pid, signal.SIGUSR1)
    assert tracee.has_pending_signal() is pending
    ptrace.cont(child.pid)
    if pending:
        assert child.next() == SignalDeliveryStop(signal.SIGUSR1)
    child.kill()


def test_a_duplicate_of_a_process_that_runs() -> None:
    with open(os.devnull, "rb") as null:
        copy = duplicate_of(os.getpid(), null.fileno())
        assert os.path.sameopenfile(copy, null.fileno())
        os.close(copy)
    with pytest.raises(OSError, match="Bad file descriptor"):
        duplicate_of(os.getpid(), -1)


@apart
def test_what_is_open_and_where_it_is(tmp_path: Path) -> None:
    def body() -> int:
        os.chdir(tmp_path)
        os.dup2(os.open("/proc", os.O_RDONLY), 50)
        return syscall(CALL)

    child = Child(body)
    child.next()
    tracee = child.tracee()
    assert (tracee.device(50), tracee.path_of(50)) == (os.stat("/proc").st_dev, b"/proc")
    assert (tracee.device(AT_FDCWD), tracee.path_of(AT_FDCWD)) == (os.stat(tmp_path).st_dev, bytes(tmp_path))
    assert (tracee.device(999), tracee.path_of(999)) == (None, b"")
    assert [tracee.may_be_directory(fd) for fd in (50, 999)] == [True, False]
    child.kill()


@apart
def test_whose_access_to_files_counts() -> None:
    child = Child(lambda: syscall(CALL))
    child.next()
    tracee = child.tracee()
    assert tracee.credentials() == credentials_of(os.getpid())
    assert tracee.credentials()[:2] == (os.geteuid(), os.getegid())
    assert tracee.credentials().user_namespace == os.stat("/proc/self/ns/user").st_ino
    child.kill()
    child.next()
    with pytest.raises(TraceeGone):
        tracee.credentials()


def test_what_a_process_runs() -> None:
    programs = {1: b"/init"}
    tracee = Tracee(7, Process(7, AddressSpace(), programs))
    assert [tracee.program_of(pid) for pid in (1, 7)] == [b"/init", b""]
    tracee.will_execute(b"/app/x")
    assert tracee.process.next_program == b"/app/x"
