"""Operations of file_sequences.py on open files: opening, content, locks."""

from __future__ import annotations

import fcntl
import mmap
import os
import stat
import time
from collections.abc import Callable

import file_sequence_calls as calls
from file_sequence_state import Result, State, operations, pattern, shown

_SLEEP_FOR_CACHES_S = 1.05


# -- opening ------------------------------------------------------------------------------------------------------------


def _open(state: State, slot: int, at: int | None, path: str, flags: int, mode: int) -> Result:
    return state.keep(slot, os.open(state.path(path), _not_waiting(flags), mode, dir_fd=state.directory(at)))


# Nothing may wait for the other end of a FIFO; openat2(2) takes no other flags with O_PATH.
def _not_waiting(flags: int) -> int:
    return flags if flags & os.O_PATH else flags | os.O_NONBLOCK


def _openat2(state: State, slot: int, at: int | None, path: str, flags: int, mode: int, resolve: int) -> Result:
    mode = mode if flags & os.O_CREAT else 0
    if path.startswith(("@", "/")):
        resolve &= ~calls.RESOLVE_NO_XDEV  # what is mounted on the way to the top is each machine's own affair
    return state.keep(slot, calls.openat2(state.fd(at), state.path(path), _not_waiting(flags), mode, resolve))


def _dup(state: State, slot: int, source: int) -> Result:
    return state.keep(slot, os.dup(state.fd(source)))


def _close(state: State, slot: int) -> Result:
    return os.close(state.open.pop(slot, -1))


def _getfl(state: State, slot: int) -> Result:
    return oct(fcntl.fcntl(state.fd(slot), fcntl.F_GETFL))


def _nameless(state: State, slot: int, at: int | None, path: str) -> Result:
    file = b"/proc/self/fd/%d" % state.fd(slot)
    return calls.linkat(calls.AT_FDCWD, file, state.fd(at), state.path(path), follow=True)


def _reopen(state: State, slot: int, source: int, flags: int) -> Result:
    return state.keep(slot, os.open(b"/proc/self/fd/%d" % state.fd(source), flags | os.O_NONBLOCK))


# -- content ------------------------------------------------------------------------------------------------------------


def _read(state: State, slot: int, size: int) -> Result:
    return shown(os.read(state.fd(slot), size))


def _pread(state: State, slot: int, size: int, offset: int) -> Result:
    return shown(os.pread(state.fd(slot), size, offset))


def _readv(state: State, slot: int, sizes: list[int]) -> Result:
    return _vector(sizes, lambda buffers: os.readv(state.fd(slot), buffers))


def _preadv2(state: State, slot: int, sizes: list[int], offset: int, flags: int) -> Result:
    return _vector(sizes, lambda buffers: os.preadv(state.fd(slot), buffers, offset, flags))


def _vector(sizes: list[int], read: Callable[[list[bytearray]], int]) -> Result:
    buffers = [bytearray(size) for size in sizes]
    return shown(b"".join(buffers)[: read(buffers)])


def _write(state: State, slot: int, seed: int, size: int) -> Result:
    return os.write(state.fd(slot), pattern(seed, size))


def _pwrite(state: State, slot: int, seed: int, size: int, offset: int) -> Result:
    return os.pwrite(state.fd(slot), pattern(seed, size), offset)


def _writev(state: State, slot: int, seed: int, sizes: list[int]) -> Result:
    return os.writev(state.fd(slot), [pattern(seed + index, size) for index, size in enumerate(sizes)])


def _pwritev2(state: State, slot: int, seed: int, sizes: list[int], offset: int, flags: int) -> Result:
    return os.pwritev(state.fd(slot), [pattern(seed + index, size) for index, size in enumerate(sizes)], offset, flags)


