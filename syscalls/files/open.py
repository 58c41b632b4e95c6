"""open(2), creat(2), openat(2), openat2(2): a remote file becomes a real local one, with one round trip.

Afterwards read, lseek, mmap and the rest are the kernel's, on a file that holds the pod's bytes as of the open. A
directory's stand-in is an empty directory (see getdents.py). O_PATH needs no content, only attributes.
"""

from __future__ import annotations

import errno
import os
import stat

from ...agent.wire.messages import Attributes, FileStat, Opened, OpenedDirectory, OpenFile, Stat
from ..abi.dirent import pack_records
from ..abi.flags import AT_FDCWD, NATIVE, O_CREAT, O_PATH, O_TRUNC, O_WRONLY, WRITING
from ..actions import Answer, Continue, Handling, Reason, Route, SyscallError
from ..context import Args, Context
from ..objects import RemoteDirectory, RemoteFile, RemoteObject
from ..task import Task
from .place import Place, asked, asked_for_file, find, hostname_content, run_elsewhere
from .stand_in import empty_directory, give, sealed_memfd

INLINE_LIMIT = 1 << 20
_UNNUMBERED = 1  # a valid stream number; the relay puts its own in its place
"""A file of up to this many bytes comes in the reply, a larger one on a stream that the relay numbers and receives."""


def open_(context: Context, task: Task, args: Args) -> Handling:
    """open(2): as openat(2) with AT_FDCWD. Local: 1 stop. Remote: 2 stops, 1 round trip."""
    flags = args[1] & 0xFFFF_FFFF
    follow = not flags & NATIVE.nofollow
    place = find(context, task, AT_FDCWD, args[0], write=writes(flags), follow=follow)
    if isinstance(place, Continue):
        return place
    return (yield from open_place(context, task, place, flags, 0))


def creat(context: Context, task: Task, args: Args) -> Handling:
    """creat(2): open(2) with O_CREAT|O_WRONLY|O_TRUNC."""
    flags = O_CREAT | O_WRONLY | O_TRUNC
    place = find(context, task, AT_FDCWD, args[0], write=True)
    if isinstance(place, Continue):
        return place
    return (yield from open_place(context, task, place, flags, 0))


def openat(context: Context, task: Task, args: Args) -> Handling:
    """openat(2): policy sends the path to the kernel, to ENOENT, or to the pod.

    From the pod: its errno, or an fd for reading of what the file held just now. EROFS if policy wants it written
    there. Local: 1 stop. Remote: 2 stops, 1 round trip, parked for it.
    """
    flags = args[2] & 0xFFFF_FFFF
    follow = not flags & NATIVE.nofollow
    place = find(context, task, args[0], args[1], write=writes(flags), follow=follow)
    if isinstance(place, Continue):
        return place
    return (yield from open_place(context, task, place, flags, 1))


def writes(flags: int) -> bool:
    """Whether an open with these flags may change something. O_PATH makes the kernel ignore the flags that do."""
    return flags & WRITING != 0 and not flags & O_PATH


def open_place(context: Context, task: Task, place: Place, flags: int, path_argument: int) -> Handling:
    """The rest of every open call, for a path that policy did not leave to the kernel as it is."""
    if place.decision.route is Route.LOCAL:
        return (yield from run_elsewhere(place, path_argument))
    if writes(flags):
        context.notice("write", "writing files of the pod is not supported: the program gets EROFS")
        raise SyscallError(errno.EROFS, place.decision)
    if place.remote is not None:
        return (yield from _reopen(context, place, place.remote, flags))
    if place.directory:
        flags = (flags | NATIVE.directory) & ~NATIVE.nofollow
    if flags & O_PATH:
        return (yield from _open_as_path(context, place, flags))
    return (yield from _open_for_reading(context, place, flags))


def _open_for_reading(context: Context, place: Place, flags: int) -> Handling:
    path = place.decision.path
    request = OpenFile(path, NATIVE.to_wire(flags), INLINE_LIMIT, _UNNUMBERED)
    answer = yield from asked_for_file(request, place.decision)
    if isinstance(answer.message, OpenedDirectory):
        _discard(answer)
        remote = _directory(place, answer.message)
        return (yield from give(context, empty_directory(), flags, remote, place.decision))
    if not isinstance(answer.message, Opened) or answer.fd < 0:
        _discard(answer)
        raise SyscallError(errno.EPROTO, place.decision)
    if flags & NATIVE.directory:
        _discard(answer)
        raise SyscallError(errno.ENOTDIR, place.decision)
    file = RemoteFile(place.name, path, answer.message.stat)
    return (yield from give(context, answer.fd, flags, file, place.decision))


def _open_as_path(context: Context, place: Place, flags: int) -> Handling:
    # An O_PATH descriptor serves fstat, dirfd and readlinkat; whether the file may be read does not matter.
    follow = not flags & NATIVE.nofollow
    reply = yield from asked(Stat(place.decision.path, follow), Attributes, place.decision)
    if flags & NATIVE.directory and not stat.S_ISDIR(reply.stat.mode):
        raise SyscallError(errno.ENOTDIR, place.decision)
    fd = empty_directory() if stat.S_ISDIR(reply.stat.mode) else sealed_memfd(b"")
    return (yield from give(context, fd, flags, _without_content(place, reply.stat), place.decision))


def _reopen(context: Context, place: Place, remote: RemoteObject, flags: int) -> Handling:
    # A path in /proc that means an object: the kernel can reopen a file's stand-in, but a directory's has no entries.
    if not isinstance(remote, RemoteDirectory) and (place.directory or flags & NATIVE.directory):
        raise SyscallError(errno.ENOTDIR, place.decision)
    if place.decision.reason is Reason.POD_HOSTNAME:
        return (yield from give(context, sealed_memfd(hostname_content(context)), flags, remote, place.decision))
    if isinstance(remote, RemoteDirectory):
        # Another empty directory: a new open file description begins at the first entry.
        return (yield from give(context, empty_directory(), flags, remote, place.decision))
    return Continue(place.decision)


def _directory(place: Place, reply: OpenedDirectory) -> RemoteDirectory:
    try:
        records, offsets = pack_records(reply.names, reply.inodes, reply.types)
    except ValueError:
        raise SyscallError(errno.EPROTO, place.decision) from None
    return RemoteDirectory(place.name, place.decision.path, reply.stat, records, offsets)


def _without_content(place: Place, attributes: FileStat) -> RemoteObject:
    kind = RemoteDirectory if stat.S_ISDIR(attributes.mode) else RemoteFile
    return kind(place.name, place.decision.path, attributes)


def _discard(answer: Answer) -> None:
    if answer.fd >= 0:
        os.close(answer.fd)
