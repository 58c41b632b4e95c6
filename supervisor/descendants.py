"""Which processes descend from one, by /proc."""

from __future__ import annotations

import os


def descendants(ancestor: int) -> list[int]:
    """The pids below `ancestor`, zombies included, parents before their children.

    What is born or dies meanwhile may be missing or gone.
    """
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            children.setdefault(parent_of(int(name)), []).append(int(name))
    found: list[int] = []
    ahead = [ancestor]
    while ahead:
        below = children.pop(ahead.pop(), [])
        found += below
        ahead += below
    return found


def children(parent: int) -> set[int]:
    """Those among them that are its own."""
    return {int(name) for name in os.listdir("/proc") if name.isdigit() and parent_of(int(name)) == parent}


def parent_of(pid: int) -> int:
    """PPid, or 0 if the process has gone."""
    return _field(pid, 1)


def started_at(tid: int) -> int:
    """When a process or thread was started, in ticks since boot; 0 if it has gone."""
    return _field(tid, 19)


# proc_pid_stat(5), counted from what follows the program's name.
def _field(pid: int, number: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as status:
            return int(status.read().rpartition(b")")[2].split()[number])
    except (OSError, IndexError):
        return 0


def tasks_of(pid: int) -> list[int]:
    """Its threads; none if it has gone."""
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []
