"""Run a program of this machine in the pod's network: `python in_network.py PID PROGRAM [ARGS]`.

Files, users and the rest are this machine's: so servers that the demo pod's small file system does not hold can run as
neighbours of its container. PROGRAM is looked up in PATH. It is not root there, whoever calls: PostgreSQL refuses to be.
"""

from __future__ import annotations

import os
import sys

from mirrord_trace.supervisor.targets.demo import kernel

_UID = 1000


def main() -> None:
    """Join the pod's user and network namespaces, become an ordinary user, then the program."""
    pid, *command = sys.argv[1:]
    uid, gid = os.geteuid(), os.getegid()
    network = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    user = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY)
    if not os.path.samestat(os.fstat(user), os.stat("/proc/self/ns/user")):
        kernel.setns(user, kernel.CLONE_NEWUSER)
        uid, gid = 0, 0  # what the caller is called in there
    kernel.setns(network, kernel.CLONE_NEWNET)
    kernel.unshare(kernel.CLONE_NEWUSER)
    for name, line in (("setgroups", "deny"), ("uid_map", f"{_UID} {uid} 1"), ("gid_map", f"{_UID} {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(line)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
