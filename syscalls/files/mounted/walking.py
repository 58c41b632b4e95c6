"""path_resolution(7) by hand from a pod directory on, for rules of openat2(2) that the kernel cannot keep in the mounted tree.

Links are absolute here, as the pod has them; to the kernel they are relative ones (supervisor/fuse/names.py).
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Generator

from ....agent.wire.messages import LinkTarget, ReadLink
from ...abi.flags import RESOLVE_BENEATH, RESOLVE_IN_ROOT, RESOLVE_NO_XDEV
from ...actions import Action, Outcome, Route, SyscallError
from ...context import Context
from ..place import Place, asked
from .attributes import attributes_of

_MAX_LINKS = 40


def step(place: Place, path: bytes) -> Place:
    """Another pod path, on the way to `place`."""
    return place._replace(decision=place.decision.__class__(Route.REMOTE, place.decision.reason, path), directory=False)


def walk(context: Context, place: Place, path: bytes, follow: bool, resolve: int) -> Generator[Action, Outcome, bytes]:
    """Where `path` leads from the pod directory `place.base` on: a real path below it, without links and `..`, or an errno.

    `resolve`: of RESOLVE_BENEATH and IN_ROOT, which keep it there, one; or RESOLVE_NO_XDEV alone: then the result may be
    anywhere, and means nothing. The last name need not be there. One look at each name, one round trip for each link.
    """
    top = [name for name in place.base.split(b"/") if name]
    floor = len(top) if resolve & (RESOLVE_BENEATH | RESOLVE_IN_ROOT) else 0
    names, todo, links = list(top), path.split(b"/")[::-1], 0
    while todo:
        name = todo.pop()
        if name in (b"", b"."):
            continue
        if name == b"..":
            if len(names) > floor:
                names.pop()
            elif resolve & RESOLVE_BENEATH:
                raise SyscallError(errno.EXDEV, place.decision)
            continue
        target = yield from _target(context, place, [*names, name], todo, follow)
        if not target:
            names.append(name)
            continue
        links += 1
        if links > _MAX_LINKS:
            raise SyscallError(errno.ELOOP, place.decision)
        if target.startswith(b"/"):
            if not resolve & RESOLVE_IN_ROOT and resolve & (RESOLVE_BENEATH | RESOLVE_NO_XDEV):
                raise SyscallError(errno.EXDEV, place.decision)
            names = list(top)
        todo += target.split(b"/")[::-1]
    tail = b"/" if path.endswith((b"/", b"/.", b"/..")) else b""
    return (b"/".join(names[len(top) :]) or b".") + tail


# Of a link that is to be followed: its target; else nothing.
def _target(
    context: Context, place: Place, names: list[bytes], todo: list[bytes], follow: bool
) -> Generator[Action, Outcome, bytes]:
    if not todo and not follow:
        return b""
    here = step(place, b"/" + b"/".join(names))
    is_last = not any(todo)
    try:
        found = yield from attributes_of(context, here, False)
    except SyscallError as error:
        if error.errno == errno.ENOENT and is_last:
            return b""  # to be created, maybe
        raise
    if stat.S_ISLNK(found.mode):
        return (yield from asked(ReadLink(here.decision.path), LinkTarget, place.decision)).target
    if not is_last and not stat.S_ISDIR(found.mode):
        raise SyscallError(errno.ENOTDIR, place.decision)
    return b""
