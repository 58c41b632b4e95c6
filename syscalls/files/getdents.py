"""getdents64(2), getdents(2) on the stand-in of a pod directory.

The stand-in is an empty directory. Its entries are kept as one run of linux_dirent64 records, each d_off being the
offset of the next one in that run, and the file position of the tracee's own open file description is the position in
it: lseek(2), telldir(3), rewinddir(3) and sharing by dup(2) and fork(2) are the kernel's work, and two threads that read
one directory share it as ever.
"""

from __future__ import annotations

import errno
import os

from ..abi.dirent import to_old_layout
from ..abi.flags import to_int32
from ..actions import Continue, Handling, Return, SyscallError
from ..context import Args, Context
from ..objects import RemoteDirectory
from ..task import Task
from .place import LOCAL_OBJECT, object_decision, remote_object


def getdents64(context: Context, task: Task, args: Args) -> Handling:
    """getdents64(2): 1 stop. EINVAL if the buffer is too small for the next record."""
    yield from ()
    return _getdents(context, task, args, old=False)


def getdents(context: Context, task: Task, args: Args) -> Handling:
    """getdents(2), the old layout, x86-64 only: 1 stop."""
    yield from ()
    return _getdents(context, task, args, old=True)


def _getdents(context: Context, task: Task, args: Args, *, old: bool) -> Continue | Return:
    remote = remote_object(context, task, args[0])
    if not isinstance(remote, RemoteDirectory):
        return LOCAL_OBJECT
    decision = object_decision(remote)
    fd = task.duplicate(to_int32(args[0]))
    try:
        position = os.lseek(fd, 0, os.SEEK_CUR)
        start, stop = remote.window(position, args[2] & 0xFFFF_FFFF)
        if start == stop and stop < len(remote.records):
            raise SyscallError(errno.EINVAL, decision)
        records = remote.records[start:stop]
        if records:
            task.write(args[1], to_old_layout(records) if old else records)  # a fault leaves the position
            os.lseek(fd, stop, os.SEEK_SET)
    except SyscallError as error:
        raise SyscallError(error.errno, decision) from None
    except OSError as error:
        # An O_PATH descriptor has no position: EBADF, as for getdents(2) itself.
        raise SyscallError(error.errno or errno.EIO, decision) from None
    finally:
        os.close(fd)
    return Return(len(records), decision)
