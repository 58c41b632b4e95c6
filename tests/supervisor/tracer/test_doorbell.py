"""A process that exists to be rung."""

from __future__ import annotations

import os
import select
import signal
import threading

import pytest
from mirrord_trace.supervisor.tracer import ptrace
from mirrord_trace.supervisor.tracer.doorbell import Doorbell, ring
from mirrord_trace.supervisor.tracer.stops import SignalDeliveryStop, TrapStop, classify
from rig import apart


def _rung(bell: Doorbell) -> None:
    pid, status = os.waitpid(-1, ptrace.WALL)
    assert pid == bell.pid
    assert classify(status) == SignalDeliveryStop(signal.SIGUSR1)


@apart
def test_a_ring_ends_the_sleep_in_waitpid_whoever_rings() -> None:
    bell = Doorbell()
    for rings in range(3):
        thread = threading.Thread(target=bell.ring)
        thread.start()
        _rung(bell)
        bell.answered()
        thread.join()
        assert rings < 3
    child = os.fork()
    if child == 0:
        ring(bell.pid)
        os._exit(0)
    statuses = [os.waitpid(-1, ptrace.WALL) for _ in range(2)]
    assert {pid for pid, _ in statuses} == {child, bell.pid}
    bell.remove()


@apart
def test_rings_before_the_look_are_one_and_one_while_it_is_stopped_is_kept() -> None:
    bell = Doorbell()
    for _ in range(100):
        bell.ring()
    _rung(bell)
    bell.ring()
    bell.answered()
    _rung(bell)
    bell.answered()
    assert os.waitpid(bell.pid, ptrace.WALL | os.WNOHANG) == (0, 0)
    bell.remove()


@apart
def test_signals_of_the_terminal_leave_it_alone() -> None:
    bell = Doorbell()
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGHUP, signal.SIGTERM, signal.SIGCONT):
        os.kill(bell.pid, number)
    # SIGCONT, unlike the others, is a stop of its own to who traces by PTRACE_SEIZE: one look too many.
    assert classify(os.waitpid(bell.pid, ptrace.WALL)[1]) == TrapStop()
    bell.answered()
    bell.ring()
    _rung(bell)
    bell.remove()


@apart
def test_it_holds_no_descriptor() -> None:
    read, write = os.pipe()
    bell = Doorbell()
    os.close(write)
    assert os.read(read, 1) == b""
    assert os.listdir(f"/proc/{bell.pid}/fd") == []
    bell.remove()


@apart
def test_removed_it_is_reaped_even_if_a_ring_was_not_answered() -> None:
    for _ in range(5):
        bell = Doorbell()
        bell.ring()
        bell.remove()
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, ptrace.WALL)
        bell.ring()


@apart
def test_it_ends_with_its_maker() -> None:
    read, write = os.pipe()
    maker = os.fork()
    if maker == 0:
        os.write(write, str(Doorbell().pid).encode())
        signal.pause()
    bell = int(os.read(read, 20))
    pidfd = os.pidfd_open(bell)
    os.kill(maker, signal.SIGKILL)
    os.waitpid(maker, 0)
    assert select.select([pidfd], [], [], 10)[0]
