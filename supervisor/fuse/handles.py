"""Open files: what the kernel holds by number, and what of it is open in the pod.

A small file whose content came with the way to it is opened here alone, without a round trip: all that is read of it is
here. It is opened in the pod as well, and has to be the same file still (ESTALE otherwise), once something needs that: a
lock, a read after the content has aged, the removal of its last name.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from ...agent.wire.file_messages import CloseHandle, Content, OpenHandle, ReadHandle
from ...agent.wire.messages import Attributes, Message
from ..fuse import protocol
from .nodes import Node, key_of
from .readahead import ReadAhead
from .tree import Tree
from .waiting import DEADLINE_S, NO_DEADLINE_S, Outcome, Work, failure

_ACCESS_MODE = 3
_APPEND = 0o2000
_NONBLOCK = 0o4000
_CREATES = 0o100 | 0o200 | 0o1000 | 0o20000000

WIRE_FLAGS = _ACCESS_MODE | _CREATES | _APPEND | _NONBLOCK | 0o10000 | 0o4000000 | 0o1000000
"""Flags of open(2) that mean something in the pod: how it is opened, created, appended to, synchronised."""


class OpenFile:
    """One open file description. `flags`: open(2)'s, as in `WIRE_FLAGS`. `content`: all of it, if it is open here alone."""

    __slots__ = (
        "ahead",
        "awaited",
        "content",
        "content_until_s",
        "flags",
        "id",
        "is_remote",
        "is_stream",
        "lock_owners",
        "node",
        "opening",
        "placed",
    )

    def __init__(self, number: int, node: Node, flags: int, ahead: ReadAhead) -> None:
        self.id = number
        self.node = node
        self.flags = flags
        self.ahead = ahead
        self.is_remote = False
        self.is_stream = False
        self.content: bytes | None = None
        self.content_until_s = 0.0
        self.opening: list[Callable[[Outcome], None]] | None = None
        self.lock_owners: set[int] = set()
        self.awaited: list[int] = []
        """The events of poll(2) for which the pod's file is watched (polls.py), for each time that it is."""
        self.placed = 0
        """The same file open in the pod once more, without O_APPEND; 0: not needed so far."""

    @property
    def appends(self) -> bool:
        """Whether every write goes to the end of the file."""
        return bool(self.flags & _APPEND)

    @property
    def writes(self) -> bool:
        """Whether it may be written to."""
        return self.flags & _ACCESS_MODE != 0


class Handles:
    """The open files of the tree. Their numbers are the agent's handles too."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._files: dict[int, OpenFile] = {}
        self._next = 1

    def __len__(self) -> int:
        return len(self._files)

    def get(self, number: int) -> OpenFile:
        """EBADF if there is none."""
        file = self._files.get(number)
        if file is None:
            raise failure(errno.EBADF)
        return file

    def reserve(self) -> int:
        """A number for a file that is about to be opened."""
        number = self._next
        self._next += 1
        return number

    def add(self, number: int, node: Node, flags: int, *, is_remote: bool) -> OpenFile:
        """From now on `number` is open."""
        tree = self._tree
        ahead = ReadAhead(
            lambda offset, size, settle: self._fetch(number, offset, size, settle),
            tree.clock,
            max(tree.settings.lifetimes.attribute_s, 1.0),
            tree.settings.read_ahead,
        )
        file = self._files[number] = OpenFile(number, node, flags, ahead)
        file.is_remote = is_remote
        file.is_stream = node.key[2] in protocol.STREAM_TYPES
        node.handles.add(number)
        return file

    def remove(self, number: int) -> None:
        """The last reference to the open file is gone."""
        file = self._files.pop(number, None)
        if file is None:
            return
        file.node.handles.discard(number)
        self._tree.behind.push(file.node)  # pages of a mapping come without a FLUSH after them
        if file.is_remote or file.opening is not None:
            self._tree.session.notify(CloseHandle(number))
        if file.placed:
            self._tree.session.notify(CloseHandle(file.placed))
        self._tree.nodes.drop_if_unused(file.node)

    def remove_all(self) -> None:
        """Nobody can use any of them any more."""
        for number in list(self._files):
            self.remove(number)

    def any_of(self, node: Node) -> int:
        """A handle of the file that is open in the pod; ESTALE if there is none."""
        for number in node.handles:
            if self._files[number].is_remote:
                return number
        raise failure(errno.ESTALE)

    def of(self, node: Node) -> list[OpenFile]:
        """All open files of an inode."""
        return [self._files[number] for number in node.handles]

    def open_remote(self, number: int, path: bytes, flags: int, mode: int, source: int = 0) -> Work[Attributes]:
        """open(2) in the pod. A FIFO may be waited for."""
        request = OpenHandle(number, path, flags, mode, source)
        return (yield from self._tree.ask(request, Attributes, NO_DEADLINE_S))

    def make_remote(self, number: int) -> Work[OpenFile]:
        """The file, open in the pod as well."""
        file = self.get(number)
        if file.opening is not None:
            outcome = yield file.opening.append
            if isinstance(outcome, OSError):
                raise outcome
        if file.is_remote:
            return file
        waiting: list[Callable[[Outcome], None]] = []
        file.opening = waiting
        failed: OSError | None = None
        try:
            reply = yield from self.open_remote(number, file.node.path, file.flags & ~_CREATES, 0)
            if key_of(reply.stat) != file.node.key:
                if number in self._files:
                    self._tree.session.notify(CloseHandle(number))
                raise failure(errno.ESTALE)
            file.is_remote = True
        except OSError as error:
            failed = error
            raise
        finally:
            file.opening = None
            for settle in waiting:
                settle(failed)
        return file

    def _fetch(self, number: int, offset: int, size: int, settle: Callable[[Outcome], None]) -> None:
        def arrived(reply: Message) -> None:
            if isinstance(reply, Content):
                settle(reply.content)
            else:
                settle(failure(getattr(reply, "errno", 0) or errno.EIO))

        file = self._files.get(number)
        deadline = NO_DEADLINE_S if file is not None and file.is_stream else DEADLINE_S
        self._tree.session.request(ReadHandle(number, offset, size), arrived, deadline)

    def fetch(self, number: int, offset: int, size: int) -> Work[bytes]:
        """pread(2) in the pod, just this."""
        content = yield lambda settle: self._fetch(number, offset, size, settle)
        return bytes(content)
