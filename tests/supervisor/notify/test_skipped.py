"""Decisions about what processes run, which are kept until they execute something else."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from mirrord_trace.supervisor.notify import skipped as module
from mirrord_trace.supervisor.notify.skipped import Skipped
from rig import apart


class _Asked:
    """Answers in turn."""

    def __init__(self, *answers: bool) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[int, bytes, bool]] = []

    def __call__(self, pid: int, program: bytes, is_new: bool) -> bool:
        self.asked.append((pid, program, is_new))
        return self.answers.pop(0)


@contextmanager
def _child(run: Callable[[], object]) -> Iterator[int]:
    pid = os.fork()
    if pid == 0:
        run()
        os._exit(0)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@apart
def test_a_decision_stands_until_something_is_executed() -> None:
    skips, own = _Asked(True, False), os.getpid()
    skipped = Skipped(skips)
    assert skipped.of(own, own, b"")
    assert skipped.of(own, own, b"")
    skipped.executed(own, own, b"/app/x")  # it has failed: the same process with the same stack
    assert not skipped.of(own, own, b"/app/x")
    assert skips.asked == [(own, b"", False), (own, b"/app/x", False)]


@apart
def test_a_child_is_as_its_parent_was_when_it_was_forked() -> None:
    skips, own = _Asked(True, False), os.getpid()
    skipped = Skipped(skips)
    assert skipped.of(own, own, b"")
    with _child(signal.pause) as pid:
        assert skipped.of(pid, pid, b"")
        assert len(skips.asked) == 1
        # Another program, by its stack.
        stack = module._look(own)[1].stack
        skipped._decided[own] = module._Image(1, stack + 16), True
        del skipped._decided[pid]
        assert not skipped.of(pid, pid, b"")


@apart
def test_of_another_process_with_the_same_number_it_is_asked_anew() -> None:
    skips, own = _Asked(True), os.getpid()
    skipped = Skipped(skips)
    skipped._decided[own] = module._Image(1, module._look(own)[1].stack), False
    assert skipped.of(own, own, b"")


@apart
def test_a_leader_that_has_ended_changes_nothing() -> None:
    def go() -> None:
        threading.Thread(target=signal.pause).start()
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        __import__("ctypes").CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)

    skipped = Skipped(_Asked(True, True))
    with _child(go) as pid:
        assert skipped.of(pid, pid, b"")
        while module._look(pid)[1].stack:
            pass
        assert skipped.of(pid, pid, b"")
        other = max(map(int, os.listdir(f"/proc/{pid}/task")))
        skipped.executed(pid, other, b"")
        assert skipped.of(pid, other, b"")


def test_while_something_is_being_executed_nothing_is_kept() -> None:
    skips = _Asked(True, False)
    skipped = Skipped(skips)
    assert skipped.meanwhile(7, b"")
    assert not skipped.meanwhile(7, b"/app/x")
    assert skips.asked == [(7, b"", False), (7, b"/app/x", False)]


def test_what_has_gone_is_forgotten_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FEWEST_TO_PRUNE", 2)
    skipped = Skipped(lambda *asked: False)
    for number in range(2**22 + 1, 2**22 + 10):
        skipped.of(number, number, b"")
    assert len(skipped._decided) <= 3
