"""What processes have of the pod when they are let go: it stops working when the session ends, so they are told of."""

from __future__ import annotations

import contextlib
import os

from ...syscalls.abi.flags import AT_FDCWD
from ...syscalls.context import Context
from ..tracer import look
from ..tracer.tree import Tree


def left(context: Context, tree: Tree) -> str:
    """For the user, to be put behind "letting it go": empty if there is nothing."""
    files, sockets, directories = _count(context, tree)
    parts = [_many(files, "open file"), _many(sockets, "socket"), _many(directories, "working directory")]
    named = [part for part in parts if part]
    if not named:
        return ""
    return f"; what it still has of the pod ends now: {', '.join(named)}"


def _count(context: Context, tree: Tree) -> tuple[int, int, int]:
    device = context.mount.device if context.mount is not None else None
    of_the_pod = (context.sockets.connections, context.sockets.datagrams)
    files: set[tuple[int, int]] = set()
    sockets: set[int] = set()
    directories: set[int] = set()
    for tracee in tree.tracees.values():
        if device is not None and tracee.device(AT_FDCWD) == device:
            directories.add(tracee.tgid)
        for key in _open_files(tracee.tid):
            if key[0] == device:
                files.add(key)
            elif any(key[1] in known for known in of_the_pod):
                sockets.add(key[1])
    return len(files), len(sockets), len(directories)


def _open_files(tid: int) -> list[tuple[int, int]]:
    keys = []
    with contextlib.suppress(OSError), os.scandir(f"/proc/{tid}/fd") as entries:
        for entry in entries:
            key = look.file_key(os.fsencode(entry.path))
            if key is not None:
                keys.append(key)
    return keys


def _many(count: int, what: str) -> str:
    if what.endswith("y") and count > 1:
        what = what[:-1] + "ie"
    return f"{count} {what}{'s' if count > 1 else ''}" if count else ""
