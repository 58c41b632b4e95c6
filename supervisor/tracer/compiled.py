"""The compiled innermost loop (hot.c, ../notify/hot_notify.c): where it is, and Python's side of it.

It is optional: pip builds it where there is a C compiler, and without it loop.py waits by itself, with the same result.
MIRRORD_TRACE_LOOP=python or compiled forces the one or the other.

It is lent tracees for which it may deal with stops on its own, and it is told what it has to know: descriptions of calls
(syscalls/quick.py), and every path that becomes known or is forgotten (syscalls/known.py).
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Collection, Mapping
from pathlib import Path

from ...syscalls.context import Context
from ...syscalls.known import KnownPaths, PathSet
from ...syscalls.process import kept
from ...syscalls.quick import Quick, state_of
from ...syscalls.table import checks
from ..errors import UsageError
from .arch import Arch

VARIABLE = "MIRRORD_TRACE_LOOP"
_NOTE, _NOBODY = 1, 2
_NOTE_BYTES = 80  # struct seccomp_notif


class _Library(ctypes.CDLL):
    # The functions of hot.c that return something other than an int, and those that are given addresses.
    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        pointer, text, number, word = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint64
        self.hot_new.restype = pointer
        self.hot_new.argtypes = (ctypes.c_uint32, word)
        self.hot_free.argtypes = (pointer,)
        self.hot_stops.argtypes = (pointer,)
        self.hot_stops.restype = word
        self.hot_call.argtypes = (pointer, *[number] * 5, word)
        self.hot_keep.argtypes = (pointer, number)
        self.hot_path.argtypes = (pointer, *[number] * 5, *[ctypes.c_uint] * 4, *[number] * 3, ctypes.c_uint)
        self.hot_address.argtypes = (pointer, *[number] * 3, ctypes.c_uint)
        self.hot_tree.argtypes = (pointer, text)
        self.hot_add.argtypes = (pointer, number, text, ctypes.c_size_t)
        self.hot_clear.argtypes = (pointer, number)


class Compiled:
    """One loop. Belongs to the tracer's thread."""

    def __init__(
        self,
        library: Path,
        context: Context,
        calls: Mapping[int, Quick],
        audit_arch: int,
        kept: Collection[int] = (),
    ) -> None:
        self._library = _Library(library)
        # These return at once, so they keep the GIL; waiting gives it up.
        self._quick = ctypes.PyDLL(str(library))
        self._context = context
        device = context.mount.device if context.mount is not None else 0
        self._hot = ctypes.c_void_p(self._library.hot_new(audit_arch, device))
        if not self._hot.value:
            raise MemoryError
        self._told = (ctypes.c_int * 2)()  # struct told in hot.h
        self._address = ctypes.byref(self._told)
        self._note = ctypes.create_string_buffer(_NOTE_BYTES)
        self._stops = 0
        for number, quick in calls.items():
            self._describe(number, quick)
        for number in kept:
            self._library.hot_keep(self._hot, number)
        for tree in context.policy.local_trees():
            self._library.hot_tree(self._hot, tree)
        for number, known in enumerate(self._known()):
            known.mirror = _Set(self._library, self._hot, number)
            for path in known:
                known.mirror.add(path)

    # In the order of the sets in hot.h.
    def _known(self) -> tuple[KnownPaths | PathSet, ...]:
        context = self._context
        return (
            context.local_reads, context.local_writes, context.plain_paths, context.directories, context.local_addresses
        )  # fmt: skip

    def _describe(self, number: int, quick: Quick) -> None:
        word, bits = (quick.word.at, quick.word.bits) if quick.word is not None else (-1, 0)
        self._library.hot_call(self._hot, number, quick.needs, quick.changes, quick.moves, word, bits)
        if quick.address is not None:
            name = quick.address
            self._library.hot_address(self._hot, number, name.at, name.length, name.others)
        for path in quick.paths:
            conditions = path.writing, path.unless, path.empty, path.relative
            end = path.magic, path.entry, path.at_flags, path.nofollow
            self._library.hot_path(self._hot, number, path.at, path.dirfd, path.write, path.flags, *conditions, *end)

    def wait(self) -> tuple[int, int]:
        """The next stop or end that is not dealt with in C, as `os.waitpid(-1, WALL)` returns it."""
        while True:
            tid = self._library.hot_wait(self._hot, state_of(self._context), self._address)
            if self._told[1]:
                self._told[1] = 0
                self._context.directories.clear()
            if tid > 0:
                return tid, self._told[0]
            if -tid != errno.EINTR:
                raise OSError(-tid, os.strerror(-tid))

    def notified(self, listener: int, others: int, patience_s: float) -> bytes | None:
        """The other engine's `wait`: a struct seccomp_notif that is not answered in C.

        b"": the descriptor `others` is readable, or `patience_s` has passed. None: there is nobody left to be heard of.
        """
        found = self._library.hot_notified(
            self._hot, state_of(self._context), listener, others, int(patience_s * 1000), self._note, self._address
        )
        if self._told[1]:
            self._told[1] = 0
            self._context.directories.clear()
        if found < 0:
            raise OSError(-found, os.strerror(-found))
        return self._note.raw if found == _NOTE else None if found == _NOBODY else b""

    def rest(self) -> list[tuple[int, int]]:
        """What has been waited for and not been returned yet: once nobody waits any more."""
        found = []
        while (tid := self._library.hot_rest(self._hot, self._address)) > 0:
            found.append((tid, self._told[0]))
        return found

    def lend(self, tid: int, memory: int, is_skipped: bool = False) -> None:
        """Let it deal with the stops of this thread, until `wait` returns one. `memory`: see `AddressSpace.memory`.

        `is_skipped`: see `Process.is_skipped`.
        """
        self._quick.hot_lend(self._hot, tid, memory, is_skipped)

    def take_all_back(self) -> None:
        """Nobody is lent any more."""
        self._quick.hot_take_all_back(self._hot)

    def take_back(self, tid: int) -> None:
        """The thread has gone without an end of its own to be waited for."""
        self._quick.hot_take_back(self._hot, tid)

    @property
    def stops(self) -> int:
        """How many stops it has dealt with."""
        return int(self._library.hot_stops(self._hot)) if self._hot.value else self._stops

    def close(self) -> None:
        """Free everything; nobody may be lent, and no path be told, any more."""
        for known in self._known():
            known.mirror = None
        if self._hot.value:
            self._stops = self.stops
            self._library.hot_free(self._hot)
            self._hot = ctypes.c_void_p()


