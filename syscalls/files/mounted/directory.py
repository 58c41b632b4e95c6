"""chdir(2), fchdir(2), getcwd(2) where the pod's tree is mounted: a pod directory may be the working directory.

The kernel walks from there by itself, but its getcwd(2) says "(unreachable)/app", since the mount is attached nowhere. So
that call stops too, in processes that have gone there and in what they start.
"""

from __future__ import annotations

import errno
from collections.abc import Generator

from ...abi.flags import AT_FDCWD
from ...actions import Action, Continue, Decision, Handling, Keep, Outcome, Reason, Return, Route, SyscallError, run, trap
from ...context import Args, Context
from ...task import Task
from ..place import LOCAL_OBJECT, PATH_MAX
from .find import DELETED, REMOTE_OBJECT, find, is_magic, mount_of, opened_path
from .running import Target, run_at

_GETCWD = frozenset({"getcwd"})


def chdir(context: Context, task: Task, args: Args) -> Handling:
    """chdir(2): local 1 stop; in the pod 2, and 3 more the first time in a process."""
    place = find(context, task, AT_FDCWD, args[0])
    if isinstance(place, Continue):
        if mount_of(context).is_used and _may_lead_there(task, args[0]):
            yield from _trap(context)
        return place
    if place.decision.route is Route.REMOTE:
        if place.remote is not None:
            raise SyscallError(errno.ENOTDIR, place.decision)
        yield from _trap(context)
    return (yield from run_at(context, task, [Target(0, place)]))


def fchdir(context: Context, task: Task, args: Args) -> Handling:
    """fchdir(2): the kernel's; for a pod directory 3 stops more the first time in a process."""
    if opened_path(context, task, args[0]) is None:
        return LOCAL_OBJECT
    yield from _trap(context)
    return REMOTE_OBJECT


def getcwd(context: Context, task: Task, args: Args) -> Handling:
    """getcwd(2): the path in the pod. 1 stop, and only once the process or an ancestor has gone to a pod directory."""
    path = opened_path(context, task, AT_FDCWD)
    if path is None:
        return LOCAL_OBJECT
    if path.endswith(DELETED):
        # Part of the name, or the kernel's remark that there is none any more: its own getcwd(2) knows.
        result = yield from run()
        if result == -errno.ENOENT:
            return Keep(REMOTE_OBJECT.decision)
    decision = Decision(Route.REMOTE, Reason.REMOTE_OBJECT, path)
    answer = mount_of(context).name_of(path) + b"\0"
    if not path or len(answer) > PATH_MAX:
        raise SyscallError(errno.ENAMETOOLONG, decision)
    if len(answer) > args[1]:
        raise SyscallError(errno.ERANGE, decision)
    return Return(len(answer), decision, ((args[0], answer),))


# Through a magic link: where it leads is only known afterwards.
def _may_lead_there(task: Task, address: int) -> bool:
    try:
        path = task.read_string(address, PATH_MAX)
    except SyscallError:
        return False
    return is_magic(path)


def _trap(context: Context) -> Generator[Action, Outcome, None]:
    if (yield from trap(_GETCWD)):
        context.notice("trap-getcwd", "the kernel refused a further filter: getcwd shows pod directories as (unreachable)")
