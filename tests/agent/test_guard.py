from __future__ import annotations

import os
import signal

import pytest
from mirrord_trace.agent.guard import run_guarded


@pytest.fixture
def guarded():
    """`guarded(work)`: a guard in a child; gives its pid, and afterwards a pipe with all that anybody wrote."""
    reader, writer = os.pipe()

    def start(work):
        pid = os.fork()
        if pid == 0:
            status = 99
            try:
                status = run_guarded(
                    lambda: work(writer), lambda: os.write(writer, b" cleaned"), lambda: os.write(writer, b"")
                )
            finally:
                os._exit(status)
        return pid

    def finish(pid):
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.close(writer)
        return status, os.read(reader, 1000)

    yield start, finish, reader
    os.close(reader)


def test_the_status_of_the_worker_is_the_guards(guarded):
    start, finish, _ = guarded
    assert finish(start(lambda writer: 0)) == (0, b"")


def test_a_worker_that_failed_is_cleaned_up_after(guarded):
    start, finish, _ = guarded
    assert finish(start(lambda writer: 3)) == (3, b" cleaned")


def test_a_worker_that_raises_shows_why(guarded, capfd):
    start, finish, _ = guarded
    assert finish(start(lambda writer: 1 // 0)) == (1, b" cleaned")
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_a_killed_worker_is_cleaned_up_after(guarded):
    start, finish, _ = guarded
    assert finish(start(lambda writer: os.kill(os.getpid(), signal.SIGKILL))) == (128 + signal.SIGKILL, b" cleaned")


def until_sigterm(writer):
    signal.signal(signal.SIGTERM, lambda number, frame: os.write(writer, b" asked") and os._exit(0))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
    os.write(writer, b"ready")
    while True:
        signal.pause()


def test_sigterm_is_passed_on(guarded):
    start, finish, reader = guarded
    pid = start(until_sigterm)
    assert os.read(reader, 5) == b"ready"
    os.kill(pid, signal.SIGINT)
    os.kill(pid, signal.SIGHUP)
    os.kill(pid, signal.SIGTERM)
    assert finish(pid) == (0, b" asked")


def test_a_worker_without_its_guard_is_asked_to_end(guarded):
    start, finish, reader = guarded
    pid = start(until_sigterm)
    assert os.read(reader, 5) == b"ready"
    os.kill(pid, signal.SIGKILL)
    assert finish(pid) == (-signal.SIGKILL, b" asked")


def test_orphans_are_reaped_and_not_taken_for_the_worker(guarded):
    start, finish, _ = guarded

    def work(writer):
        # A grandchild that outlives its parent: it comes to the guard if that is a reaper, to init otherwise.
        if os.fork() == 0:
            if os.fork() == 0:
                os._exit(7)
            os._exit(8)
        os.wait()
        return 0

    assert finish(start(work)) == (0, b"")
