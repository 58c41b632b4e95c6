"""acl(5) where the pod's tree is mounted by an ordinary user.

Access lists are extended attributes that only a file's owner may set, and the local kernel judges that by the users of this
machine before the pod is asked. So the pod's files have none, as on many network file systems, and cp -p and the like fall
back to chmod(2), which the pod judges.
"""

from __future__ import annotations

import errno

from ...actions import Decision, Handling, Reason, Route, SyscallError
from ...context import Args, Context
from ...task import Task
from ..place import LOCAL_OBJECT
from .find import REMOTE_OBJECT, mount_of, opened_path

_PREFIX = b"system.posix_acl_"
_LONGEST_NAME = 256
_REFUSED = Decision(Route.REMOTE, Reason.UNSUPPORTED)


def fsetxattr(context: Context, task: Task, args: Args) -> Handling:
    """fsetxattr(2): EOPNOTSUPP for the access list of a pod file; else the kernel's. 1 stop."""
    yield from ()
    if opened_path(context, task, args[0]) is None:
        return LOCAL_OBJECT
    refuse_access_list(context, task, args[1])
    return REMOTE_OBJECT


def refuse_access_list(context: Context, task: Task, address: int) -> None:
    """EOPNOTSUPP if an attribute of a pod file is to be set whose name, at `address`, is that of an access list."""
    if not mount_of(context).is_ordinary:
        return
    try:
        name = task.read_string(address, _LONGEST_NAME)
    except SyscallError:
        return  # the kernel knows what is wrong with it
    if name.startswith(_PREFIX):
        raise SyscallError(errno.EOPNOTSUPP, _REFUSED)
