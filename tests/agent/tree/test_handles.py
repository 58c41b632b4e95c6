"""The order of tasks and their waiting, with pipes for files; what requests do is in the other tests."""

from __future__ import annotations

import errno
import os
import select
import socket
import threading

import pytest
from mirrord_trace.agent.pump.loop import READ, WRITE
from mirrord_trace.agent.tree.handles import ANY, LOCK, OPEN, Task
from mirrord_trace.agent.wire.messages import Done, Failed

EINTR = Failed(errno.EINTR)


@pytest.fixture
def submit(stage):
    """`submit(handles, work, ...)`: a list that gets the reply."""

    def do(handles, work, lane=ANY, **options):
        replies = []
        handles = handles if isinstance(handles, tuple) else (handles,)
        stage.handles.submit(Task(handles, work, replies.append, lane, **options))
        return replies

    return do


@pytest.fixture
def pipe(stage):
    """A handle of the reading end of a pipe, and its other end."""
    handle = stage.handles.new(1, True)
    handle.fd, writer = os.pipe2(os.O_NONBLOCK)
    yield handle, writer
    os.close(writer)


def blocked():
    raise BlockingIOError(errno.EAGAIN, "")


def test_numbers(stage, code_of):
    stage.handles.new(1, True)
    assert code_of(stage.handles.new, 1, True) == "EINVAL"
    for number in (0, -1, 2**63):
        assert code_of(stage.handles.new, number, True) == "EINVAL"
    assert code_of(stage.handles.get, 2) == "EBADF"
    assert code_of(stage.handles.get(1).descriptor) == "EBADF"
    stage.handles.drop(stage.handles.get(1))
    assert code_of(stage.handles.get, 1) == "EBADF"


def test_one_handle_in_order_and_others_beside_it(stage, submit):
    first, second = stage.handles.new(1, True), stage.handles.new(2, True)
    release, order = threading.Event(), []

    def slow():
        release.wait(20)
        order.append(0)
        return Done()

    replies = [submit(first, slow)]
    replies += [submit(first, lambda number=number: order.append(number) or Done()) for number in range(1, 20)]
    beside = submit(second, Done)
    stage.until(lambda: beside)
    assert order == []
    release.set()
    stage.until(lambda: all(replies))
    assert order == list(range(20))


def test_a_task_on_two_handles_waits_for_both(stage, submit):
    first, second = stage.handles.new(1, True), stage.handles.new(2, True)
    release, order = threading.Event(), []

    def slow():
        release.wait(20)
        order.append("slow")
        return Done()

    submit(first, slow)
    submit((second, first), lambda: order.append("both") or Done())
    replies = submit(second, lambda: order.append("later") or Done())
    other = submit((first, second), lambda: order.append("other") or Done())
    free = submit(stage.handles.new(3, True), Done)
    stage.until(lambda: free)
    assert order == []
    release.set()
    stage.until(lambda: replies and other)
    assert order == ["slow", "both", "later", "other"]


def test_an_error_is_the_answer(stage, submit):
    def fail():
        raise FileNotFoundError(errno.ENOENT, "")

    handle = stage.handles.new(1, True)
    replies, again = submit(handle, fail), submit(handle, blocked)
    stage.until(lambda: again)
    assert replies == [Failed(errno.ENOENT)]
    assert again == [Failed(errno.EAGAIN)]  # it was not to wait


def test_a_read_waits_on_the_loop_and_holds_up_reads_only(stage, submit, pipe):
    handle, writer = pipe
    first = submit(handle, lambda: os.read(handle.fd, 1) and Done(), READ, is_patient=True)
    second = submit(handle, lambda: os.read(handle.fd, 1) and Done(), READ, is_patient=True)
    others = [submit(handle, Done), submit(handle, Done, WRITE, is_patient=True), submit(handle, Done, LOCK)]
    stage.until(lambda: all(others))
    assert not first
    assert not second
    os.write(writer, b"x")
    stage.until(lambda: first)
    assert not second
    os.write(writer, b"y")
    stage.until(lambda: second)
    assert not handle.parked


def test_a_poll_waits_on_the_loop_and_holds_up_nothing(stage, submit, pipe):
    handle, writer = pipe

    def look():
        return Done() if select.select([handle.fd], [], [], 0)[0] else blocked()

    poll = submit(handle, look, LOCK, is_patient=True, events=READ)
    read = submit(handle, lambda: os.read(handle.fd, 1) and Done(), READ, is_patient=True)
    other = submit(handle, Done)
    stage.until(lambda: other)
    assert (poll, read) == ([], [])
    assert all(task.timer is None for task in handle.parked)
    os.write(writer, b"xy")
    stage.until(lambda: poll and read)
    assert not handle.parked


