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
from ...agent.wire.file_messages import WriteHandle
from ...agent.wire.messages import Done, Failed, Message
from .nodes import Node
from .waiting import DEADLINE_S, Outcome, Work, ask, failure

LIMIT_BYTES = 32 * 1024 * 1024
"""What may be on its way, over all files."""


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
        while not node.write_errno and self._unsent and self._unsent + len(content) > LIMIT_BYTES:
            yield self._waiting_for_room.append
        if node.write_errno:
            raise failure(node.write_errno)
        self._send(node, handle, offset, content)
        self._changed(node)

    def _send(self, node: Node, handle: int, offset: int, content: bytes) -> None:
        size = len(content)

        def acknowledged(reply: Message) -> None:
            node.unsent -= size
            self._unsent -= size
            if not isinstance(reply, Done):
                node.write_errno = node.write_errno or (reply.errno if isinstance(reply, Failed) else 0) or errno.EIO
            self._changed(node)
            self._wake(node)

        self._session.request(WriteHandle(handle, offset, content), acknowledged, DEADLINE_S)
        node.unsent += size
        self._unsent += size

    def _wake(self, node: Node) -> None:
        if not node.unsent:
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
        while node.unsent:
            yield node.waiting.append

    def all_drained(self) -> Work[None]:
        """Wait until the pod has everything."""
        while self._unsent:
            yield self._waiting_for_all.append

    def take_error(self, node: Node) -> None:
        """fsync(2), close(2): raise, once, what a write has failed with."""
        code, node.write_errno = node.write_errno, 0
        if code:
            raise failure(code)