def _lseek(state: State, slot: int, offset: int, whence: int) -> Result:
    if stat.S_ISDIR(os.fstat(state.fd(slot)).st_mode):
        return "left out"  # each file system has its own numbers: `list` goes by telldir(3)
    found = os.lseek(state.fd(slot), offset, whence)
    # A page of a hole that has been looked at through mmap(2) is data to tmpfs from then on, but only to the kernel that has
    # the page: the pod's has not.
    return "left out" if state.has_mapped and whence in (os.SEEK_DATA, os.SEEK_HOLE) else found


def _truncate(state: State, path: str, size: int) -> Result:
    return os.truncate(state.path(path), size)


def _ftruncate(state: State, slot: int, size: int) -> Result:
    return os.ftruncate(state.fd(slot), size)


def _fallocate(state: State, slot: int, mode: int, offset: int, length: int) -> Result:
    return calls.fallocate(state.fd(slot), mode, offset, length)


def _fsync(state: State, slot: int, data_only: bool) -> Result:
    return os.fdatasync(state.fd(slot)) if data_only else os.fsync(state.fd(slot))


def _map_write(state: State, slot: int, offset: int, seed: int, size: int, sync: bool) -> Result:
    state.has_mapped = True
    if os.fstat(state.fd(slot)).st_mode & (stat.S_ISUID | stat.S_ISGID):
        return "left out"  # in the pod it comes to be a write(2), and that takes these bits away
    with mmap.mmap(state.fd(slot), 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE) as mapped:
        end = min(offset + size, len(mapped))
        if offset < end:
            mapped[offset:end] = pattern(seed, end - offset)
        if sync:
            mapped.flush()
        return len(mapped)


def _map_read(state: State, slot: int, private: bool) -> Result:
    state.has_mapped = True
    with mmap.mmap(state.fd(slot), 0, mmap.MAP_PRIVATE if private else mmap.MAP_SHARED, mmap.PROT_READ) as mapped:
        return shown(mapped[:])


# Within one file the pages that are read may be the very ones that are written: what comes out is chance.
def _is_within_one(state: State, slot: int, source: int) -> bool:
    return os.path.sameopenfile(state.fd(slot), state.fd(source))


def _sendfile(state: State, slot: int, source: int, offset: int | None, size: int) -> Result:
    if _is_within_one(state, slot, source):
        return "left out"
    return os.sendfile(state.fd(slot), state.fd(source), offset, size)


def _copy_range(state: State, slot: int, source: int, size: int, offset: int | None, to: int | None) -> Result:
    return os.copy_file_range(state.fd(source), state.fd(slot), size, offset, to)


def _splice(state: State, slot: int, source: int, size: int, offset: int | None) -> Result:
    if _is_within_one(state, slot, source):
        return "left out"
    ends = os.pipe()
    try:
        taken = os.splice(state.fd(source), ends[1], size, offset_src=offset)
        given = os.splice(ends[0], state.fd(slot), taken) if taken else 0
        return [taken, given]
    finally:
        for fd in ends:
            os.close(fd)


# -- locks, time --------------------------------------------------------------------------------------------------------


def _flock(state: State, slot: int, kind: int) -> Result:
    return fcntl.flock(state.fd(slot), kind | fcntl.LOCK_NB)


def _setlk(state: State, slot: int, kind: int, start: int, length: int, is_ofd: bool) -> Result:
    return calls.set_lock(state.fd(slot), kind, start, length, is_ofd=is_ofd)


def _getlk(state: State, slot: int, kind: int, start: int, length: int, is_ofd: bool) -> Result:
    return calls.get_lock(state.fd(slot), kind, start, length, is_ofd=is_ofd)


# Until what a client may remember counts no more; the kernel's own file systems forget nothing.
def _sleep(state: State) -> Result:
    return None if "MIRRORD_TRACE_SEQUENCES_NATIVE" in os.environ else time.sleep(_SLEEP_FOR_CACHES_S)


OPERATIONS = operations(globals(), "_vector", "_not_waiting", "_is_within_one")
"""Name -> operation."""
