"""The short way for calls that are known to be local, which is nearly every stop of most programs.

A `Quick` says of one call when the kernel may run it untouched, with no handler begun: as a rule when its paths are
known from what handlers decided before (known.py). It is a description, so that the tracer can carry it out in two ways:
as the Python function `Quick.check`, and in the compiled loop (supervisor/tracer/hot.c). On anything it does not know it
says no, and the handler decides. Whatever is let through, the handler would have let through as well.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from .abi.flags import to_int32
from .abi.sockaddr import AF_UNIX, FAMILY_BYTES, SOCKADDR_STORAGE_BYTES
from .actions import OutOfReach, SyscallError
from .context import Args, Context
from .task import Task

Check = Callable[[Context, Task, Args], bool]
"""True: let the kernel run it."""

MAGIC = (b"/proc/", b"/dev/fd/", b"/dev/std")
"""How absolute paths begin that may lead into the mount though policy leaves them to the kernel."""

UNIX = AF_UNIX.to_bytes(FAMILY_BYTES, sys.byteorder)
"""How the sockaddr of a unix socket begins."""


class State:
    """What holds in a session at the moment, as bits. All of it changes only between two stops.

    Plain numbers, for they are looked at in most stops, and enum.IntFlag takes 0.2 µs for each operation.
    """

    ALWAYS = 1
    NO_OBJECTS = 2
    """No descriptor stands for a copied pod file."""
    UNUSED_MOUNT = 4
    """The pod's tree is mounted, and no tracee can have anything of it open."""
    NO_SOCKETS = 8
    """No socket has anything to do with the pod."""
    NO_INTERNET = 16
    """No internet socket has, nor does any listen, or send datagrams, to another one of the session."""


NEVER = 0


def state_of(context: Context) -> int:
    """What holds now."""
    state = State.ALWAYS
    if not context.objects:
        state |= State.NO_OBJECTS
    if context.mount is not None and not context.mount.is_used:
        state |= State.UNUSED_MOUNT
    if not (context.sockets or context.sockets.routing):
        state |= State.NO_SOCKETS
    if not context.sockets.internet:
        state |= State.NO_INTERNET
    return state


class KnownPath(NamedTuple):
    """A path argument, and when it is local: if it is known for reading, or for writing where the call may change it.

    `at`, `dirfd`: numbers of the arguments (-1: the working directory). `write`: the call may change the file. `flags`: the
    argument that says so by any of the bits `writing`, unless one of `unless` is set. `empty`, `relative`: in which state
    an empty path is local, and a relative one that was found to lead to no link. `magic`: paths like /proc/self/fd/N, too.
    `entry`: a link at its end is not followed; nor is it with one of the bits `nofollow` in the argument `at_flags`. Then
    it does not matter what is there, for those who know about the directory (the compiled loop).
    """

    at: int
    dirfd: int = -1
    write: bool = False
    flags: int = -1
    writing: int = 0
    unless: int = 0
    empty: int = NEVER
    relative: int = NEVER
    magic: bool = True
    entry: bool = False
    at_flags: int = -1
    nofollow: int = 0

    def holds(self, context: Context, task: Task, args: Args) -> bool:
        """Whether it is local."""
        try:
            path = task.read_string(args[self.at])
        except (SyscallError, OutOfReach):
            return False
        write = self.write
        if self.flags >= 0:
            flags = args[self.flags]
            write = bool(flags & self.writing and not flags & self.unless)
        if path in (context.local_writes if write else context.local_reads):
            return self.magic or not path.startswith(MAGIC)
        if not path:
            return bool(self.empty & state_of(context))
        if path.startswith(b"/") or not self.relative & state_of(context):
            return False
        # Copied files: behind what is not the pod's, whatever the path says.
        return context.mount is None or path in context.plain_paths


class Word(NamedTuple):
    """A structure argument: local if it can be read and has none of these bits in its first 8 bytes."""

    at: int
    bits: int

    def holds(self, context: Context, task: Task, args: Args) -> bool:
        """Whether it is local."""
        del context
        try:
            return not int.from_bytes(task.read(args[self.at], 8), "little") & self.bits
        except (SyscallError, OutOfReach):
            return False


class KnownAddress(NamedTuple):
    """A sockaddr argument, and when it is local: if it is known to be (net/local_addresses.py), byte by byte.

    `at`, `length`: numbers of the arguments. `others`: in which state those are that are not of AF_UNIX.
    """

    at: int
    length: int
    others: int = NEVER

    def holds(self, context: Context, task: Task, args: Args) -> bool:
        """Whether it is local."""
        size = to_int32(args[self.length])
        if not FAMILY_BYTES <= size <= SOCKADDR_STORAGE_BYTES:
            return False
        try:
            content = task.read(args[self.at], size)
        except (SyscallError, OutOfReach):
            return False
        if content not in context.local_addresses:
            return False
        return content.startswith(UNIX) or bool(self.others & state_of(context))


@dataclass(frozen=True)
class Quick:
    """When a call is local: all of `paths`, the `address` and the `word` are, in a state with one of the bits of `needs`.

    `changes`: the call may put a symbolic link where a directory was. `moves`: it may change the working directory.
    """

    paths: tuple[KnownPath, ...] = ()
    word: Word | None = None
    address: KnownAddress | None = None
    needs: int = State.ALWAYS
    changes: bool = False
    moves: bool = False

    @cached_property
    def check(self) -> Check:
        """As a function."""
        if not self.changes and self.needs == State.ALWAYS:
            parts = [part for part in (*self.paths, self.word, self.address) if part is not None]
            if len(parts) == 1:
                return parts[0].holds
        return self._holds

    def _holds(self, context: Context, task: Task, args: Args) -> bool:
        if not self.needs & state_of(context):
            return False
        if self.word is not None and not self.word.holds(context, task, args):
            return False
        if self.address is not None and not self.address.holds(context, task, args):
            return False
        if not all(path.holds(context, task, args) for path in self.paths):
            return False
        if self.changes:
            context.directories.clear()
        return True

    def __call__(self, context: Context, task: Task, args: Args) -> bool:
        """See `check`."""
        return self.check(context, task, args)


def changing(checks: Mapping[int, Quick]) -> frozenset[int]:
    """The numbers of the calls that may put a symbolic link where a directory was."""
    return frozenset(sysno for sysno, quick in checks.items() if quick.changes)
