"""Threads that nobody announces."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal
import subprocess
import threading

import pytest
from mirrord_trace.supervisor.errors import TraceeGone
from mirrord_trace.supervisor.notify.tasks import CurrentMemory, Tasks, has_own_signal
from mirrord_trace.syscalls.actions import SyscallError
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

    monkeypatch.setattr("mirrord_trace.supervisor.notify.tasks._process_vm_readv", without)
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
    tasks.forget(os.getpid())
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
    tasks.forget(tids[0])
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
