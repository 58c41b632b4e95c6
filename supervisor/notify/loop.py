"""The loop of this engine: notifications, the relay, sockets that calls wait for, and how the program ends.

One thread, epoll(7). Unlike the tracer's loop it can wait for descriptors, so no doorbell is needed: what others have for
it comes by an eventfd(2).
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import sys
import time
from collections import deque
from collections.abc import Callable

from ..descendants import descendants
from ..errors import UsageError
from ..tracer import privileges
from ..tracer.compiled import Compiled
from ..tracer.space import BY_NUMBER
from ..tracer.stops import Ended, classify
from .calls import NotifiedCall
from .driver import Driver
from .guard import NAME
from .launch import Supervised
from .listener import Notification, decode
from .tasks import Tasks

_TICK_S = 0.1
_BUSY_TICK_S = 0.02
_RECHECK_S = 0.5
_X32_BIT = 0x40000000


class Loop:
    """Supervises one program and everything it starts, until the last of it has ended. See tracer/loop.py."""

    def __init__(
        self,
        driver: Driver,
        tasks: Tasks,
        launched: Supervised,
        program: str,
        link_fd: int,
        compiled: Compiled | None = None,
    ) -> None:
        self.root_end: Ended | None = None
        self.on_ring: Callable[[], None] = lambda: None
        """Called when the relay has something for us, and now and then."""
        self.on_child_end: Callable[[int], None] = lambda pid: None
        """Called with the pid of an ended child: the relay."""
        self.children: tuple[int, ...] = ()
        """The children that `on_child_end` is about."""
        self._driver = driver
        self._tasks = tasks
        self._launched = launched
        self._program = program
        self._link_fd = link_fd
        self._posted: deque[Callable[[], None]] = deque()
        self._is_stopped = False
        self._has_ended = False
        self._told: set[str] = set()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll = select.epoll()
        self._waiting: dict[int, NotifiedCall] = {}
        self._tick_at_s = 0.0
        self._recheck_at_s = 0.0
        self._line = b""
        self._stops = 0
        self._compiled = compiled
        for fd in (self._wake, link_fd, launched.events):
            self._epoll.register(fd, select.EPOLLIN)
        tasks.on_new = lambda tid: self._tell(privileges.lost(tid))
        driver.start(launched.listener, tasks, self)

    @property
    def stops(self) -> int:
        """Notifications of all supervised threads so far."""
        return self._stops + (self._compiled.stops if self._compiled is not None else 0)

    def post(self, work: Callable[[], None]) -> None:
        """Have `work` done by the loop's thread. Any thread; never blocks."""
        self._posted.append(work)
        os.eventfd_write(self._wake, 1)

    def kill_all(self, number: int) -> None:
        """Send a signal to every supervised process."""
        _send(number, descendants(self._launched.guard), -1)

    def pass_on(self, number: int) -> None:
        """See tracer/loop.py."""
        self._read_events()
        group = os.getpgrp() if self._launched.witness.has_got(number) else -1
        root = self._launched.pid
        if self.root_end is None:
            # Not known to be reaped: at worst the number is nobody's.
            if number != signal.SIGCONT or self._is_stopped:
                _send(number, [root], group)
        else:
            _send(number, descendants(self._launched.guard), group)

    # -- waiting ------------------------------------------------------------------------------------------------------

    def run(self) -> Ended:
        """Until nothing is left. Returns how the first process ended; UsageError if it could not be executed."""
        listener = self._launched.listener.fd
        # With an observer every call takes the long way, to have something to tell.
        compiled = self._compiled if self._driver.observer is None else None
        if compiled is None:
            self._epoll.register(listener, select.EPOLLIN)
        while not self._has_ended:
            if compiled is not None and not self._pass_on_calls(compiled):
                compiled = None
            for fd, events in self._epoll.poll(0 if compiled is not None else self._patience_s()):
                if fd == listener:
                    self._notified(events)
                elif fd == self._wake:
                    self._woken()
                elif fd == self._link_fd:
                    self._linked(events)
                elif fd == self._launched.events:
                    self._read_events()
                elif fd in self._waiting:
                    self._driver.ready(self._waiting[fd])
            self._tick_if_due()
        self._driver.close()
        self._launched.listener.close()
        if self.root_end is None:
            raise UsageError(f"{NAME}, between mirrord-trace and the program, was killed; the program ends with it")
        return self.root_end

    def _patience_s(self) -> float:
        return _BUSY_TICK_S if self._driver.calls else _TICK_S

    def _tick_if_due(self) -> None:
        now_s = time.monotonic()
        if now_s < self._tick_at_s:
            return
        self._tick_at_s = now_s + self._patience_s()
        self._driver.tick()
        if now_s >= self._recheck_at_s:
            self._recheck_at_s = now_s + _RECHECK_S
            for tid in self._tasks.recheck():
                if self._compiled is not None:
                    self._compiled.take_back(tid)
        for call in list(self._waiting.values()):
            if call.socket is not None and call.socket.is_late:
                self._driver.ready(call)
        for pid in self.children:
            if _has_ended(pid):
                self.children = tuple(other for other in self.children if other != pid)
                self.on_child_end(pid)
        self.on_ring()

    def _woken(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        while self._posted:
            self._posted.popleft()()

    def _linked(self, events: int) -> None:
        self.on_ring()
        if events & (select.EPOLLHUP | select.EPOLLERR):
            self._epoll.unregister(self._link_fd)

    def watch(self, waiting: NotifiedCall) -> None:
        """See `Surroundings.watch`."""
        made = waiting.socket
        if made is None:
            return
        if made.fd not in self._waiting:
            self._epoll.register(made.fd, made.events)
        self._waiting[made.fd] = waiting

    def unwatch(self, waiting: NotifiedCall) -> None:
        """See `Surroundings.unwatch`."""
        for fd in [fd for fd, call in self._waiting.items() if call is waiting]:
            del self._waiting[fd]
            self._epoll.unregister(fd)

    # -- notifications ------------------------------------------------------------------------------------------------

    def _notified(self, events: int) -> None:
        if not events & select.EPOLLIN:
            self._epoll.unregister(self._launched.listener.fd)  # nobody is left who could call
            return
        note = self._launched.listener.receive()
        if note is not None:
            self._at(note)

    # Those that are known to be local, in C, until there is one that is not; that one, here. False: nobody is left.
    def _pass_on_calls(self, compiled: Compiled) -> bool:
        found = compiled.notified(self._launched.listener.fd, self._epoll.fileno(), self._patience_s())
        if found:
            note = decode(found)
            self._at(note)
            self._lend(compiled, note)
        return found is not None

    def _lend(self, compiled: Compiled, note: Notification) -> None:
        task = self._tasks.settled(note.tid)
        if task is None:
            compiled.take_all_back()  # another of its threads may become the new program's
        elif self._launched.has_executed and note.tid not in self._driver.calls:
            compiled.lend(note.tid, BY_NUMBER, task.is_skipped)

    def _at(self, note: Notification) -> None:
        if not self._launched.has_executed and not self._driver.is_exec(note):
            self._launched.listener.go_on(note.id)  # our own child, before it has executed the program
            return
        self._stops += 1
        if not self._driver.at_notification(note):
            self._refuse(note)

    def _refuse(self, note: Notification) -> None:
        # A call of the i386 or x32 ABI: its numbers mean other calls, so letting it run would be a silent leak.
        self._launched.listener.answer(note.id, -errno.ENOSYS)
        if note.audit == self._driver.arch.audit:
            if not note.sysno >> 31:
                self._tell(f"thread {note.tid} made an x32 system call; not supported, it gets ENOSYS")
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(note.tid, signal.SIGKILL)
        self._tell(
            f"process {note.tid} made a 32-bit (i386) system call; 32-bit programs are not supported, "
            "it is killed: build the program for 64 bit"
        )

    def _tell(self, text: str) -> None:
        if text and text not in self._told:
            self._told.add(text)
            sys.stderr.write(f"mirrord-trace: {text}\n")

    # -- the first process ----------------------------------------------------------------------------------------------

    def _read_events(self) -> None:
        while not self._has_ended and _is_readable(self._launched.events):
            content = os.read(self._launched.events, 4096)
            if not content:
                self._has_ended = True
            *lines, self._line = (self._line + content).split(b"\n")
            for line in lines:
                self._program_changed(int(line))

    def _program_changed(self, status: int) -> None:
        if os.WIFSTOPPED(status):
            self._is_stopped = True
            others = set(descendants(self._launched.guard)) - {self._launched.pid}
            # See tracer/loop.py: somebody has to serve the others of the tree.
            if os.WSTOPSIG(status) != signal.SIGSTOP or not others:
                os.kill(os.getpid(), signal.SIGSTOP)
        elif os.WIFCONTINUED(status):
            self._is_stopped = False
        else:
            end = classify(status)
            assert isinstance(end, Ended)
            self.root_end = end
            if not self._launched.has_executed:
                failure = self._launched.failure(self._program)
                if failure is not None:
                    raise failure


def _is_readable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def _has_ended(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _send(number: int, processes: list[int], except_group: int) -> None:
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(pid) != except_group:
                os.kill(pid, number)
