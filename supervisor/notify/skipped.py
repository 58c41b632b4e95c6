"""Whether processes are skipped (tracer/skipping.py), decided once for each program that one executes.

A decision is kept until the next execve(2): what it is made by, the first argument, is the process's own memory, which it may
overwrite later. A forked child is as its parent.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

_FEWEST_TO_PRUNE = 1024

Skips = Callable[[int, bytes, bool], bool]
"""See `Skipping.skips`."""


class _Image(NamedTuple):
    # Tells processes that have had one number after another from each other, and as a rule the programs that one executes.
    started: int
    stack: int


class Skipped:
    """The decisions by tgid."""

    def __init__(self, skips: Skips) -> None:
        self._skips = skips
        self._decided: dict[int, tuple[_Image, bool]] = {}
        self._prune_at = _FEWEST_TO_PRUNE

    def of(self, tgid: int, tid: int, program: bytes) -> bool:
        """Of a process that is not known to have executed anything since it was looked up last.

        `tid`: its thread that calls, since nothing is to be seen of a leader that has ended. `program`: see `Task.program_of`.
        """
        parent, image = _look(tgid)
        decided = self._decided.get(tgid)
        if decided is not None and _is_same(decided[0], image):
            return decided[1]
        parents = self._decided.get(parent)
        is_forked = parents is not None and parents[0].stack == image.stack != 0
        is_skipped = parents[1] if parents is not None and is_forked else self._skips(tid, program, False)
        self._keep(tgid, image, is_skipped)
        return is_skipped

    def meanwhile(self, tid: int, program: bytes) -> bool:
        """Of a thread whose process is executing something, and may have done so already. Nothing is kept."""
        return self._skips(tid, program, False)

    def executed(self, tgid: int, tid: int, program: bytes) -> None:
        """A process's execve(2) is over: decide anew. That is news unless it has failed."""
        _, image = _look(tgid)
        decided = self._decided.get(tgid)
        is_new = decided is None or not _is_same(decided[0], image)
        self._keep(tgid, image, self._skips(tid, program, is_new))

    def _keep(self, tgid: int, image: _Image, is_skipped: bool) -> None:
        self._decided[tgid] = image, is_skipped
        if len(self._decided) > self._prune_at:  # nobody tells of ends
            self._decided = {pid: each for pid, each in self._decided.items() if os.path.exists(f"/proc/{pid}")}
            self._prune_at = max(_FEWEST_TO_PRUNE, 2 * len(self._decided))


# Of a leader that has ended there is no stack to be seen.
def _is_same(before: _Image, now: _Image) -> bool:
    return before.started == now.started and now.stack in (before.stack, 0)


# The parent, when the process started, and the address of its stack, which is another for every program (if there is ASLR).
def _look(tgid: int) -> tuple[int, _Image]:
    try:
        with open(f"/proc/{tgid}/task/{tgid}/stat", "rb") as status:
            fields = status.read().rpartition(b")")[2].split()
        return int(fields[1]), _Image(int(fields[19]), int(fields[25]))
    except (OSError, IndexError):
        return 0, _Image(0, 0)
