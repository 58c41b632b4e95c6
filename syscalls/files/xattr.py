"""getxattr(2), lgetxattr(2), listxattr(2), llistxattr(2): the pod's files are shown as on a file system without any.

Left to the kernel these calls would find no such file here, and ls -l and cp -a would complain about every pod file. The
fd forms need nothing: a stand-in has no attributes either.
"""

from __future__ import annotations

import errno

from ..abi.flags import AT_FDCWD
from ..actions import Continue, Handling, Return, Route
from ..context import Args, Context
from ..task import Task
from .place import find, run_elsewhere


def getxattr(context: Context, task: Task, args: Args) -> Handling:
    """getxattr(2): EOPNOTSUPP for pod files, present or not. 1 stop."""
    return (yield from _none(context, task, args, True, -errno.EOPNOTSUPP))


def lgetxattr(context: Context, task: Task, args: Args) -> Handling:
    """lgetxattr(2): EOPNOTSUPP for pod files, present or not. 1 stop."""
    return (yield from _none(context, task, args, False, -errno.EOPNOTSUPP))


def listxattr(context: Context, task: Task, args: Args) -> Handling:
    """listxattr(2): an empty list for pod files, present or not. 1 stop."""
    return (yield from _none(context, task, args, True, 0))


def llistxattr(context: Context, task: Task, args: Args) -> Handling:
    """llistxattr(2): an empty list for pod files, present or not. 1 stop."""
    return (yield from _none(context, task, args, False, 0))


def _none(context: Context, task: Task, args: Args, follow: bool, result: int) -> Handling:
    place = find(context, task, AT_FDCWD, args[0], follow=follow)
    if isinstance(place, Continue):
        return place
    if place.decision.route is Route.LOCAL:
        return (yield from run_elsewhere(place, 0))
    return Return(result, place.decision)
