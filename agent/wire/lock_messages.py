"""The control messages of a mounted pod tree for locks, readiness, and giving up what waits: part of `file_messages.py`."""

from __future__ import annotations

from dataclasses import dataclass

from .values import Message, message

READ_LOCK, WRITE_LOCK, NO_LOCK = 0, 1, 2
"""F_RDLCK, F_WRLCK, F_UNLCK: `kind` of locks."""


@message(107)
@dataclass(frozen=True)
class LockFile(Message):
    """fcntl(2) F_SETLK, F_SETLKW if `wait`, for bytes `start` to `end` inclusive; or flock(2). Reply: `Done`.

    Locks belong to `owner` (any number but 0), not to the agent: two owners exclude each
    other, and other processes of the pod.
    Without `wait` a lock that is not free is Failed(EAGAIN). `end` 2^63-1: to the end of the file, however it grows.
    """

    handle: int
    owner: int
    kind: int
    start: int
    end: int
    wait: bool
    flock: bool


@message(108)
@dataclass(frozen=True)
class GetLock(Message):
    """fcntl(2) F_GETLK. Reply: `LockState`."""

    handle: int
    owner: int
    kind: int
    start: int
    end: int


@message(109)
@dataclass(frozen=True)
class LockState(Message):
    """Reply to `GetLock`: the lock in the way; `kind` is F_UNLCK if there is none. `pid` is 0 if that cannot be told."""

    kind: int
    start: int
    end: int
    pid: int


@message(110)
@dataclass(frozen=True)
class GiveUpWait(Message):
    """Notice: what waits on `handle` is answered Failed(EINTR): the lock of `owner`, or, if
    that is 0, the open, reads and writes."""

    handle: int
    owner: int


@message(114)
@dataclass(frozen=True)
class PollHandle(Message):
    """poll(2) of a FIFO or device, for `events` (POLLIN and so on). Reply: `Number`, what poll(2) gives in revents.

    `wait`: only once that is not 0; until then it is in nothing's way. Failed(EINTR) when the handle is closed.
    """

    handle: int
    events: int
    wait: bool
