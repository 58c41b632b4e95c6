"""access(2), faccessat(2), faccessat2(2) where the pod's tree is mounted: what the pod's container may do.

Whether a file is there comes from its attributes, which may be known; what may be done with it only the pod can tell.
"""

from __future__ import annotations

from collections.abc import Generator

from ...abi.flags import AT_FDCWD
from ...actions import Action, Handling, Outcome
from ...context import Args, Context
from ...task import Task
from ..access import Tier, check
from ..place import Place
from .attributes import attributes_of
from .find import find
from .running import Target, run_at


def access(context: Context, task: Task, args: Args) -> Handling:
    """access(2): 1 stop; remote 1 round trip, or none for F_OK of a known path."""
    return (yield from check(_MOUNTED, context, task, AT_FDCWD, args[0], args[1], 0, 0))


def faccessat(context: Context, task: Task, args: Args) -> Handling:
    """faccessat(2), the call without flags: as access(2)."""
    return (yield from check(_MOUNTED, context, task, args[0], args[1], args[2], 0, 1))


def faccessat2(context: Context, task: Task, args: Args) -> Handling:
    """faccessat2(2): as access(2). AT_EACCESS makes no difference in the pod."""
    return (yield from check(_MOUNTED, context, task, args[0], args[1], args[2], args[3], 1))


def _look(context: Context, place: Place, mode: int, follow: bool) -> Generator[Action, Outcome, bool]:
    if place.directory or not mode:
        yield from attributes_of(context, place, follow)
    return bool(mode)


_MOUNTED = Tier(find, lambda context, task, place, argument: run_at(context, task, [Target(argument, place)]), _look)
