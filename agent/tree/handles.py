"""Open files of the pod by the client's numbers, and the order in which requests on them are carried out.

Each request is a `Task`. A handle has a queue of them; one at a time runs on a worker thread, those of different handles run
side by side. The thread never waits for anything but a disk: what would block raises BlockingIOError (files are open
with O_NONBLOCK), and the task is *parked* until the loop's epoll, or a timer where there is nothing to poll, tries it again.

    queue ──first that may──> worker ──done──> reply
      ^                          └──would block──> parked ──ready, time──┐
      └──────────────────────────────────────────────────────────────────┘

A parked read holds up later reads, a parked write later writes: a terminal may be written to while somebody reads it. A
parked lock holds up nothing, a parked open everything. A task on two handles runs when it is first on both; as all queues
grow in the order of the messages, two of these cannot wait for each other.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from typing import Callable, Deque, Dict, List, Optional, Tuple

from ..net import Reply, failed
from ..pump.loop import READ, WRITE, Loop, Timer
from ..wire.messages import Done, Failed, Message
from ..workers import Outcome, Workers
from .paths import failure

OPEN, LOCK, ANY = 8, 16, 0
"""Lanes besides READ and WRITE: see above."""

_FIRST_RETRY_S = 0.001
_LONGEST_RETRY_S = {OPEN: 0.02, LOCK: 0.05, READ: 0.02, WRITE: 0.02}
_LARGEST_NUMBER = 2**63 - 1

Attempt = Callable[[Callable[[], Message]], Message]


class Handle:
    """One number of the client's. `fd` is -1 until it is open, and if it could not be opened."""

    def __init__(self, number: int, is_patient: bool) -> None:
        self.number = number
        self.is_patient = is_patient
        """Whether reads and writes wait: the client has opened it without O_NONBLOCK."""
        self.fd = -1
        self.mode = 0
        """The kind of file, as in st_mode."""
        self.flags = 0
        """Access mode and O_APPEND."""
        self.early = b""
        """What had to be read to see whether there is anything to read."""
        self.queue: Deque[Task] = deque()
        self.parked: List[Task] = []
        self.running: Optional[Task] = None

    def descriptor(self) -> int:
        """The open file; EBADF without one."""
        if self.fd < 0:
            raise failure(errno.EBADF)
        return self.fd

    @property
    def is_writable(self) -> bool:
        """Whether it was opened for writing."""
        return self.flags & 3 in (os.O_WRONLY, os.O_RDWR)

    def first(self) -> Optional[Task]:
        """The task that is to run next on this handle, other handles permitting."""
        lanes = {task.lane for task in self.parked}
        if self.running is not None or OPEN in lanes:
            return None
        return next((task for task in self.queue if task.lane == ANY or task.lane not in lanes or task.lane == LOCK), None)


