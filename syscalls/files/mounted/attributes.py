"""What the pod says of a path: from what is still good of earlier answers, or in one round trip.

The mounted tree would say the same, but a call on a rewritten path stops twice and looks every name up. Answers are kept
for as long as the relay allows and nothing has changed (`Mount.known`).
"""

from __future__ import annotations

import errno
import stat as modes
from collections.abc import Generator

from ....agent.wire.messages import FileStat
from ...actions import Action, Outcome, SyscallError
from ...context import Context
from ...mount import KnownStat
from ...requests import PathStat, StatPath
from ..place import Place, asked
from .find import mount_of


def attributes_of(context: Context, place: Place, follow: bool, fresh: bool = False) -> Generator[Action, Outcome, FileStat]:
    """stat(2) or lstat(2) of a REMOTE place, or its errno; ENOTDIR if its path demands a directory and it is none.

    `fresh`: nothing that is known already will do.
    """
    if place.remote is not None:
        attributes = place.remote.stat
    else:
        known = yield from _look(context, place, follow or place.directory, fresh)
        if known.errno:
            raise SyscallError(known.errno, place.decision)
        attributes = known.stat
    if place.directory and not modes.S_ISDIR(attributes.mode):
        raise SyscallError(errno.ENOTDIR, place.decision)
    return attributes


def _look(context: Context, place: Place, follow: bool, fresh: bool) -> Generator[Action, Outcome, KnownStat | PathStat]:
    mount, path = mount_of(context), place.decision.path
    known = None if fresh else mount.known(path, follow)
    if known is not None:
        return known
    reply = yield from asked(StatPath(path, follow, fresh), PathStat, place.decision)
    mount.learn(path, follow, reply)
    return reply
