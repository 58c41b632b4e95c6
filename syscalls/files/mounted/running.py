"""Has the kernel run a call on a file of the mounted tree."""

from __future__ import annotations

import errno
from collections.abc import Generator, Mapping, Sequence
from typing import NamedTuple

from ...actions import Action, Continue, Decision, Handling, Keep, Outcome, Route, Scratch, SyscallError, run
from ...context import Context
from ...requests import Foretell
from ...task import Task
from ..place import PATH_MAX, Place
from .find import mount_of

# Of a thread that may not look into our /proc entry, which the prefix leads through: see supervisor/tracer/doors.py.
_CLOSED_TO_IT = (-errno.EACCES, -errno.EPERM, -errno.ENOENT, -errno.ELOOP)


class Target(NamedTuple):
    """A place, the number of the argument that is to lead to it, and what is about to be done there (see `Foretell`)."""

    argument: int
    place: Place
    follow: bool = True
    content: bool = False
    directory: bool = False


def run_at(
    context: Context, task: Task, targets: Sequence[Target], others: Mapping[int, int | Scratch] | None = None
) -> Handling:
    """The rest of a call on these places, with the arguments `others` replaced as well. 2 stops.

    1 stop if all are behind pod directories, where the kernel gets by itself.
    """
    decision = next((target.place.decision for target in targets if is_remote(target)), targets[0].place.decision)
    for target in targets:
        if is_remote(target):
            foretell(context, target)
    if not others and all(is_native(target) for target in targets):
        return Continue(decision)
    yield from run_with_prefix(context, task, targets, others or {}, decision)
    return Keep(decision)


def run_with_prefix(
    context: Context, task: Task, targets: Sequence[Target], others: Mapping[int, int | Scratch], decision: Decision
) -> Generator[Action, Outcome, int]:
    """The kernel's result of the call on these places."""
    prefix = mount_of(context).prefix if context.doors is None else context.doors.prefix(task)
    result = yield from run(_replaced(targets, others, prefix))
    if result in _CLOSED_TO_IT and context.doors is not None and any(is_remote(target) for target in targets):
        prefix = context.doors.other(task)
        if prefix:
            result = yield from run(_replaced(targets, others, prefix))
    return result


def is_remote(target: Target) -> bool:
    """Whether the place is in the mount."""
    return target.place.decision.route is Route.REMOTE


def is_native(target: Target) -> bool:
    """Whether the path, as the tracee wrote it, leads to the place."""
    return bool(target.place.base) and is_remote(target)


def foretell(context: Context, target: Target) -> None:
    """Tell the relay what the kernel is about to look up, and note that a tracee may have a file of the mount from now on."""
    mount_of(context).is_used = True
    place = target.place
    follow = target.follow or place.directory
    context.relay.tell(Foretell(place.decision.path, follow, target.content, target.directory))


def path_argument(place: Place, prefix: bytes) -> Scratch:
    """The path that leads the kernel to the place. ENAMETOOLONG if no call takes it."""
    path = place.decision.path or place.name
    if place.decision.route is Route.REMOTE:
        path = prefix + path
    if place.directory and not path.endswith(b"/"):
        path += place.tail or b"/"
    if len(path) >= PATH_MAX:
        raise SyscallError(errno.ENAMETOOLONG, place.decision)
    return Scratch(path + b"\0")


def _replaced(targets: Sequence[Target], others: Mapping[int, int | Scratch], prefix: bytes) -> dict[int, int | Scratch]:
    replaced = dict(others)
    for target in targets:
        if not is_native(target):
            replaced[target.argument] = path_argument(target.place, prefix)
    return replaced
