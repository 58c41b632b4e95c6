"""xattr(7) where the pod's tree is mounted: a file that is known to have none is answered for at the stop.

`ls -l` asks for three attributes of every file that it shows. Whether there are any comes with the directory's listing.
"""

from __future__ import annotations

import errno
import stat

from ...actions import Return, SyscallError
from ...context import Args, Context
from ...task import Task
from ..place import Place
from .find import mount_of

GETTING = frozenset({"getxattr", "lgetxattr"})
LISTING = frozenset({"listxattr", "llistxattr"})

_NAMESPACES = (b"user.", b"security.", b"trusted.", b"system.posix_acl_")  # of another one the pod's file system knows
_LONGEST_NAME = 256


def none_known(context: Context, task: Task, args: Args, name: str, place: Place, follow: bool) -> Return | None:
    """The answer to the call `name` on a REMOTE place, if it is known that there are no attributes: an empty list, or ENODATA.

    None: the kernel has to be asked, also about links, of which it has rules of its own.
    """
    known = mount_of(context).known(place.decision.path, follow or place.directory)
    if known is None or known.errno or not known.no_xattrs or stat.S_ISLNK(known.stat.mode):
        return None
    if place.directory and not stat.S_ISDIR(known.stat.mode):
        return None
    if name in LISTING:
        return Return(0, place.decision)
    try:
        attribute = task.read_string(args[1], _LONGEST_NAME)
    except SyscallError:
        return None
    if not attribute.startswith(_NAMESPACES) or attribute in _NAMESPACES:
        return None
    raise SyscallError(errno.ENODATA, place.decision)
