"""Files of our own that a tracee holds in place of pod files."""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from collections.abc import Generator

from ..abi.flags import NATIVE, O_APPEND, O_CLOEXEC, O_NONBLOCK, O_PATH
from ..actions import Action, Decision, Keep, Outcome, SyscallError, give_file
from ..context import Context
from ..objects import RemoteObject, pin_for

_SHARED_MEMORY = "/dev/shm"

GIVEN_FLAGS = O_CLOEXEC | O_NONBLOCK | O_APPEND | O_PATH
"""open(2) flags that keep their meaning on a stand-in. Access is for reading: pod files are not written yet."""


_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


def sealed_memfd(content: bytes) -> int:
    """memfd_create(2): a file with this content that nobody can change any more; the caller owns the fd.

    SyscallError if this machine has no descriptor (EMFILE, ENFILE) or memory (ENOMEM, ENOSPC) left for it.
    """
    fd = -1
    try:
        fd = os.memfd_create("mirrord-trace", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        rest = memoryview(content)
        while rest:
            rest = rest[os.pwrite(fd, rest, len(content) - len(rest)) :]
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        raise SyscallError(error.errno or errno.EIO) from None
    return fd


def empty_directory() -> int:
    """A directory that is empty, has no name any more and is nobody else's; the caller owns the fd.

    Its file position takes any value, as tmpfs and the disk file systems allow; read(2) on it is EISDIR and fchdir(2)
    would work, which is why fchdir is trapped.
    """
    try:
        path = tempfile.mkdtemp(prefix="mirrord-trace-", dir=_SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else None)
        try:
            os.chmod(path, 0o755)  # a tracee may have become another user
            return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        finally:
            os.rmdir(path)
    except OSError as error:
        raise SyscallError(error.errno or errno.EIO) from None


def give(context: Context, fd: int, flags: int, remote: RemoteObject, decision: Decision) -> Generator[Action, Outcome, Keep]:
    """End of an open: the tracee gets `fd` (owned by the driver from here on), known from now on as `remote`."""
    try:
        pin = pin_for(fd)
    except OSError as error:
        os.close(fd)
        raise SyscallError(error.errno or errno.EIO, decision) from None
    try:
        given = yield from give_file(fd, flags & (GIVEN_FLAGS | NATIVE.directory))
        if given.result >= 0:
            context.objects.add(given.key, remote, pin)
            pin = -1
        else:
            raise SyscallError(-given.result, decision)
    finally:
        if pin >= 0:
            os.close(pin)
    return Keep(decision)
