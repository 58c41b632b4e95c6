"""Signals sent to the tool: handed on once, unless the terminal or the kernel sent them to the whole group."""

from __future__ import annotations

import os
import queue
import select
import signal
import threading
from collections.abc import Callable

import pytest
from mirrord_trace.supervisor.tracer import own_signals, ptrace
from mirrord_trace.supervisor.tracer.own_signals import OwnSignals, stop_like
from mirrord_trace.supervisor.tracer.stops import Ended, GroupStop, SignalDeliveryStop, TrapStop
from rig import Child, apart


def _from_another(number: int) -> None:
    pid = os.fork()
    if pid == 0:
        os.kill(os.getppid(), number)
        os._exit(0)
    os.waitpid(pid, 0)


def _taking(act: Callable[[], None], at_least: int = 0) -> list[int]:
    """What was handed on of the signals that `act` sends; then comes SIGUSR2, which would overtake one of a higher number."""
    got: queue.SimpleQueue[int] = queue.SimpleQueue()
    OwnSignals.block()
    signals = OwnSignals(got.put, lambda: None)
    signals.start()
    act()
    taken = [got.get(timeout=10) for _ in range(at_least)]
    _from_another(signal.SIGUSR2)
    while (number := got.get(timeout=10)) != signal.SIGUSR2:
        taken.append(number)
    signals.stop()
    return taken


@apart
@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGWINCH, signal.SIGCONT]
)
def test_sent_to_the_tool_it_is_for_the_program(number: int) -> None:
    assert _taking(lambda: _from_another(number), at_least=1) == [number]


@apart
@pytest.mark.parametrize("number", [signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU])
def test_the_terminals_stops_do_not_stop_the_tool(number: int) -> None:
    assert _taking(lambda: _from_another(number)) == []


@apart
def test_its_own_are_not_handed_on() -> None:
    assert _taking(lambda: os.kill(os.getpid(), signal.SIGTERM)) == []


@apart
def test_the_kernels_are_the_programs_already() -> None:
    # A terminal whose other end closes sends SIGHUP to the session's leader; Ctrl-C is SIGINT to the foreground group.
    def press() -> None:
        os.setsid()
        main, terminal = os.openpty()
        import fcntl
        import termios

        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
        os.write(main, b"\x03")
        assert select.select([main], [], [], 10)[0]

    assert _taking(press) == []


@apart
def test_it_ticks_while_nothing_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_signals, "_TICK_S", 0.001)
    ticked = threading.Event()
    OwnSignals.block()
    signals = OwnSignals(lambda number: None, ticked.set)
    signals.start()
    assert ticked.wait(10)
    signals.stop()


@apart
@pytest.mark.parametrize("who", ["tool", "program"])
def test_a_stopped_tool_goes_on_with_its_program(who: str) -> None:
    OwnSignals.block()
    pid = os.fork()
    if pid:
        # Its parent, as the shell would be.
        _, status = os.waitpid(pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        assert os.WSTOPSIG(status) == signal.SIGSTOP
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as children:
            program = int(children.read().split()[0])
        os.kill(pid if who == "tool" else program, signal.SIGCONT)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        return
    status = 1
    try:
        _tool()
        status = 0
    finally:
        os._exit(status)


def _tool() -> None:
    def body() -> int:
        os.kill(os.getpid(), signal.SIGSTOP)
        return 5

    child = Child(body, calls=())
    assert child.next() == SignalDeliveryStop(signal.SIGSTOP)
    ptrace.cont(child.pid, signal.SIGSTOP)
    assert child.next() == GroupStop(signal.SIGSTOP)
    ptrace.listen(child.pid)
    stop_like(child.pid)
    os.kill(child.pid, signal.SIGCONT)
    stop = child.next()
    while stop != Ended(5, 0, False):
        assert isinstance(stop, (TrapStop, SignalDeliveryStop))
        ptrace.cont(child.pid)
        stop = child.next()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, ptrace.WALL)
