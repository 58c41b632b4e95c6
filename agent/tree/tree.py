"""The pod's files as a tree for the client to mount: which message is answered by what, and on which thread.

Calls by path run side by side on worker threads, those on a handle in the handle's order. The threads have the target's
rights (identity.py), the loop's thread has not: it opens nothing.
"""

from __future__ import annotations

import errno
import select
from typing import Any, Callable, Dict, Optional, Type

from ..net import Reply, failed
from ..pump.loop import READ, WRITE, Loop
from ..pump.session import Session
from ..target import Target
from ..wire import file_messages as wire
from ..wire.messages import Message
from ..workers import Workers
from . import attributes, identity, names, transfer
from .directory import read_directory
from .handles import ANY, LOCK, OPEN, Attempt, Handle, Handles, Task
from .locks import Locks
from .opening import WIRE_O_NONBLOCK, Opening
from .paths import failure, open_object
from .walk import walk
from .watches import Watches

_THREADS = 16

Handler = Callable[[Any, Reply], None]


class Tree:
    """Answers the messages of `wire/file_messages.py`. On the loop's thread, and never blocks."""

    def __init__(self, loop: Loop, session: Session, target: Target, attempt: Attempt) -> None:
        credentials = target.credentials or identity.read_credentials(target.pid)
        self._root = target.root
        self._inner_pid = credentials.inner_pid
        self._attempt = attempt = _refusing(attempt)
        self._workers = Workers(loop, _THREADS, lambda: identity.assume(credentials))
        self._handles = Handles(loop, self._workers, attempt)
        self._locks = Locks()
        self._watches = Watches(loop, session, target.root, self._workers, attempt)

    def handlers(self) -> Dict[Type[Message], Handler]:
        """The requests."""
        root, inner_pid = self._root, self._inner_pid
        return {
            wire.Walk: self._on_thread(lambda request: walk(root, request, inner_pid)),
            wire.ReadDirectory: self._on_thread(lambda request: read_directory(root, request)),
            wire.MakeNode: self._on_thread(lambda request: names.make_node(root, request)),
            wire.MakeLink: self._on_thread(lambda request: names.make_link(root, request)),
            wire.LinkFile: self._on_either(
                lambda request: names.link_path(root, request),
                lambda handle, request: names.link_open_file(root, handle.descriptor(), request.new_path),
            ),
            wire.RemoveName: self._on_thread(lambda request: names.remove_name(root, request)),
            wire.RenameFile: self._on_thread(lambda request: names.rename_file(root, request)),
            wire.SetAttributes: self._on_either(
                self._with_object(attributes.set_attributes),
                lambda handle, request: attributes.set_attributes(handle.descriptor(), request, handle.is_writable),
            ),
            wire.GetXattr: self._on_object(attributes.get_xattr),
            wire.ListXattr: self._on_object(attributes.list_xattr),
            wire.SetXattr: self._on_object(attributes.set_xattr),
            wire.RemoveXattr: self._on_object(attributes.remove_xattr),
            wire.StatFs: self._on_thread(self._with_object(lambda fd, request: attributes.stat_fs(fd))),
            wire.WatchPath: self._watches.add,
            **self._handle_handlers(),
        }

    def _handle_handlers(self) -> Dict[Type[Message], Handler]:
        return {
            wire.OpenHandle: self._open,
            wire.ReadHandle: self._read,
            wire.WriteHandle: self._write,
            wire.SyncHandle: self._on_handle(transfer.sync),
            wire.AllocateHandle: self._on_handle(transfer.allocate),
            wire.SeekHandle: self._on_handle(transfer.seek),
            wire.CopyRange: self._copy_range,
            wire.StatHandle: self._on_handle(lambda handle, request: transfer.stat_handle(handle)),
            wire.LockFile: self._lock,
            wire.GetLock: self._on_handle(self._locks.get),
            wire.PollHandle: self._poll,
        }

    def notice(self, message: Message) -> None:
        """What is not answered; other notices are none of ours."""
        if isinstance(message, wire.CloseHandle):
            self._handles.close(message.handle, self._locks.release)
        elif isinstance(message, wire.UnwatchPath):
            self._watches.remove(message)
        elif isinstance(message, wire.GiveUpWait):
            try:
                handle = self._handles.get(message.handle)
            except OSError:
                return
            self._handles.give_up(handle, (LOCK,) if message.owner else (OPEN, READ, WRITE), message.owner)

    def close(self) -> None:
        """The session is over: every file, lock and watch goes."""
        self._handles.close_all()
        self._locks.close()
        self._watches.close()

    # -- threads --------------------------------------------------------------------------------------------------------

    def _on_thread(self, answer: Callable[[Any], Message]) -> Handler:
        def work(request: Message, reply: Reply) -> Callable[[], None]:
            message = self._attempt(lambda: answer(request))
            return lambda: reply(message)

        return lambda request, reply: self._workers.submit(lambda: work(request, reply))

    def _on_handle(self, answer: Callable[[Handle, Any], Message]) -> Handler:
        def handler(request: Any, reply: Reply) -> None:
            self._submit(request, reply, lambda handle: lambda: answer(handle, request), is_patient=False)

        return handler

    # By handle if there is one, else by path; `answer` gets a descriptor.
    def _on_object(self, answer: Callable[[int, Any], Message]) -> Handler:
        return self._on_either(self._with_object(answer), lambda handle, request: answer(handle.descriptor(), request))

    def _on_either(self, by_path: Callable[[Any], Message], by_handle: Callable[[Handle, Any], Message]) -> Handler:
        with_path, with_handle = self._on_thread(by_path), self._on_handle(by_handle)
        return lambda request, reply: (with_handle if request.handle else with_path)(request, reply)

    def _with_object(self, answer: Callable[[int, Any], Message]) -> Callable[[Any], Message]:
        def by_path(request: Any) -> Message:
            with open_object(self._root, request.path) as fd:
                return answer(fd, request)

        return by_path

    # A task on a handle; `work` gets the handle and makes the task's work.
    def _submit(
        self,
        request: Any,
        reply: Reply,
        work: Callable[[Handle], Callable[[], Message]],
        lane: int = ANY,
        owner: int = 0,
        is_patient: Optional[bool] = None,
        events: int = 0,
    ) -> None:
        try:
            handle = self._handles.get(request.handle)
        except OSError as error:
            reply(failed(error))
            return
        waits = handle.is_patient if is_patient is None else is_patient
        self._handles.submit(Task((handle,), work(handle), reply, lane, owner, waits, events))

    # -- single messages ------------------------------------------------------------------------------------------------

    def _open(self, request: wire.OpenHandle, reply: Reply) -> None:
        try:
            source = self._handles.get(request.source) if request.source else None
            handle = self._handles.new(request.handle, not request.flags & WIRE_O_NONBLOCK)
        except OSError as error:
            reply(failed(error))
            return
        opening = Opening(self._root, request, handle, source)

        def ended() -> None:
            opening.abandon()
            if handle.fd < 0:
                self._handles.drop(handle)

        handles = (handle,) if source is None else (handle, source)
        self._handles.submit(Task(handles, opening.attempt, reply, OPEN, is_patient=handle.is_patient, on_end=ended))

    def _read(self, request: wire.ReadHandle, reply: Reply) -> None:
        self._submit(request, reply, lambda handle: lambda: transfer.read(handle, request), READ)

    def _write(self, request: wire.WriteHandle, reply: Reply) -> None:
        self._submit(request, reply, lambda handle: transfer.Writing(handle, request).attempt, WRITE)

    def _copy_range(self, request: wire.CopyRange, reply: Reply) -> None:
        try:
            source, target = self._handles.get(request.source), self._handles.get(request.handle)
        except OSError as error:
            reply(failed(error))
            return
        handles = (target,) if source is target else (target, source)
        self._handles.submit(Task(handles, lambda: transfer.copy_range(source, target, request), reply))

    def _lock(self, request: wire.LockFile, reply: Reply) -> None:
        is_patient = request.wait and request.kind != wire.NO_LOCK
        self._submit(request, reply, lambda handle: lambda: self._locks.set(handle, request), LOCK, request.owner, is_patient)


    # In the lane of locks, since it holds up nothing either.
    def _poll(self, request: wire.PollHandle, reply: Reply) -> None:
        events = (READ if request.events & select.POLLIN else 0) | (WRITE if request.events & select.POLLOUT else 0)
        self._submit(request, reply, lambda handle: lambda: transfer.poll(handle, request), LOCK, 0, request.wait, events)


# Numbers that fit into a message and not into a system call are the asker's fault, not a bug of ours.
def _refusing(attempt: Attempt) -> Attempt:
    def within(work: Callable[[], Message]) -> Message:
        try:
            return work()
        except OverflowError as error:
            raise failure(errno.EINVAL) from error

    return lambda work: attempt(lambda: within(work))
