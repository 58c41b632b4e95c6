"""A process that exists to be rung."""

from __future__ import annotations

import os
import select
import signal
import threading

import pytest
from mirrord_trace.supervisor.tracer import ptrace
from mirrord_trace.supervisor.tracer.doorbell import Doorbell, ring
from mirrord_trace.supervisor.tracer.stops import SignalDeliveryStop, Stop, TrapStop, classify
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
def test_no_signal_does_anything_to_it() -> None:
    bell = Doorbell()
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGHUP, signal.SIGTERM, signal.SIGSTOP):
        os.kill(bell.pid, number)
        assert _next(bell) == SignalDeliveryStop(number)
        bell.answered()
    os.kill(bell.pid, signal.SIGCONT)
    # To who traces by PTRACE_SEIZE that is a stop of its own.
    assert [_next(bell), bell.answered(), _next(bell)] == [TrapStop(), None, SignalDeliveryStop(signal.SIGCONT)]
    bell.answered()
    bell.ring()
    _rung(bell)
    bell.remove()


def _next(bell: Doorbell) -> Stop:
    return classify(os.waitpid(bell.pid, ptrace.WALL)[1])


@apart
def test_it_tells_whether_the_whole_group_got_a_signal() -> None:
    bell = Doorbell()
    bell.ring()
    _rung(bell)
    assert not bell.has_got(signal.SIGTERM)
    # Sent while it is stopped: told at once, and not told again when it shows up.
    os.kill(bell.pid, signal.SIGTERM)
    assert bell.has_got(signal.SIGTERM)
    bell.answered()
    assert _next(bell) == SignalDeliveryStop(signal.SIGTERM)
    bell.notice(signal.SIGTERM)
    assert not bell.has_got(signal.SIGTERM)
    bell.answered()
    # Seen before anybody asks.
    os.kill(bell.pid, signal.SIGTERM)
    assert _next(bell) == SignalDeliveryStop(signal.SIGTERM)
    bell.notice(signal.SIGTERM)
    assert [bell.has_got(signal.SIGTERM) for _ in range(2)] == [True, False]
    bell.ring()
    assert not bell.has_got(signal.SIGUSR1)
    bell.remove()


@apart
def test_what_the_kernel_sends_is_not_noticed() -> None:
    bell = Doorbell()
    os.kill(bell.pid, signal.SIGWINCH)
    assert _next(bell) == SignalDeliveryStop(signal.SIGWINCH)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ptrace, "signal_code", lambda pid: 0x80)  # SI_KERNEL
        bell.notice(signal.SIGWINCH)
    assert not bell.has_got(signal.SIGWINCH)
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
