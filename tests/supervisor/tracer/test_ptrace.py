"""Each request against a real child, and ESRCH at every verb."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable

import pytest
from mirrord_trace.supervisor.errors import TraceeGone
from mirrord_trace.supervisor.tracer import ptrace
from mirrord_trace.supervisor.tracer.stops import Ended, SeccompStop, SignalDeliveryStop, SyscallStop, TrapStop
from rig import ARCH, CALL, Child, apart, syscall

_REGISTERS_BYTES = 8 * (27 if ARCH.name == "x86_64" else 34)

_VERBS: dict[str, Callable[[int], object]] = {
    "cont": ptrace.cont,
    "to_syscall_stop": ptrace.to_syscall_stop,
    "listen": ptrace.listen,
    "detach": ptrace.detach,
    "event_message": ptrace.event_message,
    "call_at_stop": ptrace.call_at_stop,
    "result_at_exit": ptrace.result_at_exit,
    "get_register_set": lambda tid: ptrace.get_register_set(tid, _REGISTERS_BYTES),
    "set_register_set": lambda tid: ptrace.set_register_set(tid, bytes(_REGISTERS_BYTES)),
    "poke_user": lambda tid: ptrace.poke_user(tid, 0, 0),
    "signal_code": ptrace.signal_code,
    "set_signal_mask": lambda tid: ptrace.set_signal_mask(tid, 0),
    "registers": ARCH.registers,
    "skip": lambda tid: ARCH.skip(tid, 0),
}


@apart
@pytest.mark.parametrize("verb", _VERBS)
def test_a_tracee_killed_while_stopped_is_gone_for_every_verb(verb: str) -> None:
    child = Child(lambda: syscall(CALL, 1, 2, 3, 4))
    assert child.next() == SeccompStop()
    child.kill()
    with pytest.raises(TraceeGone):
        _VERBS[verb](child.pid)
    assert child.next() == Ended(-1, signal.SIGKILL, False)


@apart
def test_a_tracee_that_runs_is_stopped() -> None:
    child = Child(lambda: signal.pause() or 0)
    ptrace.interrupt(child.pid)
    assert child.next() == TrapStop()
    child.kill()
    assert child.next() == Ended(-1, signal.SIGKILL, False)
    with pytest.raises(TraceeGone):
        ptrace.interrupt(child.pid)


@apart
def test_a_call_is_described_at_its_entry_and_its_result_at_its_exit() -> None:
    child = Child(lambda: -syscall(CALL, 0, 0, 0xFFFF_FFFF_FFFF, 0x1234))
    assert child.next() == SeccompStop()
    operation, audit, ip, sp, sysno, *arguments = ptrace.call_at_stop(child.pid)
    assert (operation, audit, sysno) == (ptrace.INFO_SECCOMP, ARCH.audit, ARCH.syscall_numbers[CALL])
    assert arguments[:4] == [0, 0, 0xFFFF_FFFF_FFFF, 0x1234]
    assert min(ip, sp) > 0x1000
    ptrace.to_syscall_stop(child.pid)
    assert child.next() == SyscallStop()
    assert ptrace.result_at_exit(child.pid) == (ptrace.INFO_EXIT, -errno.EFAULT)
    ptrace.cont(child.pid)
    assert child.next() == Ended(errno.EFAULT, 0, False)


@apart
def test_registers_are_read_and_written_whole() -> None:
    child = Child(lambda: syscall(CALL, 1, 2, 3, 4))
    child.next()
    words = ptrace.get_register_set(child.pid, _REGISTERS_BYTES)
    assert len(words) == _REGISTERS_BYTES
    ptrace.set_register_set(child.pid, words)
    assert ptrace.get_register_set(child.pid, _REGISTERS_BYTES) == words
    child.kill()


@apart
def test_a_signal_is_delivered_only_if_passed_on() -> None:
    def body() -> int:
        taken: list[int] = []
        signal.signal(signal.SIGUSR1, lambda number, frame: taken.append(number))
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR1)
        return len(taken)

    child = Child(body)
    assert child.next() == SignalDeliveryStop(signal.SIGUSR1)
    ptrace.cont(child.pid)
    assert child.next() == SignalDeliveryStop(signal.SIGUSR1)
    ptrace.cont(child.pid, signal.SIGUSR1)
    assert child.next() == Ended(1, 0, False)


@apart
def test_who_sent_a_signal_and_what_a_mask_lets_through() -> None:
    def body() -> int:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        os.kill(os.getpid(), signal.SIGUSR2)
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        signal.pause()
        return 0

    child = Child(body)
    assert child.next() == SignalDeliveryStop(signal.SIGALRM)
    assert ptrace.signal_code(child.pid) == 0x80  # SI_KERNEL
    ptrace.set_signal_mask(child.pid, 0)
    ptrace.cont(child.pid)
    assert child.next() == SignalDeliveryStop(signal.SIGUSR2)
    assert ptrace.signal_code(child.pid) == 0  # SI_USER
    child.kill()


@apart
def test_a_detached_child_runs_on_alone() -> None:
    def body() -> int:
        signal.signal(signal.SIGUSR1, lambda number, frame: None)
        os.kill(os.getpid(), signal.SIGUSR1)
        return -syscall(CALL)

    child = Child(body)
    assert child.next() == SignalDeliveryStop(signal.SIGUSR1)
    ptrace.detach(child.pid, signal.SIGUSR1)
    # RET_TRACE without a tracer.
    assert child.next() == Ended(errno.ENOSYS, 0, False)


@apart
def test_seizing_twice_is_refused() -> None:
    child = Child(lambda: syscall(CALL))
    child.next()
    with pytest.raises(PermissionError, match="ptrace request 0x4206"):
        ptrace.seize(child.pid, 0)
    child.kill()


def test_seizing_nobody_is_gone() -> None:
    with pytest.raises(TraceeGone):
        ptrace.seize(2**22 + 1, 0)


@apart
def test_a_fork_tells_the_new_tid() -> None:
    def body() -> int:
        pid = os.fork()
        if pid == 0:
            os._exit(7)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    child = Child(body)
    stop = child.next()
    new = ptrace.event_message(child.pid)
    assert type(stop).__name__ == "NewTaskStop"
    assert os.waitpid(new, ptrace.WALL)[1] >> 16 == ptrace.EVENT_STOP
    ptrace.cont(new)
    ptrace.cont(child.pid)
    assert os.waitpid(new, ptrace.WALL) == (new, 7 << 8)
    assert child.next() == SignalDeliveryStop(signal.SIGCHLD)
    ptrace.cont(child.pid, signal.SIGCHLD)
    assert child.next() == Ended(7, 0, False)
