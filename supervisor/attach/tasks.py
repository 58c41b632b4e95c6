"""The threads of a process and of all its descendants, from /proc."""

from __future__ import annotations

import os
from collections import defaultdict


def processes_below(pid: int) -> list[int]:
    """`pid` and its descendants as they are now, parents first. Those whose parent has ended are somebody else's."""
    children: dict[int, list[int]] = defaultdict(list)
    for name in os.listdir("/proc"):
        if name.isdecimal():
            parent = parent_of(int(name))
            children[parent].append(int(name))
    found = [pid]
    for process in found:
        found += children[process]
    return found


def parent_of(pid: int) -> int:
    """0 if it has none or is gone."""
    return int(status(pid).get("PPid", "0"))


def threads_of(pid: int) -> list[int]:
    """Its threads, the group leader first; empty once it is gone."""
    try:
        return sorted((int(name) for name in os.listdir(f"/proc/{pid}/task")), key=lambda tid: (tid != pid, tid))
    except OSError:
        return []


def status(tid: int) -> dict[str, str]:
    """The fields of /proc/TID/status; empty if there is no such task."""
    try:
        with open(f"/proc/{tid}/status", encoding="utf-8", errors="replace") as file:
            return {name: value.strip() for name, _, value in (line.partition(":") for line in file)}
    except OSError:
        return {}


def named(pid: int) -> str:
    """For people: "nginx (pid 4711)"."""
    name = status(pid).get("Name", "")
    return f"{name if name.isprintable() and name else 'a process'} (pid {pid})"
