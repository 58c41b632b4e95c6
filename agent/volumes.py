"""Where the target's volumes are mounted, by the mount table that its kernel shows (/proc/PID/mountinfo, proc(5)).

What is left of the table when what every container has is taken off: its root, the file systems that are the kernel's
own, and the files that the runtime puts there. The paths in it count from the target's own root directory, also after a
chroot(2), and so are the target's already.
"""

from __future__ import annotations

import os
import re
from typing import List, Tuple

from .root import Root

_KERNELS = frozenset(
    (
        *(b"proc", b"sysfs", b"cgroup", b"cgroup2", b"devpts", b"devtmpfs", b"mqueue", b"securityfs", b"debugfs", b"tracefs"),
        *(b"bpf", b"pstore", b"efivarfs", b"configfs", b"fusectl", b"binfmt_misc", b"autofs", b"nsfs"),
    )
)
_RUNTIMES = frozenset(
    (b"/", b"/etc/hosts", b"/etc/hostname", b"/etc/resolv.conf", b"/run/.containerenv", b"/sbin/docker-init")
)
# Below these, and single libraries: GPU runtimes mount those of the node's driver, which fit the node's kernel.
_NOT_VOLUMES = re.compile(rb"/(?:dev|proc|sys)(?:/|\Z)|.*\.so(?:\.[0-9]+)*\Z", re.DOTALL)
_ESCAPED = re.compile(rb"\\([0-7]{3})")
_DELETED = b"//deleted"


def volumes(pid: int, root: Root) -> Tuple[bytes, ...]:
    """Mount points of the volumes of process `pid`, whose root directory is `root`; those inside of another left out.

    A process that sees the same mounts as the agent without being the agent is no container's: it has none.
    """
    try:
        if pid != os.getpid() and os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt"):
            return ()
        with open(f"/proc/{pid}/mountinfo", "rb") as file:
            found = parse(file.read())
    except OSError:
        return ()  # it has ended
    return tuple(alias for path in found for alias in _aliases(path, root))


def parse(mountinfo: bytes) -> Tuple[bytes, ...]:
    """The mount points of volumes in the content of a mountinfo file, sorted."""
    found: List[bytes] = []
    for path in sorted(set(filter(None, map(_volume, mountinfo.splitlines())))):
        if not any(path.startswith(outer + b"/") for outer in found):
            found.append(path)
    return tuple(found)


# The mount point of one line if it is that of a volume, else nothing.
def _volume(line: bytes) -> bytes:
    # ID PARENT DEVICE ROOT MOUNT-POINT OPTIONS [TAG...] - TYPE SOURCE OPTIONS
    mounted, separator, what = line.partition(b" - ")
    fields = mounted.split(b" ")
    if not separator or len(fields) < 6 or what.split(b" ")[0] in _KERNELS:
        return b""
    path = _ESCAPED.sub(lambda escape: bytes((int(escape[1], 8) & 0xFF,)), fields[4])
    if not path.startswith(b"/") or path in _RUNTIMES or path.endswith(_DELETED) or _NOT_VOLUMES.match(path):
        return b""
    return path


# The table has /run/x for what is mounted at /var/run/x in nearly all images, and programs use either.
def _aliases(path: bytes, root: Root) -> Tuple[bytes, ...]:
    if path.startswith(b"/run/") and _link(b"/var/run", root) in (b"/run", b"../run", b"/run/", b"../run/"):
        return path, b"/var" + path
    return (path,)


def _link(path: bytes, root: Root) -> bytes:
    try:
        fd = root.open_path(path, follow=False)
    except OSError:
        return b""
    try:
        return os.readlink(b"", dir_fd=fd)
    except OSError:
        return b""  # no link
    finally:
        os.close(fd)
