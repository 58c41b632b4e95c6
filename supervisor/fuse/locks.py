"""fuse(4): fcntl(2) and flock(2) locks, held in the pod, where its own processes meet them."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable

from ...agent.wire.file_messages import NO_LOCK, GetLock, GiveUpWait, LockFile, LockState
from ...agent.wire.messages import Done
from . import protocol
from .handles import Handles, OpenFile
from .protocol import Request
from .tree import Tree
from .waiting import NO_DEADLINE_S, Outcome, Work, failure

_END = 2**63 - 1


class Locks:
    """Locks of the tree's files. The kernel names an owner: a process for fcntl(2), an open file for flock(2)."""

    def __init__(self, tree: Tree, handles: Handles, invalidate: Callable[[int, Callable[[Outcome], None]], None]) -> None:
        self._tree = tree
        self._handles = handles
        self._invalidate = invalidate
        self._given_up: set[int] = set()

    def get(self, request: Request) -> Work[bytes]:
        """GETLK."""
        number, owner, start, end, kind, _, _ = protocol.LOCK_IN.unpack_from(request.body)
        yield from self._handles.make_remote(number)
        found = yield from self._tree.ask(GetLock(number, _owner(owner), kind, start, min(end, _END)), LockState)
        return protocol.lock(found.start, found.end, found.kind, found.pid)

    def set(self, request: Request) -> Work[bytes]:
        """SETLK, SETLKW: one round trip, and as long as somebody else has the lock."""
        number, owner, start, end, kind, _, flags = protocol.LOCK_IN.unpack_from(request.body)
        wait = request.op == protocol.Op.SETLKW
        flock = bool(flags & protocol.LOCK_FLOCK)
        message = LockFile(number, _owner(owner), kind, start, min(end, _END), wait, flock)
        try:
            file = yield from self._handles.make_remote(number)
            # Who gets the lock next must find what was written under it.
            yield from self._tree.behind.drained(file.node)
            if request.unique in self._given_up:
                raise failure(errno.EINTR)
            if not flock:
                file.lock_owners.add(owner)
            yield from self._tree.ask(message, Done, NO_DEADLINE_S)
        finally:
            self._given_up.discard(request.unique)
        if kind != NO_LOCK:
            yield from self._see_anew(file)
        return b""

    # What others in the pod have written under the lock must be seen under it.
    def _see_anew(self, file: OpenFile) -> Work[None]:
        node = file.node
        for path in node.paths:
            self._tree.knowledge.forget(path)
        self._tree.advance()
        for other in self._handles.of(node):
            other.ahead.drop()
            other.content = None
        node.kept_version = None
        yield lambda settle: self._invalidate(node.id, settle)

    def give_up(self, request: Request) -> None:
        """INTERRUPT of a SETLKW, which may not have reached the pod yet."""
        number, owner, *_ = protocol.LOCK_IN.unpack_from(request.body)
        self._given_up.add(request.unique)
        self._tree.session.notify(GiveUpWait(number, _owner(owner)))

    def closed(self, file: OpenFile, owner: int) -> Work[None]:
        """close(2) of any descriptor of a file releases all of the process's locks on it: fcntl(2)."""
        for other in self._handles.of(file.node):
            if owner in other.lock_owners:
                other.lock_owners.discard(owner)
                yield from self._tree.behind.drained(file.node)
                with contextlib.suppress(OSError):  # the other file has been closed meanwhile, and its locks with it
                    yield from self._tree.ask(LockFile(other.id, _owner(owner), NO_LOCK, 0, _END, False, False), Done)


def _owner(owner: int) -> int:
    # The agent has other uses for 0, and messages for 63 bits.
    return owner & _END or 1
