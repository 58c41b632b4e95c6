"""Threads that nobody announces."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from mirrord_trace.supervisor.errors import TraceeGone
from mirrord_trace.supervisor.notify.listener import Notification
from mirrord_trace.supervisor.notify.skipped import Skipped
from mirrord_trace.supervisor.notify.tasks import CurrentMemory, Tasks, has_own_signal
from mirrord_trace.syscalls.actions import SyscallError
from notified import FakeListener
from rig import apart


def test_memory_up_to_what_is_not_mapped() -> None:
    space, own = CurrentMemory(), os.getpid()
    page = mmap.mmap(-1, 2 * mmap.PAGESIZE)
    page[:] = b"x" * (2 * mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    assert space.read(own, address + 10, mmap.PAGESIZE) == b"x" * mmap.PAGESIZE
    space.write(own, address + mmap.PAGESIZE - 1, b"ab\0")
    assert space.read_string(own, address + mmap.PAGESIZE - 3, 4096) == b"xxab"
    assert space.read(own, 0, 0) == b""
    for wrong in (8, 1 << 63, 1 << 64):
        with pytest.raises(SyscallError) as raised:
            space.read(own, wrong, 1)
        assert raised.value.errno == errno.EFAULT


def test_where_the_kernel_has_no_process_vm_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(*arguments: object) -> int:
        ctypes.set_errno(errno.ENOSYS)
        return -1

    monkeypatch.setattr("mirrord_trace.supervisor.tracer.space._process_vm_readv", without)
    monkeypatch.setattr("mirrord_trace.supervisor.tracer.space._process_vm_writev", without)
    memory = ctypes.create_string_buffer(b"content")
    space = CurrentMemory()
    space.write(os.getpid(), ctypes.addressof(memory), b"CON")
    assert space.read(os.getpid(), ctypes.addressof(memory), 7) == b"CONtent"


def test_who_is_looked_up_anew_is_told() -> None:
    tasks, looked_up = Tasks(os.getpid()), list[int]()
    tasks.on_new = looked_up.append
    for _ in range(2):
        tasks.get(os.getpid())
    tasks.forget()
    tasks.get(os.getpid())
    assert looked_up == [os.getpid()] * 2


@apart
def test_threads_and_what_has_gone() -> None:
    tasks, started, gate = Tasks(os.getpid()), threading.Event(), threading.Event()
    tids = []

    def run() -> None:
        tids.append(threading.get_native_id())
        started.set()
        gate.wait()

    thread = threading.Thread(target=run)
    thread.start()
    started.wait()
    task = tasks.get(tids[0])
    assert (task.tid, task.tgid) == (tids[0], os.getpid())
    assert tasks.get(tids[0]) is task
    tasks.forget()
    assert tasks.get(tids[0]) is not task
    with subprocess.Popen(["sleep", "100"]) as child:
        assert tasks.tracees == {child.pid: child.pid}
        child.kill()
    gate.set()
    thread.join()
    tasks.forget()
    with pytest.raises(TraceeGone):
        tasks.get(child.pid)


@apart
def test_who_has_gone_is_forgotten_and_nobody_else() -> None:
    tasks, looked_up = Tasks(os.getpid()), list[int]()
    tasks.on_new = looked_up.append
    own = tasks.get(os.getpid())
    with subprocess.Popen(["sleep", "100"]) as child, subprocess.Popen(["sleep", "100"]) as other:
        tasks.get(child.pid)
        tasks.get(other.pid)
        assert tasks.recheck() == []
        child.kill()
        child.wait()
        tasks._started[other.pid] -= 1  # as if the number had been another's before
        assert sorted(tasks.recheck()) == sorted([child.pid, other.pid])
        assert tasks.recheck() == []
        tasks.get(other.pid)
        other.kill()
    assert tasks.get(os.getpid()) is own
    assert looked_up == [os.getpid(), child.pid, other.pid, other.pid]
    with pytest.raises(TraceeGone):
        tasks.get(child.pid)
    assert sorted(tasks.recheck()) == sorted([child.pid, other.pid])


class _Listener(FakeListener):
    is_waiting = True

    def is_valid(self, id: int) -> bool:
        return self.is_waiting


def _call_of(tid: int) -> Notification:
    return Notification(1, tid, 0, 0, 0, (0, 0, 0, 0, 0, 0))


@contextmanager
def _thread() -> Iterator[int]:
    """A further thread of this process."""
    started, gate = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: (started.set(), gate.wait()))
    thread.start()
    started.wait()
    assert thread.native_id is not None
    try:
        yield thread.native_id
    finally:
        gate.set()
        thread.join()
        while os.path.exists(f"/proc/self/task/{thread.native_id}"):
            pass


def _supervised(*answers: bool) -> tuple[Tasks, _Listener, int]:
    tasks, left = Tasks(os.getpid()), list(answers)
    tasks.skipped = Skipped(lambda pid, program, is_new: left.pop(0))
    return tasks, _Listener(), os.getpid()


@apart
def test_a_call_of_who_has_called_execve_is_perhaps_another_programs() -> None:
    tasks, listener, own = _supervised(False, True)
    with _thread() as other:
        task = tasks.called(_call_of(own), listener)
        assert tasks.called(_call_of(other), listener).is_skipped is task.is_skipped is False
        tasks.executes(task)
        # Whoever else calls does so while the program is as it was.
        assert not tasks.called(_call_of(other), listener).is_skipped
        assert tasks.called(_call_of(own), listener).is_skipped
        assert tasks.called(_call_of(other), listener).is_skipped


@apart
def test_so_is_the_leaders_if_the_thread_that_has_called_execve_is_there_no_more() -> None:
    tasks, listener, own = _supervised(False, True)
    task = tasks.called(_call_of(own), listener)
    with _thread() as other:
        tasks.executes(tasks.called(_call_of(other), listener))
        assert tasks.called(_call_of(own), listener) is task
    assert tasks.called(_call_of(own), listener).is_skipped


@apart
def test_the_call_of_a_leader_that_dies_meanwhile_tells_nothing() -> None:
    tasks, listener, own = _supervised(False, True)
    tasks.called(_call_of(own), listener)
    with _thread() as other:
        tasks.executes(tasks.called(_call_of(other), listener))
    listener.is_waiting = False
    with pytest.raises(TraceeGone):
        tasks.called(_call_of(own), listener)
    listener.is_waiting = True
    assert tasks.called(_call_of(own), listener).is_skipped


@apart
def test_an_execve_that_has_failed_is_over() -> None:
    tasks, listener, own = _supervised(False, False, True)
    tasks.called(_call_of(own), listener)
    with _thread() as other:
        tasks.executes(tasks.called(_call_of(other), listener))
        assert not tasks.called(_call_of(other), listener).is_skipped
        known = tasks.called(_call_of(own), listener)
        assert tasks.called(_call_of(own), listener) is known


@apart
def test_a_thread_that_is_new_while_another_executes_is_looked_at_by_itself() -> None:
    tasks, listener, own = _supervised(False, True, False)
    tasks.executes(tasks.called(_call_of(own), listener))
    with _thread() as other:
        assert tasks.called(_call_of(other), listener).is_skipped
    assert not tasks.called(_call_of(own), listener).is_skipped


@apart
def test_what_a_process_runs_by_way_of_a_loader() -> None:
    tasks = Tasks(os.getpid())
    tasks.executed(os.getpid(), b"/app/program")
    child = os.fork()
    if child == 0:
        signal.pause()
    assert tasks.get(child).program_of(child) == b"/app/program"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with subprocess.Popen(["sleep", "100"]) as other:
        tasks.executed(other.pid, b"/app/program")
        tasks._loaders[other.pid] = "/another"
        assert tasks.get(other.pid).program_of(other.pid) == b""
        other.kill()


def test_signals_for_one_thread() -> None:
    assert not has_own_signal(os.getpid())
    assert not has_own_signal(0)
