"""symlink(7): links of this machine that lead to where the pod's files are.

Policy decides by a path's text, and the kernel would follow a link from a local path to /app and find nothing there. So a
local path is looked at, name by name, when it is first used; if a link on it leads to a path of the pod that this machine has
not got, the pod's file is meant. If it has, the link is about this machine (.venv/bin/python leads to the python3 beside it).
Links of the pod are the pod's business: they never lead here.
"""

from __future__ import annotations

from typing import NamedTuple

from ...actions import Decision, Route
from ...context import Context
from ..place import normalise

_MOST_LINKS = 40


class Crossing(NamedTuple):
    """The pod's path behind a local one. `at_end`: the link is the last name, so that lstat(2) means the link."""

    decision: Decision
    at_end: bool


def crossing(context: Context, path: bytes, write: bool) -> Crossing | None:
    """Where the local path (absolute, normalised) leads to in the pod, or None: it stays here."""
    at_end = False
    for number in range(_MOST_LINKS):
        if path.startswith(b"/proc/"):
            return None  # its links mean something else to each process, and the kernel follows them into the mount
        found = _first_link(context, path)
        if found is None:
            return None
        link, target = found
        rest = path[len(link) :]
        if number == 0:
            at_end = not rest
        folder = link.rpartition(b"/")[0]
        path, _ = normalise((target if target.startswith(b"/") else folder + b"/" + target) + rest)
        decision = context.policy.file(path, write=write)
        if decision.route is Route.REMOTE:
            return None if context.read_link(path) is not None else Crossing(decision, at_end)
        if decision.route is Route.MISSING or decision.path:
            return None
    return None


def _first_link(context: Context, path: bytes) -> tuple[bytes, bytes] | None:
    parent = path.rpartition(b"/")[0]
    is_known = context.directories.has(parent)
    end = len(parent) if is_known else 0
    while end < len(path):
        end = path.find(b"/", end + 1)
        end = len(path) if end < 0 else end
        target = context.read_link(path[:end])
        if target:
            return path[:end], target
        if end == len(path) and parent and not is_known:
            context.directories.add(parent)
        if target is None:
            return None
    return None
