"""How many files the processes of this tool may have open: as many as they can get."""

from __future__ import annotations

import contextlib
import resource

_PLENTY = 1 << 16


def raise_limit() -> None:
    """RLIMIT_NOFILE up to the hard limit, and beyond it for those who may (CAP_SYS_RESOURCE).

    A descriptor for the memory of each process, and each connection, are the tool's; what the program may have is its own
    business (`Inherited`).
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < _PLENTY:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (_PLENTY, _PLENTY))
