"""Run Python as a process of the pod itself: `python inside_python.py PID FOLDER SOURCE`, for what busybox cannot do.

The pod has no Python: what the source may use is imported before the pod's namespaces are joined.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
import sys

from mirrord_trace.supervisor.targets.demo import kernel

_USABLE = {"ctypes": ctypes, "fcntl": fcntl, "kernel": kernel, "os": os, "struct": struct, "sys": sys}


def main() -> None:
    """Join, go to the folder, run the source."""
    pid, folder, source = sys.argv[1:]
    flags = {"user": kernel.CLONE_NEWUSER, "uts": kernel.CLONE_NEWUTS, "mnt": kernel.CLONE_NEWNS}
    namespaces = [(os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY), name, flag) for name, flag in flags.items()]
    for fd, name, flag in namespaces:
        if name != "user" or not os.path.samestat(os.fstat(fd), os.stat("/proc/self/ns/user")):
            kernel.setns(fd, flag)
    os.chdir(folder)
    exec(compile(source, "<inside>", "exec"), dict(_USABLE))


if __name__ == "__main__":
    main()
