"""From the path argument of a call to the file it means, where the pod's tree is mounted.

As in place.py, policy decides by the text of the path. What is different: descriptors and working directories may be the
pod's, natively. The kernel shows their pod paths in /proc, and since a file system that is served by the pod must never be
asked by the tracer, st_dev tells whether one is in the mount (`Task.device`). Until a tracee has got hold of anything
there (`Mount.is_used`), relative paths are the kernel's without a look.

Behind a pod directory the kernel can walk by itself. Only if policy sends the path elsewhere it is replaced by an
absolute one. Magic links (/proc/self/fd/N, /proc/self/cwd) need nothing: what they lead to is what they lead to.
"""

from __future__ import annotations

import re
from dataclasses import replace

from ...abi.flags import AT_FDCWD, to_int32
from ...actions import Continue, Decision, Reason, Route
from ...context import Context
from ...mount import Mount
from ...quick import MAGIC
from ...task import Task
from ...views import View, is_own
from ..place import (
    BAD_ARGUMENT,
    LOCAL_OBJECT,
    RELATIVE_PATH,
    Place,
    decide,
    leaves_pod,
    normalise,
    own_path,
    read_path,
    remember,
    whole_machine,
)
from .crossing import crossing

PROGRAM = re.compile(rb"/proc/(self|thread-self|\d{1,9})/(?:task/\d+/)?exe\Z")
DELETED = b" (deleted)"
"""Behind the path of a file whose name has gone, in /proc."""

REMOTE_OBJECT = Continue(Decision(Route.REMOTE, Reason.REMOTE_OBJECT))
_PLAIN_LIMIT = 65536


def mount_of(context: Context) -> Mount:
    """The mount: handlers of this package run only where there is one."""
    assert context.mount is not None
    return context.mount


def find(
    context: Context,
    task: Task,
    dirfd: int,
    address: int,
    *,
    write: bool = False,
    follow: bool = True,
    empty: bool = False,
) -> Continue | Place:
    """The file that a path argument means; arguments as in `place.find`.

    Continue: the kernel's answer to the call as it is is the right one. A `Place` with a `base` is REMOTE too or sent
    elsewhere: if REMOTE, the kernel gets there by itself, and `decision.path` is the pod path for those who ask the pod.
    Raises ENOENT for what policy hides.
    """
    path = read_path(context, task, address, write, empty)
    if isinstance(path, Continue):
        return path
    if is_own(context, task, View.FILES):
        return own_path(context, task, path, write)
    if path.startswith(b"/"):
        return find_absolute(context, task, path, write=write, follow=follow)
    base = opened_path(context, task, dirfd) if path or empty else None
    if not path:
        return BAD_ARGUMENT if not empty else LOCAL_OBJECT if base is None else REMOTE_OBJECT
    if base is None:
        return _relative(context, task, dirfd, path, write, follow)
    if not base or not is_directory(task, dirfd):
        return REMOTE_OBJECT  # ENOTDIR, before any name is looked at
    return find_below(context, base, path, write)


# Behind a directory of this machine: here as well, but for links to the pod. Who walks an absolute path name by name (rsync)
# begins with an open root directory.
def _relative(context: Context, task: Task, dirfd: int, path: bytes, write: bool, follow: bool) -> Continue | Place:
    number = to_int32(dirfd)
    if number >= 0 and task.path_of(number) == b"/":
        return find_absolute(context, task, b"/" + path, write=write, follow=follow)
    if path in context.plain_paths:
        return RELATIVE_PATH
    folder = task.path_of(number) if number >= 0 or number == AT_FDCWD else b""
    if not folder.startswith(b"/"):
        return RELATIVE_PATH
    name, directory = normalise(folder + b"/" + path)
    crossed = crossing(context, name, False)
    if crossed is None:
        if len(context.plain_paths) >= _PLAIN_LIMIT:
            context.plain_paths.clear()
        context.plain_paths.add(path)
        return RELATIVE_PATH
    if write:
        crossed = crossing(context, name, True)
    if crossed is None or (crossed.at_end and not (follow or directory)):
        return RELATIVE_PATH
    return Place(name, crossed.decision, directory, tail=_tail(path) if directory else b"")


