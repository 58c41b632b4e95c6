"""The threads of a process and of all its descendants, from /proc."""

from __future__ import annotations

from ..descendants import descendants, tasks_of


def processes_below(pid: int) -> list[int]:
    """`pid` and its descendants as they are now, parents first. Those whose parent has ended are somebody else's."""
    return [pid, *descendants(pid)]


def threads_of(pid: int) -> list[int]:
    """Its threads, the group leader first; empty once it is gone."""
    return sorted(tasks_of(pid), key=lambda tid: (tid != pid, tid))


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
