"""The two neighbours of what is tested here: a pod behind a session, and the kernel's half of FUSE.

The pod is a directory of this machine, worked on by the agent's own functions, one request at a time and only when the test
says so: `Pod.asked` counts round trips, and `Pod.waiting` can be answered in any order, early or late.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mirrord_trace.agent.root import Root
from mirrord_trace.agent.tree import attributes, names, transfer
from mirrord_trace.agent.tree.directory import read_directory
from mirrord_trace.agent.tree.handles import Handle
from mirrord_trace.agent.tree.locks import Locks
from mirrord_trace.agent.tree.opening import WIRE_O_NONBLOCK, Opening
from mirrord_trace.agent.tree.paths import open_object
from mirrord_trace.agent.tree.walk import walk
from mirrord_trace.agent.wire import file_messages as wire
from mirrord_trace.agent.wire.messages import Access, Done, Failed, LinkTarget, Message, ReadLink


class Question:
    """A request on its way. `reply`: what the pod has answered, which may not have arrived yet."""

    def __init__(self, message: Message, on_reply: Callable[[Message], None]) -> None:
        self.message = message
        self.on_reply = on_reply
        self.reply: Message | None = None


class Soon:
    """Stands for the loop."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def run(self) -> None:
        while self._callbacks:
            self._callbacks.pop(0)()


