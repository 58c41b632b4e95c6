"""Run a static program as a process of the pod itself: `python inside.py PID PROGRAM [ARGS]`. The oracle of the tests.

What the program prints there, natively, is what it shall print here under supervision.
"""

from __future__ import annotations

import os
import sys

from mirrord_trace.supervisor.targets.demo import kernel

_NAMESPACES = (
    ("user", kernel.CLONE_NEWUSER),
    ("net", kernel.CLONE_NEWNET),
    ("uts", kernel.CLONE_NEWUTS),
    ("mnt", kernel.CLONE_NEWNS),
)


def main() -> None:
    """Join the pod's namespaces and become the program, which may lie outside of them."""
    pid, program, *arguments = sys.argv[1:]
    with open(f"/proc/{pid}/environ", "rb") as file:
        environment = dict(entry.split(b"=", 1) for entry in file.read().split(b"\0") if entry)
    executable = os.open(program, os.O_RDONLY)
    namespaces = [(os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY), name, flag) for name, flag in _NAMESPACES]
    for fd, name, flag in namespaces:
        if name != "user" or not os.path.samestat(os.fstat(fd), os.stat("/proc/self/ns/user")):
            kernel.setns(fd, flag)
    os.chdir("/")
    os.execve(executable, [program, *arguments], environment)


if __name__ == "__main__":
    main()