def test_both_directions_wait_at_once(stage, submit):
    handle = stage.handles.new(1, True)
    ours, theirs = socket.socketpair()
    with theirs, ours:
        ours.setblocking(False)
        handle.fd = os.dup(ours.fileno())
        while True:
            try:
                os.write(handle.fd, bytes(65536))
            except BlockingIOError:
                break
        read = submit(handle, lambda: os.read(handle.fd, 1) and Done(), READ, is_patient=True)
        written = submit(handle, lambda: os.write(handle.fd, b"x") and Done(), WRITE, is_patient=True)
        stage.until(lambda: len(handle.parked) == 2)
        assert theirs.recv(1 << 22)
        stage.until(lambda: written)
        assert not read
        theirs.send(b"x")
        stage.until(lambda: read)


def test_a_file_that_cannot_be_watched_is_tried_again(stage, submit, put):
    handle = stage.handles.new(1, True)
    handle.fd = os.open(put(b"/file"), os.O_RDONLY)
    left = [1, 2, 3]

    def work():
        if left:
            left.pop()
            blocked()
        return Done()

    replies = submit(handle, work, READ, is_patient=True)
    stage.until(lambda: replies)
    assert replies == [Done()]


def test_giving_up(stage, submit, pipe):
    handle, _ = pipe
    reads = [submit(handle, lambda: os.read(handle.fd, 1) and Done(), READ, is_patient=True) for _ in range(2)]
    locks = [submit(handle, blocked, LOCK, owner=owner, is_patient=True) for owner in (5, 6)]
    stage.until(lambda: len(handle.parked) == 3)
    stage.handles.give_up(handle, (LOCK,), 5)
    stage.until(lambda: locks[0])
    assert locks == [[EINTR], []]
    stage.handles.give_up(handle, (OPEN, READ, WRITE))
    stage.until(lambda: all(reads))
    assert reads == [[EINTR], [EINTR]]
    assert not locks[1]


def test_giving_up_what_runs_takes_effect_when_it_would_wait(stage, submit):
    handle = stage.handles.new(1, True)
    release, entered = threading.Event(), threading.Event()

    def work():
        entered.set()
        release.wait(20)
        blocked()

    replies = submit(handle, work, LOCK, owner=1, is_patient=True)
    assert entered.wait(20)
    stage.handles.give_up(handle, (LOCK,), 1)
    release.set()
    stage.until(lambda: replies)
    assert replies == [EINTR]


def test_an_open_that_waits_holds_up_everything_but_its_source(stage, submit):
    handle, source = stage.handles.new(1, True), stage.handles.new(2, True)
    ready = []
    opened = submit((handle, source), lambda: Done() if ready else blocked(), OPEN, is_patient=True)
    later = submit(handle, lambda: Done() if ready else Failed(1))
    stage.until(lambda: handle.parked)
    beside = submit(source, Done)
    stage.until(lambda: beside)
    assert not later
    ready.append(True)
    stage.until(lambda: later)
    assert (opened, later) == ([Done()], [Done()])


def test_closing_comes_last_and_ends_all_waiting(stage, submit, pipe):
    handle, _ = pipe
    finished = []
    read = submit(handle, lambda: os.read(handle.fd, 1) and Done(), READ, is_patient=True)
    lock = submit(handle, blocked, LOCK, owner=1, is_patient=True)
    stage.until(lambda: len(handle.parked) == 2)
    last = submit(handle, lambda: Done() if handle.fd >= 0 else Failed(1))
    fd = handle.fd
    stage.handles.close(1, finished.append)
    stage.handles.new(1, True)  # the number is free at once
    stage.until(lambda: finished and handle.fd < 0)
    stage.until(lambda: last)
    assert (read, lock, last) == ([EINTR], [EINTR], [Done()])
    with pytest.raises(OSError):
        os.fstat(fd)
    stage.handles.close(99, finished.append)
    assert finished == [handle]


def test_the_end_closes_what_is_open(stage, submit, pipe):
    handle, _ = pipe
    submit(handle, lambda: os.read(handle.fd, 1) and Done(), READ, is_patient=True)
    stage.until(lambda: handle.parked)
    stage.handles.close_all()
    with pytest.raises(OSError):
        os.fstat(handle.fd)
