"""Threads that make calls, each with a working directory and an umask of its own."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

from mirrord_trace.supervisor.notify.workers import Workers, call, set_directory
from rig import ARCH, apart


@apart
def test_work_that_waits_does_not_keep_other_work_waiting() -> None:
    workers, gate, done = Workers(), threading.Event(), threading.Semaphore(0)

    def wait() -> None:
        gate.wait()

    for _ in range(10):
        workers.do(wait)
    workers.do(done.release)
    assert done.acquire(timeout=30)
    gate.set()
    workers.do(done.release)
    assert done.acquire(timeout=30)


@apart
def test_a_directory_of_its_own() -> None:
    workers, before, done = Workers(), Path.cwd(), threading.Event()
    other = os.fork()
    if other == 0:
        os.chdir("/proc")
        os.execvp("sleep", ["sleep", "100"])
    while os.readlink(f"/proc/{other}/cwd") != "/proc":
        pass
    seen = []

    def work() -> None:
        set_directory(other)
        seen.append(os.path.exists("self"))
        done.set()

    workers.do(work)
    assert done.wait(30)
    os.kill(other, 9)
    assert (seen, Path.cwd()) == ([True], before)


def test_a_call_by_its_number() -> None:
    assert call(ARCH.syscall_numbers["faccessat"], -100, b"/proc/self", 0) == 0
    assert call(ARCH.syscall_numbers["faccessat"], -100, b"/nowhere", 0) == -errno.ENOENT
