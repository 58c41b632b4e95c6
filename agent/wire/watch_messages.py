"""The control messages of a mounted pod tree for inotify(7): part of `file_messages.py`."""

from __future__ import annotations

from dataclasses import dataclass

from .values import Message, message


@message(111)
@dataclass(frozen=True)
class WatchPath(Message):
    """inotify(7): `PathEvent` notices for the file or directory `path` from now on, numbered `watch`. Reply: `Done`."""

    watch: int
    path: bytes


@message(112)
@dataclass(frozen=True)
class UnwatchPath(Message):
    """Notice: no more events of this watch."""

    watch: int


@message(113)
@dataclass(frozen=True)
class PathEvent(Message):
    """Notice, agent to client: something happened. `mask`: IN_*; `name`: in the directory, b"" for the watched path itself.

    Only changes (IN_MODIFY, IN_ATTRIB, IN_CLOSE_WRITE, IN_CREATE, IN_DELETE, IN_MOVED_FROM, IN_MOVED_TO, IN_DELETE_SELF,
    IN_MOVE_SELF, some with IN_ISDIR); those that the agent's own requests cause come too. `cookie` joins the two halves of a
    rename. IN_Q_OVERFLOW comes to every watch: anything may have happened.
    """

    watch: int
    mask: int
    cookie: int
    name: bytes
