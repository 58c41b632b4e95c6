"""Who belongs to a process."""

from __future__ import annotations

import os
import subprocess
import threading

from mirrord_trace.supervisor.attach.tasks import named, processes_below, status, threads_of
from mirrord_trace.supervisor.descendants import parent_of


def test_descendants_parents_first() -> None:
    script = "sh -c 'echo $$; sleep 1000 & wait' & echo $!; wait"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        inner = {int(process.stdout.readline()), int(process.stdout.readline())}.pop()
        while len(processes_below(process.pid)) < 3:
            os.sched_yield()
        found = processes_below(process.pid)
        assert found[:2] == [process.pid, inner]
        assert parent_of(found[2]) == inner
        assert found[0] in processes_below(os.getpid())
        os.killpg(process.pid, 9)


def test_threads_the_leader_first() -> None:
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    try:
        found = threads_of(os.getpid())
        assert found[0] == os.getpid()
        assert thread.native_id in found
    finally:
        over.set()
        thread.join()


def test_nobody_there() -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
        assert threads_of(process.pid) == []
        assert status(process.pid) == {}
        assert parent_of(process.pid) == 0
        assert named(process.pid) == f"a process (pid {process.pid})"


def test_names() -> None:
    with subprocess.Popen(["sleep", "1000"]) as process:
        while named(process.pid) != f"sleep (pid {process.pid})":
            os.sched_yield()
        process.kill()
