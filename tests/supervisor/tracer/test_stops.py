"""Recorded wait statuses, every one of which is exactly one stop."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mirrord_trace.supervisor.tracer.stops import (
    SECCOMP_STATUS,
    SYSCALL_STATUS,
    Ended,
    ExecStop,
    GroupStop,
    NewTaskStop,
    SeccompStop,
    SignalDeliveryStop,
    Stop,
    SyscallStop,
    TrapStop,
    classify,
)


@pytest.mark.parametrize(
    ("status", "stop"),
    [
        (0x00000, Ended(0, 0, False)),
        (0x00300, Ended(3, 0, False)),
        (0x0FF00, Ended(255, 0, False)),
        (0x00009, Ended(-1, signal.SIGKILL, False)),
        (0x0008B, Ended(-1, signal.SIGSEGV, True)),
        (0x7057F, SeccompStop()),
        (0x0857F, SyscallStop()),
        (0x0057F, SignalDeliveryStop(signal.SIGTRAP)),
        (0x0137F, SignalDeliveryStop(signal.SIGSTOP)),
        (0x00A7F, SignalDeliveryStop(signal.SIGUSR1)),
        (0x0227F, SignalDeliveryStop(34)),
        (0x0407F, SignalDeliveryStop(64)),
        (0x80057F, TrapStop()),
        (0x80137F, GroupStop(signal.SIGSTOP)),
        (0x80147F, GroupStop(signal.SIGTSTP)),
        (0x80157F, GroupStop(signal.SIGTTIN)),
        (0x80167F, GroupStop(signal.SIGTTOU)),
        (0x1057F, NewTaskStop(1)),
        (0x2057F, NewTaskStop(2)),
        (0x3057F, NewTaskStop(3)),
        (0x4057F, ExecStop()),
    ],
)
def test_recorded(status: int, stop: Stop) -> None:
    assert classify(status) == stop


def test_the_hot_status_is_a_seccomp_stop() -> None:
    assert classify(SECCOMP_STATUS) == SeccompStop()


def test_the_other_hot_status_is_a_syscall_stop() -> None:
    assert classify(SYSCALL_STATUS) == SyscallStop()


def test_equal_statuses_give_one_object() -> None:
    assert classify(0x00A7F) is classify(0x00A7F)


@given(st.integers(0, 255))
def test_every_exit_code(code: int) -> None:
    assert classify(code << 8) == Ended(code, 0, False)


@given(st.integers(1, 64))
def test_every_signal_is_handed_on_as_it_came(number: int) -> None:
    assert classify(number << 8 | 0x7F) == SignalDeliveryStop(number)