def opened_path(context: Context, task: Task, fd: int) -> bytes | None:
    """The pod path of what the register `fd` (AT_FDCWD: the working directory) stands for; None if it is not the pod's.

    Empty: it is the pod's, but its path is too long to be told.
    """
    mount = mount_of(context)
    number = to_int32(fd)
    if not mount.is_used or (number < 0 and number != AT_FDCWD) or task.device(number) != mount.device:
        return None
    path = task.path_of(number)
    return path if path.startswith(b"/") else b""


def is_directory(task: Task, fd: int) -> bool:
    """Whether the register `fd` (AT_FDCWD: the working directory) stands for a directory.

    A link that was opened itself (O_PATH|O_NOFOLLOW) is none, though its path in /proc leads on.
    """
    number = to_int32(fd)
    return number == AT_FDCWD or task.may_be_directory(number)


def find_below(context: Context, base: bytes, path: bytes, write: bool) -> Continue | Place:
    """The relative `path` behind the pod directory `base`."""
    name, directory = normalise(mount_of(context).name_of(base) + b"/" + path)
    decision = decide(context, name, write)
    if decision.route is Route.REMOTE and base.endswith(DELETED):
        return Continue(decision)  # the kernel alone knows what is below a directory without a name
    native, _ = normalise(base + b"/" + path)
    if decision.path == native and _climbs(path):
        native = _as_written(base + b"/" + path)
        decision = replace(decision, path=native)
    tail = _tail(path) if directory else b""
    # A mapping of something below the directory is no place where the kernel would get by itself.
    return Place(name, decision, directory, base=base if decision.path == native else b"", tail=tail)


def find_absolute(context: Context, task: Task, path: bytes, *, write: bool = False, follow: bool = True) -> Continue | Place:
    """The file that an absolute path means."""
    name, directory = normalise(path)
    if name.startswith(b"/proc/"):
        special = _special(context, task, name, directory, write, follow)
        if special is not None:
            return special
    decision = decide(context, name, write)
    if decision.route is Route.REMOTE or decision.path or (b"/.." in path and leaves_pod(context, path)):
        if decision.route is Route.REMOTE and decision.path != name:
            mount_of(context).note_name(decision.path, name)
        elif decision.route is Route.REMOTE and _climbs(path):
            decision = replace(decision, path=_as_written(path))
        return Place(name, decision, directory, tail=_tail(path) if directory else b"")
    crossed = crossing(context, name, write)
    if crossed is None:
        return remember(context, path, write, decision)
    if crossed.at_end and not (follow or directory):
        return Continue(decision)
    return Place(name, crossed.decision, directory, tail=_tail(path) if directory else b"")


def is_magic(path: bytes) -> bool:
    """Whether an absolute path may lead into the mount though policy leaves it to the kernel."""
    return path.startswith(MAGIC)


def _climbs(path: bytes) -> bool:
    # Whether a `..` comes after a name.
    parts = [part for part in path.split(b"/") if part not in (b"", b".")] if b".." in path else []
    return b".." in parts and parts.count(b"..") != next((n for n, part in enumerate(parts) if part != b".."), len(parts))


# Without what means nothing; `..` behind a name stays, since the name may be a link or no directory: only the pod knows.
def _as_written(path: bytes) -> bytes:
    return b"/" + b"/".join(part for part in path.split(b"/") if part not in (b"", b"."))


# mkdir("x/") makes a directory, mkdir("x/.") does not: the end has to stay as it is.
def _tail(path: bytes) -> bytes:
    return b"/" if path.endswith(b"/") else b"/."


# Paths whose meaning is not in their text: never remembered as local. None: nothing special after all.
def _special(context: Context, task: Task, name: bytes, directory: bool, write: bool, follow: bool) -> Continue | Place | None:
    match = PROGRAM.match(name)
    if match is None:
        return whole_machine(context, task, name, directory, write)
    program = program_behind(task, match) if follow else b""
    if not program:
        return Continue(decide(context, name, write))
    decision = decide(context, program, write)
    return Place(program, decision, directory) if decision.route is Route.REMOTE else Continue(decision)


def program_behind(task: Task, match: re.Match[bytes]) -> bytes:
    """What a path that is a `PROGRAM` has to lead to, if that is not what it leads to in the kernel; else empty."""
    return task.program_of(int(match[1]) if match[1].isdigit() else task.tgid)
