"""fchdir(2): a pod directory cannot become the working directory."""

from __future__ import annotations

import errno

from ..actions import Handling, SyscallError
from ..context import Args, Context
from ..objects import RemoteDirectory
from ..task import Task
from .place import LOCAL_OBJECT, object_decision, remote_object


def fchdir(context: Context, task: Task, args: Args) -> Handling:
    """fchdir(2): EACCES for a pod directory, with a line for the user: relative paths are local. 1 stop."""
    yield from ()
    remote = remote_object(context, task, args[0])
    if not isinstance(remote, RemoteDirectory):
        return LOCAL_OBJECT
    context.notice("chdir", "a directory of the pod cannot be the working directory yet: the program gets EACCES")
    raise SyscallError(errno.EACCES, object_decision(remote))
