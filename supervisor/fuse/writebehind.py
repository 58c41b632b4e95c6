"""Writing behind: write(2) returns when the data is here, and a failure in the pod is told by fsync(2) or close(2).

What was written is on its way at once, and the pod carries out the writes of one open file in order. Whoever needs the file's
state in the pod (attributes, another open file of it) waits until everything is acknowledged. The amount on its way is
bounded, and a writer that is ahead of the channel waits for room. Nothing is lost when the program is killed: the relay has
the data.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable

from ...agent.pump.session import Session
from ...agent.wire.errors import LocalProtocolError
from ...agent.wire.file_messages import WriteHandle
from ...agent.wire.messages import Done, Failed, Message
from .nodes import Node
from .waiting import DEADLINE_S, Outcome, Work, ask, failure

LIMIT_BYTES = 32 * 1024 * 1024
"""What may be on its way, over all files."""

JOINED_BYTES = 128 * 1024
"""So much of joined writes is sent at once."""


class _Held:
    # Writes through one open file, one behind the other, that are not on their way yet.
    __slots__ = ("handle", "offset", "parts", "size")

    def __init__(self, handle: int, offset: int, content: bytes) -> None:
        self.handle = handle
        self.offset = offset
        self.parts = [content]
        self.size = len(content)

    def takes(self, handle: int, offset: int, content: bytes) -> bool:
        return handle == self.handle and offset == self.offset + self.size and self.size + len(content) <= JOINED_BYTES

    def add(self, content: bytes) -> None:
        self.parts.append(content)
        self.size += len(content)


class WriteBehind:
    """Writes of one session. `is_on` False: every write is waited for.

    `changed(node)`: its content in the pod may be another. `arrived(node)`: the pod has everything.
    """

    def __init__(
        self,
        session: Session,
        is_on: bool,
        changed: Callable[[Node], None],
        arrived: Callable[[Node], None] = lambda node: None,
    ) -> None:
        self._session = session
        self._is_on = is_on
        self._changed = changed
        self._arrived = arrived
        self._unsent = 0
        self._held: dict[Node, _Held] = {}
        self._writers: dict[Node, int] = {}
        self._waiting_for_room: deque[Callable[[Outcome], None]] = deque()
        self._waiting_for_all: list[Callable[[Outcome], None]] = []

    @property
    def unsent_bytes(self) -> int:
        """What the pod has not acknowledged."""
        return self._unsent

    def write(self, node: Node, handle: int, offset: int, content: bytes) -> Work[None]:
        """pwrite(2). Raises what an earlier write of the file has failed with."""
        if not self._is_on:
            try:
                yield from ask(self._session, WriteHandle(handle, offset, content), Done)
            finally:
                self._changed(node)
            return
        yield from self._turn(node, handle, len(content))
        if node.write_errno:
            raise failure(node.write_errno)
        held = self._held.get(node)
        if held is not None and held.takes(handle, offset, content):
            held.add(content)
            self._count(node, len(content))
            if held.size == JOINED_BYTES:
                self.push(node)
        else:
            self.push(node)
            if node.write_errno:
                raise failure(node.write_errno)
            if node.unsent and len(content) < JOINED_BYTES:
                self._held[node] = _Held(handle, offset, content)
            else:
                self._send(node, handle, offset, content)
            self._count(node, len(content))
        self._changed(node)

    # Waits for room; and for what was written through another open file, since the pod keeps no order between two.
    def _turn(self, node: Node, handle: int, size: int) -> Work[None]:
        while not node.write_errno:
            if node.unsent and self._writers.get(node) != handle:
                yield from self.drained(node)
            elif self._unsent and self._unsent + size > LIMIT_BYTES:
                yield self._waiting_for_room.append
            else:
                break
        self._writers[node] = handle

    def push(self, node: Node) -> None:
        """What is held of a file goes on its way."""
        held = self._held.pop(node, None)
        if held is None:
            return
        try:
            self._send(node, held.handle, held.offset, b"".join(held.parts))
        except (OSError, LocalProtocolError):  # write(2) has returned long ago: close(2) will tell
            node.write_errno = node.write_errno or errno.EIO
            self._count(node, -held.size)
            self._wake(node)

    def _count(self, node: Node, size: int) -> None:
        node.unsent += size
        self._unsent += size

    def _send(self, node: Node, handle: int, offset: int, content: bytes) -> None:
        def acknowledged(reply: Message) -> None:
            self._count(node, -len(content))
            if not isinstance(reply, Done):
                node.write_errno = node.write_errno or (reply.errno if isinstance(reply, Failed) else 0) or errno.EIO
            self._changed(node)
            held = self._held.get(node)
            if held is not None and held.size == node.unsent:
                self.push(node)
            self._wake(node)

        self._session.request(WriteHandle(handle, offset, content), acknowledged, DEADLINE_S)

    def _wake(self, node: Node) -> None:
        if not node.unsent:
            self._writers.pop(node, None)
            waiting, node.waiting = node.waiting, []
            for settle in waiting:
                settle(None)
            self._arrived(node)
        for _ in range(len(self._waiting_for_room)):
            self._waiting_for_room.popleft()(None)
        if not self._unsent:
            everything, self._waiting_for_all = self._waiting_for_all, []
            for settle in everything:
                settle(None)

    def drained(self, node: Node) -> Work[None]:
        """Wait until the pod has everything written to `node`."""
        self.push(node)
        while node.unsent:
            yield node.waiting.append
            self.push(node)

    def all_drained(self) -> Work[None]:
        """Wait until the pod has everything."""
        for node in list(self._held):
            self.push(node)
        while self._unsent:
            yield self._waiting_for_all.append

    def take_error(self, node: Node) -> None:
        """fsync(2), close(2): raise, once, what a write has failed with."""
        code, node.write_errno = node.write_errno, 0
        if code:
            raise failure(code)
