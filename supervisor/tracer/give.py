"""How a tracee gets an open file of the supervisor's.

It opens /proc/SUPERVISOR/fd/N by itself: that makes an open file description of its own, with its own offset and
flags, from which every call runs natively. Where it may not look there, it creates a memfd that is filled here.
"""

from __future__ import annotations

import errno
import os

from ...syscalls.actions import GiveFile, Given, Scratch, SyscallError
from .call import RESTARTS, ActiveCall, Engine
from .tracee import Tracee

_PIECE_BYTES = 1 << 20
_AT_FDCWD = -100
_MFD_CLOEXEC = 1

# The tracee may not look into our /proc entry: another uid, a chroot, another mount namespace.
_CLOSED_TO_IT = (-errno.EACCES, -errno.EPERM, -errno.ENOENT, -errno.ELOOP)


def give(engine: Engine, tracee: Tracee, call: ActiveCall, action: GiveFile) -> None:
    """Carry out `GiveFile`; the handler gets `Given`, and our descriptor is closed whatever becomes of the tracee."""
    status = os.fstat(action.fd)
    call.fd = action.fd

    def opened(result: int) -> None:
        if result in RESTARTS:
            engine.has_run(tracee, call, result)
        elif result in _CLOSED_TO_IT:
            engine.rewind(tracee, call, lambda: _give_copy(engine, tracee, call, action))
        else:
            engine.release(tracee, call)
            engine.step(tracee, call, Given(result, (status.st_dev, status.st_ino)))

    path = Scratch(descriptor_path(action.fd))
    engine.run(tracee, call, "openat", {0: _AT_FDCWD, 1: path, 2: action.flags, 3: 0}, opened)


def _give_copy(engine: Engine, tracee: Tracee, call: ActiveCall, action: GiveFile) -> None:
    flags = _MFD_CLOEXEC if action.flags & os.O_CLOEXEC else 0

    def created(result: int) -> None:
        try:
            key = copy_into_memfd(tracee, result, action.fd) if result >= 0 else (0, 0)
        except (OSError, SyscallError) as error:
            number = errno.EACCES if error.errno == errno.EISDIR else error.errno or errno.EIO
            engine.rewind(tracee, call, lambda: take_back(result, number))
            return
        engine.release(tracee, call)
        engine.step(tracee, call, Given(result, key))

    def take_back(fd: int, number: int) -> None:
        # The tracee has a descriptor that holds nothing, or half of the file.
        def closed(_: int) -> None:
            engine.release(tracee, call)
            engine.step(tracee, call, Given(-number, (0, 0)))

        engine.run(tracee, call, "close", {0: fd}, closed)

    engine.run(tracee, call, "memfd_create", {0: Scratch(b"pod file\0"), 1: flags}, created)


def descriptor_path(fd: int) -> bytes:
    """The NUL-terminated path under which a tracee can open our descriptor."""
    return b"/proc/%d/fd/%d\0" % (os.getpid(), fd)


def copy_into_memfd(tracee: Tracee, tracee_fd: int, source: int) -> tuple[int, int]:
    """Fill the tracee's fresh memfd with the whole of `source`; returns its (st_dev, st_ino). OSError: ENOSPC, EIO…

    Written at explicit offsets: the tracee shares the open file description and starts reading at 0.
    """
    copy = tracee.duplicate(tracee_fd)
    try:
        offset = 0
        while True:
            piece = os.pread(source, _PIECE_BYTES, offset)
            if not piece:
                break
            offset += os.pwrite(copy, piece, offset)
        status = os.fstat(copy)
        return status.st_dev, status.st_ino
    finally:
        os.close(copy)
