"""Readiness."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator

import pytest
from fakekernel import Call, Kernel
from fakepod import Pod
from mirrord_trace.agent.wire.file_messages import PollHandle
from mirrord_trace.agent.wire.messages import Failed
from mirrord_trace.supervisor.fuse import protocol
from mirrord_trace.supervisor.fuse.polls import Polls
from mirrord_trace.supervisor.fuse.protocol import Op

IN, OUT, HUP = select.POLLIN, select.POLLOUT, select.POLLHUP
NOTIFY = protocol.POLL_SCHEDULE_NOTIFY


class Poller:
    """Polls one open FIFO; `woken`: the numbers of files that are to be looked at again."""

    def __init__(self, pod: Pod, kernel: Kernel) -> None:
        os.mkfifo(pod.folder / "fifo")
        self.other = os.open(pod.folder / "fifo", os.O_RDWR)
        self.handle = kernel.open(kernel.node("fifo"), os.O_RDONLY)
        self.woken: list[int] = []
        self._pod = pod
        self._kernel = kernel
        self._polls = Polls(kernel.tree, kernel.handles, self.woken.append)
        pod.take()

    def begin(self, handle: int, events: int, flags: int = 0) -> Call:
        body = protocol.POLL_IN.pack(handle, 1000 + handle, flags, events)
        return self._kernel.begin(self._polls.poll, Op.POLL, self._kernel.handles.get(handle).node.id, body)

    def poll(self, events: int, flags: int = 0) -> int:
        (found,) = protocol.POLL_OUT.unpack(self._kernel.finish(self.begin(self.handle, events, flags)))
        return int(found)


@pytest.fixture
def poller(pod: Pod, kernel: Kernel) -> Iterator[Poller]:
    poller = Poller(pod, kernel)
    yield poller
    os.close(poller.other)


def test_a_regular_file_is_always_ready(pod: Pod, kernel: Kernel, poller: Poller) -> None:
    pod.write("file", "x")
    handle = kernel.open(kernel.node("file"))
    pod.take()
    (found,) = protocol.POLL_OUT.unpack(kernel.finish(poller.begin(handle, IN | OUT, NOTIFY)))
    assert found & (IN | OUT) == IN | OUT
    assert pod.take() == []


def test_a_fifo_is_as_ready_as_in_the_pod(pod: Pod, poller: Poller) -> None:
    assert poller.poll(IN) == 0
    os.write(poller.other, b"x")
    assert poller.poll(IN | OUT) == IN
    assert pod.asked == [PollHandle(poller.handle, IN, False), PollHandle(poller.handle, IN | OUT, False)]


def test_who_waits_is_woken_once_it_is_ready(pod: Pod, poller: Poller) -> None:
    assert poller.poll(IN, NOTIFY) == 0
    assert poller.poll(IN, NOTIFY) == 0
    assert pod.asked.count(PollHandle(poller.handle, IN, True)) == 1
    assert poller.woken == []
    os.write(poller.other, b"x")
    pod.answer_all()
    assert poller.woken == [1000 + poller.handle]
    assert poller.poll(IN, NOTIFY) == IN
    os.read(poller.other, 1)
    assert poller.poll(IN, NOTIFY) == 0
    assert pod.asked.count(PollHandle(poller.handle, IN, True)) == 2


def test_for_other_events_somebody_else_waits(pod: Pod, poller: Poller) -> None:
    for events in (IN, IN, 0, IN | select.POLLPRI, 0):
        assert poller.poll(events, NOTIFY) == 0
    waiting = [message.events for message in pod.asked if isinstance(message, PollHandle) and message.wait]
    assert waiting == [IN, IN | select.POLLPRI]


def test_a_wait_that_fails_wakes_too(pod: Pod, poller: Poller) -> None:
    poller.poll(IN, NOTIFY)
    pod.answer(0, Failed(4))
    assert poller.woken == [1000 + poller.handle]
    poller.poll(IN, NOTIFY)
    assert pod.asked.count(PollHandle(poller.handle, IN, True)) == 2
