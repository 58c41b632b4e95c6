"""inotify_add_watch(2) where the pod's tree is mounted: what happens to the file in the pod is seen as well."""

from __future__ import annotations

from ....agent.wire.messages import Done
from ...abi.flags import AT_FDCWD
from ...actions import Continue, Handling, Route, SyscallError
from ...context import Args, Context
from ...requests import WatchTree
from ...task import Task
from ..place import asked
from .find import find
from .running import Target, run_at

_IN_DONT_FOLLOW = 0x02000000


def inotify_add_watch(context: Context, task: Task, args: Args) -> Handling:
    """inotify_add_watch(2): local 1 stop; in the pod 2 (1 behind a pod directory) and a round trip.

    If the pod cannot watch (its limits of inotify(7)), a line says so, and the program sees what it does itself.
    """
    follow = not args[2] & _IN_DONT_FOLLOW
    place = find(context, task, AT_FDCWD, args[1], follow=follow)
    if isinstance(place, Continue):
        return place
    if place.remote is not None:
        return Continue(place.decision)
    if place.decision.route is Route.REMOTE:
        try:
            yield from asked(WatchTree(place.decision.path, follow or place.directory), Done, place.decision)
        except SyscallError as error:
            context.notice("inotify", f"the pod cannot watch files (errno {error.errno}): changes made there are not seen")
    return (yield from run_at(context, task, [Target(1, place, follow)]))
