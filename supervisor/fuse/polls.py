"""fuse(4): readiness of open files, for poll(2), select(2) and epoll(7).

Regular files are always ready. A FIFO or device of the pod is as ready as the pod's kernel says: one round trip for each look
that the program's kernel takes, and another for each time that somebody waits, who is woken when the pod's file becomes ready.
"""

from __future__ import annotations

import select
from collections.abc import Callable

from ...agent.wire.file_messages import Number, PollHandle
from . import protocol
from .handles import Handles, OpenFile
from .protocol import Request
from .tree import Tree, no_outcome
from .waiting import NO_DEADLINE_S, Work, run

_ALWAYS = select.POLLIN | select.POLLOUT | select.POLLRDNORM | select.POLLWRNORM
_UNASKED = select.POLLERR | select.POLLHUP | select.POLLNVAL


class Polls:
    """POLL. `wake` gets the number that the kernel has given to an open file, for who polls it to look again."""

    def __init__(self, tree: Tree, handles: Handles, wake: Callable[[int], object]) -> None:
        self._tree = tree
        self._handles = handles
        self._wake = wake

    def poll(self, request: Request) -> Work[bytes]:
        """POLL: one round trip for a FIFO or device, else none."""
        number, kernels_number, flags, events = protocol.POLL_IN.unpack_from(request.body)
        file = self._handles.get(number)
        if not file.is_stream:
            return protocol.POLL_OUT.pack(_ALWAYS)
        found = (yield from self._tree.ask(PollHandle(number, events, False), Number)).number
        is_awaited = any(not events & ~other for other in file.awaited)
        if flags & protocol.POLL_SCHEDULE_NOTIFY and not found & (events | _UNASKED) and not is_awaited:
            run(self._await(file, kernels_number, events), no_outcome)
        return protocol.POLL_OUT.pack(found)

    # For as long as it takes; nobody waits twice for the same. Whatever ends it, the kernel looks again.
    def _await(self, file: OpenFile, kernels_number: int, events: int) -> Work[None]:
        file.awaited.append(events)
        try:
            yield from self._tree.ask(PollHandle(file.id, events, True), Number, NO_DEADLINE_S)
        finally:
            file.awaited.remove(events)
            self._wake(kernels_number)
