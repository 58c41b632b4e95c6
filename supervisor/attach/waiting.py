"""How long a thread has been waiting in epoll_wait(2), whose time-out begins anew when it is interrupted.

The kernel keeps no such time, but it does keep when the thread was last on a processor (proc(5), /proc/TID/sched,
se.exec_start), by the clock that it schedules with: one for each processor, which does not count what interrupts and the
hypervisor take. What that clock says now is seen from our own thread's entry, on that processor. The time found is never
too long. That the thread has not come back and begun to wait again in the meantime is seen from how often it left the
processor.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

_EPOLL = {"x86_64": (232, 281)}
TIMEOUT_AT = 3
"""The argument, in milliseconds; negative is for ever."""

_LAST_RUN = b"se.exec_start"
_SWITCHES = b"nr_switches"


class Wait(NamedTuple):
    """So long, when the thread had left the processor so often."""

    waited_ms: int
    switches: int


def limited_wait(sysno: int, args: Sequence[int], machine: str) -> int:
    """The time-out in ms of a call that has one, which the kernel would let begin anew; else -1."""
    timeout = args[TIMEOUT_AT] & 0xFFFFFFFF
    return timeout if sysno in _EPOLL.get(machine, ()) and timeout < 1 << 31 else -1


def wait_of(tid: int, machine: str) -> Wait | None:
    """Before the thread is interrupted; None if it is in no such call, or nothing can be told."""
    try:
        with open(f"/proc/{tid}/syscall", encoding="ascii") as file:
            words = file.read().split()
        if len(words) < 9 or limited_wait(int(words[0]), [int(word, 16) for word in words[1:7]], machine) < 0:
            return None
        began_ms, switches = _scheduled(tid)
        return Wait(max(0, int(_clock_ms(_processor(tid)) - began_ms)), switches)
    except (OSError, ValueError):
        return None


def waited_ms(tid: int, wait: Wait | None) -> int:
    """Once it is stopped: `wait`, if the thread has only come out of the processor to be stopped since then; else 0."""
    try:
        return wait.waited_ms if wait is not None and _scheduled(tid)[1] == wait.switches + 1 else 0
    except (OSError, ValueError):
        return 0


def _clock_ms(processor: int) -> float:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {processor})
    try:
        os.sched_yield()
        return _scheduled(0)[0]
    finally:
        os.sched_setaffinity(0, allowed)


def _processor(tid: int) -> int:
    with open(f"/proc/{tid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[36])


def _scheduled(tid: int) -> tuple[float, int]:
    found = {}
    with open(f"/proc/{tid}/sched" if tid else "/proc/thread-self/sched", "rb") as file:
        for line in file:
            name, _, value = line.partition(b":")
            found[name.strip()] = value
    if _LAST_RUN not in found or _SWITCHES not in found:
        raise ValueError("not kept by this kernel")
    return float(found[_LAST_RUN]), int(found[_SWITCHES])