class Task:
    """One request on one or two handles. `work` runs on a worker, again after each BlockingIOError if it `is_patient`.

    `events`: for what the loop is to watch the file until then, if not for what the lane says.
    """

    def __init__(
        self,
        handles: Tuple[Handle, ...],
        work: Callable[[], Message],
        reply: Reply,
        lane: int = ANY,
        owner: int = 0,
        is_patient: bool = False,
        events: int = 0,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self.handles = handles
        self.work = work
        self.lane = lane
        self.events = events or lane & (READ | WRITE)
        self.owner = owner
        self.is_patient = is_patient
        self.is_given_up = False
        self.delay_s = _FIRST_RETRY_S
        self.timer: Optional[Timer] = None
        self._reply = reply
        self._on_end = on_end

    def end(self, message: Message) -> None:
        """Answer the request."""
        self._on_end()
        self._reply(message)


class Handles:
    """All handles of a session, on the loop's thread. `attempt` makes a reply of whatever `work` raises."""

    def __init__(self, loop: Loop, workers: Workers, attempt: Attempt) -> None:
        self._loop = loop
        self._workers = workers
        self._attempt = attempt
        self._handles: Dict[int, Handle] = {}

    def new(self, number: int, is_patient: bool) -> Handle:
        """A handle to be opened; EINVAL if the number is in use."""
        if number in self._handles or not 0 < number <= _LARGEST_NUMBER:
            raise failure(errno.EINVAL)
        handle = self._handles[number] = Handle(number, is_patient)
        return handle

    def get(self, number: int) -> Handle:
        """The handle of that number, open or about to be; EBADF without."""
        handle = self._handles.get(number)
        if handle is None:
            raise failure(errno.EBADF)
        return handle

    def drop(self, handle: Handle) -> None:
        """Forget a handle that could not be opened."""
        if self._handles.get(handle.number) is handle:
            del self._handles[handle.number]

    def submit(self, task: Task) -> None:
        """Carry out a task after all others of its handles that came before."""
        for handle in task.handles:
            handle.queue.append(task)
        self._advance(task.handles[0])

    def give_up(self, handle: Handle, lanes: Tuple[int, ...], owner: int = 0) -> None:
        """Whatever in these lanes (and of this owner, if one is given) waits, or would have to, is answered EINTR."""
        waiting = [*handle.queue, *handle.parked, *([handle.running] if handle.running is not None else [])]
        for task in waiting:
            if task.lane in lanes and (not owner or task.owner == owner):
                task.is_given_up = True
                if task in handle.parked:
                    self._unpark(task)
                    task.end(Failed(errno.EINTR))
        self._advance(handle)

    def close(self, number: int, finish: Callable[[Handle], None]) -> None:
        """close(2) once all else is done; nothing waits any longer. `finish` runs on a worker before that."""
        handle = self._handles.pop(number, None)
        if handle is None:
            return
        self.give_up(handle, (OPEN, READ, WRITE, LOCK))
        self.submit(Task((handle,), lambda: _close(handle, finish), lambda message: None))

    def close_all(self) -> None:
        """At the end of the session: no file stays open, nothing is answered."""
        for handle in self._handles.values():
            for task in list(handle.parked):
                self._unpark(task)
            if handle.fd >= 0 and handle.running is None:
                os.close(handle.fd)
        self._handles.clear()

    # -- the life of a task -------------------------------------------------------------------------------------------

    def _advance(self, handle: Handle) -> None:
        task = handle.first()
        if task is None or not all(each.first() is task for each in task.handles):
            return
        for each in task.handles:
            each.queue.remove(task)
            each.running = task
        self._workers.submit(lambda: self._run(task))

    # On a worker.
    def _run(self, task: Task) -> Outcome:
        blocked = []

        def work() -> Message:
            try:
                return task.work()
            except BlockingIOError as error:
                blocked.append(error)
                return failed(error)

        message = self._attempt(work)
        return lambda: self._ran(task, message, bool(blocked))

    def _ran(self, task: Task, message: Message, is_blocked: bool) -> None:
        handles = task.handles
        for handle in handles:
            handle.running = None
        if is_blocked and task.is_patient and not task.is_given_up:
            self._park(task)
        else:
            task.end(Failed(errno.EINTR) if is_blocked and task.is_patient else message)
        for handle in handles:
            self._advance(handle)

    # -- waiting ------------------------------------------------------------------------------------------------------

    # A second handle was looked at by the first attempt, and is not held up.
    def _park(self, task: Task) -> None:
        task.handles = task.handles[:1]
        task.handles[0].parked.append(task)
        if task.events and self._watch(task.handles[0]):
            return
        task.timer = self._loop.call_later(task.delay_s, lambda: self._again(task))
        task.delay_s = min(task.delay_s * 2, _LONGEST_RETRY_S[task.lane])

    def _unpark(self, task: Task) -> None:
        task.handles[0].parked.remove(task)
        if task.timer is not None:
            task.timer.cancel()
            task.timer = None
        elif task.events:
            self._watch(task.handles[0])

    def _again(self, task: Task) -> None:
        self._unpark(task)
        task.handles[0].queue.appendleft(task)
        self._advance(task.handles[0])

    # Watch the file for what is parked on it now. False: it is not of a kind that can be watched.
    def _watch(self, handle: Handle) -> bool:
        events = 0
        for task in handle.parked:
            if task.timer is None:
                events |= task.events
        if not events:
            self._loop.unwatch(handle.fd)
            return True
        try:
            self._loop.watch(handle.fd, events, lambda mask: self._ready(handle, mask))
        except OSError:  # EPERM: regular files, and devices without poll
            return False
        return True

    def _ready(self, handle: Handle, mask: int) -> None:
        for task in list(handle.parked):
            if task.timer is None and task.events & mask:
                self._again(task)


def _close(handle: Handle, finish: Callable[[Handle], None]) -> Message:
    if handle.fd >= 0:
        try:
            finish(handle)
        finally:
            fd, handle.fd = handle.fd, -1
            os.close(fd)
    return Done()