def compiled_loop(context: Context, arch: Arch, *, ours: Collection[str] = ()) -> Compiled | None:
    """The one of a session; None where it was not built, or is not wanted (`library`).

    `ours`: calls that are always Python's, as those of `KEPT` those of skipped processes, too.
    """
    found = library()
    if found is None:
        return None
    numbers = arch.syscall_numbers
    quick = checks({name: numbers[name] for name in numbers if name not in ours}, mounted=context.mount is not None)
    return Compiled(found, context, quick, arch.audit, kept(numbers) | {numbers[name] for name in ours})


class _Set:
    # Implements syscalls.known.Mirror.
    def __init__(self, library: _Library, hot: ctypes.c_void_p, number: int) -> None:
        self._library = library
        self._hot = hot
        self._number = number

    def add(self, path: bytes) -> None:
        self._library.hot_add(self._hot, self._number, path, len(path))

    def clear(self) -> None:
        self._library.hot_clear(self._hot, self._number)


def library() -> Path | None:
    """The built library, or None where there is none or MIRRORD_TRACE_LOOP says python.

    UsageError if MIRRORD_TRACE_LOOP says compiled and there is none, or says something else.
    """
    wanted = os.environ.get(VARIABLE, "")
    if wanted not in ("", "python", "compiled"):
        raise UsageError(f"{VARIABLE}={wanted}: it may be python or compiled")
    if wanted == "python":
        return None
    found = built()
    if found is not None:
        return found
    if wanted == "compiled":
        raise UsageError(
            f"{VARIABLE}=compiled: the library was not built; it takes a C compiler when mirrord-trace is installed"
        )
    return None


def built() -> Path | None:
    """The library, or None where it was not built."""
    folder = Path(__file__).parent
    return next((path for path in sorted([*folder.glob("hot.*.so"), *folder.glob("hot.so")]) if _loads(path)), None)


def _loads(path: Path) -> bool:
    # One that was built for another machine or C library is as good as none.
    try:
        ctypes.CDLL(str(path)).hot_wait  # noqa: B018
    except (OSError, AttributeError):
        return False
    return True


def name() -> str:
    """Which loop is in use, for people."""
    return "python" if library() is None else "compiled"
