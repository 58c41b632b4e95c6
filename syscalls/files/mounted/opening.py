"""open(2), creat(2), openat(2) where the pod's tree is mounted: the tracee's kernel opens the pod's file itself.

Everything on the descriptor is native from then on, without a stop. Whether the pod's file may be written is decided here by
the flags and once more by the relay, which every other way to the file leads to as well (/proc/self/fd/N).
"""

from __future__ import annotations

from ...abi.flags import AT_FDCWD, NATIVE, O_ACCMODE, O_CREAT, O_EXCL, O_NOATIME, O_PATH, O_TRUNC, O_WRONLY
from ...actions import Continue, Handling, Scratch
from ...context import Args, Context
from ...task import Task
from ..open import open_place, writes
from ..place import Place
from .find import find, mount_of
from .running import Target, run_at


def open_(context: Context, task: Task, args: Args) -> Handling:
    """open(2): as openat(2) with AT_FDCWD."""
    return (yield from _open(context, task, AT_FDCWD, args[0], args[1] & 0xFFFF_FFFF, 0))


def creat(context: Context, task: Task, args: Args) -> Handling:
    """creat(2): open(2) with O_CREAT|O_WRONLY|O_TRUNC."""
    return (yield from _open(context, task, AT_FDCWD, args[0], O_CREAT | O_WRONLY | O_TRUNC, 0))


def openat(context: Context, task: Task, args: Args) -> Handling:
    """openat(2): local 1 stop; in the pod 2 stops, 1 behind a pod directory; the relay asks the pod at most once."""
    return (yield from _open(context, task, args[0], args[1], args[2] & 0xFFFF_FFFF, 1))


def _open(context: Context, task: Task, dirfd: int, address: int, flags: int, path_argument: int) -> Handling:
    place = find(context, task, dirfd, address, write=writes(flags), follow=follows(flags))
    if isinstance(place, Continue):
        return place
    if place.remote is not None:
        return (yield from open_place(context, task, place, flags, path_argument))
    others: dict[int, int | Scratch] = {}
    if flags & O_NOATIME and mount_of(context).is_ordinary:
        others[path_argument + 1] = flags & ~O_NOATIME  # which takes the file's owner, and the pod's is not ours
    return (yield from run_at(context, task, [opening(place, flags, path_argument)], others))


def follows(flags: int) -> bool:
    """Whether an open with these flags follows a symbolic link at the end of the path."""
    return not flags & NATIVE.nofollow and flags & (O_CREAT | O_EXCL) != O_CREAT | O_EXCL


def opening(place: Place, flags: int, path_argument: int) -> Target:
    """The open of a place, with what the relay has to know to ask the pod for everything at once."""
    directory = bool(flags & NATIVE.directory) and not flags & O_PATH
    reads = flags & O_ACCMODE != O_WRONLY and not flags & (O_TRUNC | O_PATH | NATIVE.directory)
    return Target(path_argument, place, follows(flags), content=reads and not place.directory, directory=directory)