class Pod:
    """Stands for the session. `refusals`: errnos by type of request; `broken`: what `request` raises, once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = Root(os.open(folder, os.O_PATH | os.O_DIRECTORY))
        self.asked: list[Message] = []
        self.notices: list[Message] = []
        self.waiting: list[Question] = []
        self.refusals: dict[type[Message], int] = {}
        self.broken: Exception | None = None
        self.handles: dict[int, Handle] = {}
        self.loop: Any = Soon()
        self._locks = Locks()

    # -- what the code under test does ------------------------------------------------------------------------------------

    def request(self, message: Message, on_reply: Callable[[Message], None], deadline_s: float = 30.0) -> None:
        if self.broken is not None:
            error, self.broken = self.broken, None
            raise error
        assert deadline_s >= 30.0
        self.asked.append(message)
        self.waiting.append(Question(message, on_reply))

    def notify(self, message: Message) -> None:
        self.notices.append(message)
        if isinstance(message, wire.CloseHandle):
            handle = self.handles.pop(message.handle, None)
            if handle is not None:
                self._locks.release(handle)
                os.close(handle.descriptor())
        elif isinstance(message, wire.GiveUpWait):
            for question in self.waiting:
                if question.reply is None and getattr(question.message, "handle", 0) == message.handle:
                    question.reply = Failed(4)

    # -- what the test does -----------------------------------------------------------------------------------------------

    def take(self) -> list[str]:
        """The kinds of requests since the last time."""
        asked, self.asked = self.asked, []
        return [type(message).__name__ for message in asked]

    def closed(self) -> list[int]:
        """The handles that have been closed, in order."""
        return [message.handle for message in self.notices if isinstance(message, wire.CloseHandle)]

    def carry_out(self, index: int = 0) -> None:
        """Let the pod do what it is asked; the answer stays on its way."""
        question = self.waiting[index]
        if question.reply is None:
            question.reply = self._reply(question.message)

    def answer(self, index: int = 0, reply: Message | None = None) -> bool:
        """Let an answer arrive: `reply`, or what the pod says. False: it waits for something."""
        question = self.waiting[index]
        if reply is None:
            self.carry_out(index)
            reply = question.reply
        if reply is None:
            return False
        self.waiting.remove(question)
        question.on_reply(reply)
        if isinstance(self.loop, Soon):
            self.loop.run()
        return True

    def answer_all(self) -> None:
        """Everything that can be answered, the oldest first, and what is asked because of it."""
        while any(self.answer(index) for index in range(len(self.waiting))):
            pass

    def close(self) -> None:
        for handle in self.handles.values():
            os.close(handle.descriptor())
        self._locks.close()
        self.root.close()

    def write(self, path: str, content: bytes | str = b"", mode: int = 0o644) -> Path:
        """Somebody in the pod writes a file, in place."""
        where = self.folder / path
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_bytes(content if isinstance(content, bytes) else content.encode())
        where.chmod(mode)
        return where

    def replace(self, path: str, content: bytes) -> None:
        """Somebody in the pod puts another file in the place of this one."""
        other = self.write(path + ".new", content)
        other.rename(self.folder / path)

    # -- the agent's part -------------------------------------------------------------------------------------------------

    def _reply(self, message: Message) -> Message | None:
        refusal = self.refusals.get(type(message))
        if refusal is not None:
            return Failed(refusal)
        try:
            return _ANSWERS[type(message)](self, message)
        except BlockingIOError as error:
            return None if getattr(message, "wait", True) else Failed(error.errno or 0)
        except OSError as error:
            return Failed(error.errno or 0)

    def handle(self, number: int) -> Handle:
        if number not in self.handles:
            raise OSError(9, "no such handle")
        return self.handles[number]

    def open_handle(self, message: wire.OpenHandle) -> Message:
        assert message.handle not in self.handles
        handle = Handle(message.handle, not message.flags & WIRE_O_NONBLOCK)
        source = self.handle(message.source) if message.source else None
        opening = Opening(self.root, message, handle, source)
        try:
            found = opening.attempt()
        finally:
            opening.abandon()
        self.handles[message.handle] = handle
        return found

    def lock(self, message: wire.LockFile) -> Message:
        return self._locks.set(self.handle(message.handle), message)

    def get_lock(self, message: wire.GetLock) -> Message:
        return self._locks.get(self.handle(message.handle), message)


def _on_file(answer: Callable[[int, Any], Message]) -> Callable[[Pod, Any], Message]:
    def by_path_or_handle(pod: Pod, message: Any) -> Message:
        if getattr(message, "handle", 0):
            return answer(pod.handle(message.handle).descriptor(), message)
        with open_object(pod.root, message.path) as fd:
            return answer(fd, message)

    return by_path_or_handle


def _on_handle(answer: Callable[[Handle, Any], Message]) -> Callable[[Pod, Any], Message]:
    return lambda pod, message: answer(pod.handle(message.handle), message)


def _link(pod: Pod, message: wire.LinkFile) -> Message:
    if message.handle:
        return names.link_open_file(pod.root, pod.handle(message.handle).descriptor(), message.new_path)
    return names.link_path(pod.root, message)


def _set_attributes(pod: Pod, message: wire.SetAttributes) -> Message:
    is_writable = bool(message.handle) and pod.handle(message.handle).is_writable
    return _on_file(lambda fd, request: attributes.set_attributes(fd, request, is_writable))(pod, message)


_ANSWERS: dict[type[Message], Callable[[Pod, Any], Message]] = {
    wire.Walk: lambda pod, message: walk(pod.root, message),
    wire.ReadDirectory: lambda pod, message: read_directory(pod.root, message),
    wire.MakeNode: lambda pod, message: names.make_node(pod.root, message),
    wire.MakeLink: lambda pod, message: names.make_link(pod.root, message),
    wire.LinkFile: _link,
    wire.RemoveName: lambda pod, message: names.remove_name(pod.root, message),
    wire.RenameFile: lambda pod, message: names.rename_file(pod.root, message),
    wire.SetAttributes: _set_attributes,
    wire.GetXattr: _on_file(attributes.get_xattr),
    wire.ListXattr: _on_file(attributes.list_xattr),
    wire.SetXattr: _on_file(attributes.set_xattr),
    wire.RemoveXattr: _on_file(attributes.remove_xattr),
    wire.StatFs: _on_file(lambda fd, message: attributes.stat_fs(fd)),
    wire.OpenHandle: Pod.open_handle,
    wire.ReadHandle: _on_handle(transfer.read),
    wire.WriteHandle: _on_handle(lambda handle, message: transfer.Writing(handle, message).attempt()),
    wire.PollHandle: _on_handle(transfer.poll),
    wire.SyncHandle: _on_handle(transfer.sync),
    wire.AllocateHandle: _on_handle(transfer.allocate),
    wire.SeekHandle: _on_handle(transfer.seek),
    wire.CopyRange: lambda pod, message: transfer.copy_range(pod.handle(message.source), pod.handle(message.handle), message),
    wire.StatHandle: _on_handle(lambda handle, message: transfer.stat_handle(handle)),
    wire.LockFile: Pod.lock,
    wire.GetLock: Pod.get_lock,
    ReadLink: lambda pod, message: LinkTarget(os.readlink(os.fsencode(pod.folder) + message.path)),
    Access: lambda pod, message: Done(),
}
