"""The process between: it tells how the program fares, and nothing outlives the supervisor."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import NoReturn

from mirrord_trace.supervisor.descendants import descendants
from mirrord_trace.supervisor.notify.guard import start_guard
from rig import apart


def _shell(text: str) -> NoReturn:
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.execv("/bin/sh", ["sh", "-c", text])


def _statuses(events: int) -> list[int]:
    with os.fdopen(events) as stream:
        return [int(line) for line in stream]


@apart
def test_stops_and_the_end_of_the_program_and_of_what_it_leaves_behind() -> None:
    guard, first, events = start_guard(lambda: _shell("sleep 0.1 & kill -STOP $$; exit 3"))
    assert descendants(os.getpid())[:1] == [guard]
    stopped = os.read(events, 100)
    assert os.WIFSTOPPED(int(stopped))
    signal.signal(signal.SIGCONT, signal.SIG_IGN)
    os.kill(first, signal.SIGCONT)
    # That it has been continued is told only if it has not ended by then.
    assert os.waitstatus_to_exitcode(_statuses(events)[-1]) == 3
    assert os.waitpid(guard, 0) == (guard, 0)


@apart
def test_it_is_in_a_session_of_its_own() -> None:
    guard, first, events = start_guard(lambda: _shell("exec sleep 100"))
    assert os.getpgid(first) == os.getpgrp()
    os.kill(guard, signal.SIGTERM)
    os.kill(first, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(_statuses(events)[-1]) == -signal.SIGKILL
    assert os.getsid(guard) == os.getpgid(guard) == guard
    os.waitpid(guard, 0)


@apart
def test_the_supervisor_is_killed() -> None:
    pids, told = os.pipe()
    supervisor = os.fork()
    if supervisor == 0:
        guard, _, events = start_guard(lambda: _shell("setsid sleep 1000 & (sleep 1000 & sleep 1000) & echo; wait"))
        while len(descendants(guard)) < 4:
            time.sleep(0.01)
        os.write(told, b"%d" % guard)
        signal.pause()
        os._exit(events)
    guard = int(os.read(pids, 16))
    all_of_them = descendants(guard)
    os.kill(supervisor, signal.SIGKILL)
    os.waitpid(supervisor, 0)
    for pid in [guard, *all_of_them]:
        with contextlib.suppress(ProcessLookupError):
            while not _is_dead(pid):
                time.sleep(0.01)


def _is_dead(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as status:
            return status.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
