"""The calls about which nothing is special but the paths among their arguments: one handler, made from a description.

Where a path is the pod's it is replaced and the kernel runs the call on the mounted tree; that one path is the pod's and the
other is not (rename(2), link(2)) the kernel finds by itself: EXDEV. The result is the kernel's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ...abi.flags import AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_FOLLOW, AT_SYMLINK_NOFOLLOW
from ...actions import Continue, Handling, Route
from ...context import Args, Context
from ...task import Task
from ..place import Place
from .acl import refuse_access_list
from .find import find
from .running import Target, is_remote, run_at
from .xattr import GETTING, LISTING, none_known

Handler = Callable[[Context, Task, Args], Handling]


class PathArgument(NamedTuple):
    """One path of a call, at argument `at`, relative to argument `dirfd` (-1: to the working directory).

    `write`: the call changes the file or its entry. `follow`: a symbolic link at its end is followed. `flags`: the argument
    in which `nofollow` or `follows` may say otherwise and AT_EMPTY_PATH may be (-1: none).
    """

    at: int
    dirfd: int = -1
    write: bool = False
    follow: bool = True
    flags: int = -1
    nofollow: int = AT_SYMLINK_NOFOLLOW
    follows: int = 0


class PathCall(NamedTuple):
    """A call: its name and its paths. `sets_at`: the argument that names the extended attribute to be set (-1: none)."""

    name: str
    paths: tuple[PathArgument, ...]
    sets_at: int = -1


def _reads(name: str, at: int = 0, dirfd: int = -1, flags: int = -1, follow: bool = True) -> PathCall:
    return PathCall(name, (PathArgument(at, dirfd, False, follow, flags),))


def _writes(name: str, at: int = 0, dirfd: int = -1, flags: int = -1, follow: bool = True) -> PathCall:
    return PathCall(name, (PathArgument(at, dirfd, True, follow, flags),))


def _entry(name: str, at: int = 0, dirfd: int = -1) -> PathCall:
    return _writes(name, at, dirfd, follow=False)


def _entries(name: str, *dirfds: int) -> PathCall:
    first, second = dirfds or (-1, -1)
    if dirfds:
        return PathCall(name, (PathArgument(1, first, True, False), PathArgument(3, second, True, False)))
    return PathCall(name, (PathArgument(0, first, True, False), PathArgument(1, second, True, False)))


_IN_DONT_FOLLOW = 0x02000000

CALLS: tuple[PathCall, ...] = (
    _writes("chmod"),
    _writes("fchmodat", 1, 0),
    _writes("fchmodat2", 1, 0, flags=3),
    _writes("chown"),
    _writes("lchown", follow=False),
    _writes("fchownat", 1, 0, flags=4),
    _writes("truncate"),
    _entry("mkdir"),
    _entry("mkdirat", 1, 0),
    _entry("mknod"),
    _entry("mknodat", 1, 0),
    _entry("rmdir"),
    _entry("unlink"),
    _entry("unlinkat", 1, 0),
    _entries("rename"),
    _entries("renameat", 0, 2),
    _entries("renameat2", 0, 2),
    # The file gets one more name, but what is changed is the directory of the new one.
    PathCall("link", (PathArgument(0, -1, False, False), PathArgument(1, -1, True, False))),
    PathCall(
        "linkat",
        (PathArgument(1, 0, False, False, 4, 0, AT_SYMLINK_FOLLOW), PathArgument(3, 2, True, False)),
    ),
    # The target is text.
    _entry("symlink", 1),
    _entry("symlinkat", 2, 1),
    _writes("utime"),
    _writes("utimes"),
    _writes("futimesat", 1, 0),
    _writes("utimensat", 1, 0, flags=3),
    _reads("statfs"),
    _writes("setxattr")._replace(sets_at=1),
    _writes("lsetxattr", follow=False)._replace(sets_at=1),
    _reads("getxattr"),
    _reads("lgetxattr", follow=False),
    _reads("listxattr"),
    _reads("llistxattr", follow=False),
    _writes("removexattr"),
    _writes("lremovexattr", follow=False),
    _writes("setxattrat", 1, 0, flags=2)._replace(sets_at=3),
    _reads("getxattrat", 1, 0, flags=2),
    _reads("listxattrat", 1, 0, flags=2),
    _writes("removexattrat", 1, 0, flags=2),
    PathCall("inotify_add_watch", (PathArgument(1, -1, False, True, 2, _IN_DONT_FOLLOW),)),
    PathCall("name_to_handle_at", (PathArgument(1, 0, False, False, 4, 0, AT_SYMLINK_FOLLOW),)),
    _reads("file_getattr", 1, 0, flags=4),
    _writes("file_setattr", 1, 0, flags=4),
    _reads("open_tree", 1, 0, flags=2),
)
"""All of them."""

CHANGES = frozenset({"rename", "renameat", "renameat2", "symlink", "symlinkat", "link", "linkat"})
"""Calls that may put a symbolic link where a directory was."""

_NO_EMPTY_PATH = frozenset({"inotify_add_watch"})


def _handler(call: PathCall) -> Handler:
    def handler(context: Context, task: Task, args: Args) -> Handling:
        if call.name in CHANGES:
            context.directories.clear()
        places = [_find(context, task, args, path, call) for path in call.paths]
        targets = [
            Target(path.at, place, _follows(path, args))
            for path, place in zip(call.paths, places, strict=True)
            if isinstance(place, Place) and place.remote is None
        ]
        if call.name in GETTING or call.name in LISTING:
            place = places[0]
            if isinstance(place, Place) and place.decision.route is Route.REMOTE and place.remote is None:
                answer = none_known(context, task, args, call.name, place, _follows(call.paths[0], args))
                if answer is not None:
                    return answer
        if call.sets_at >= 0 and any(map(is_remote, targets)):
            refuse_access_list(context, task, args[call.sets_at])
        if targets:
            return (yield from run_at(context, task, targets))
        first = places[0]
        return first if isinstance(first, Continue) else Continue(first.decision)

    handler.__name__ = handler.__qualname__ = call.name
    handler.__doc__ = f"{call.name}(2): 1 stop if local or relative to a pod directory; 2 stops on a path of the pod."
    return handler


def _find(context: Context, task: Task, args: Args, path: PathArgument, call: PathCall) -> Continue | Place:
    dirfd = args[path.dirfd] if path.dirfd >= 0 else AT_FDCWD
    empty = path.flags >= 0 and call.name not in _NO_EMPTY_PATH and bool(args[path.flags] & AT_EMPTY_PATH)
    return find(context, task, dirfd, args[path.at], write=path.write, follow=_follows(path, args), empty=empty)


def _follows(path: PathArgument, args: Args) -> bool:
    flags = args[path.flags] if path.flags >= 0 else 0
    return bool(flags & path.follows) if path.follows else path.follow and not flags & path.nofollow


HANDLERS: dict[str, Handler] = {call.name: _handler(call) for call in CALLS}
"""Syscall name -> handler."""
