"""What this machine must offer so that the pod's files are a mounted tree, and not copies."""

from __future__ import annotations

from collections.abc import Callable

from ..fuse.availability import Obstacle, find_obstacle
from .finding import Finding

_WHY = "the pod's files are a FUSE file system, so that every call works on them and they can be written"


def mounting(look: Callable[[], Obstacle | None] = find_obstacle) -> Finding:
    """fuse(4): can this user mount?"""
    obstacle = look()
    if obstacle is None:
        return Finding("FUSE", "ok", "the pod's files can be mounted", _WHY)
    what = f"{obstacle.what}; the pod's files are copies for reading"
    return Finding("FUSE", "warn", what, _WHY, obstacle.remedy)
