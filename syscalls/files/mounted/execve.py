"""execve(2), execveat(2) where the pod's tree is mounted.

The kernel executes a pod file by its rewritten path like any other. But what the file names in turn, the interpreter of a
"#!" line or the loader of a dynamic program (PT_INTERP), it looks for at the path as it is, on this machine, and it tells a
script's interpreter the rewritten path. So where policy has the interpreter in the pod, or a script has been rewritten,
what the kernel would do is done here: the interpreter is executed, with its arguments before those of the call. Loaders
take the program as an argument, and `--argv0` (glibc 2.33, musl 1.2): /proc/self/exe is then the loader, which is why
readlink(2) of it is answered here (`Task.program_of`).

Local files are the kernel's, whatever interpreter they name.
"""

from __future__ import annotations

import errno
from collections.abc import Generator
from typing import NamedTuple

from ...abi.flags import AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW
from ...actions import Action, Continue, Decision, Handling, Keep, Outcome, Reason, Route, Scratch, SyscallError
from ...context import Args, Context
from ...requests import Head, ReadHead
from ...task import Task
from ..place import LOCAL_OBJECT, PATH_MAX, Place, asked
from .find import DELETED, REMOTE_OBJECT, find, find_absolute, mount_of, opened_path
from .interpreter import array, parse_script, read_array
from .running import Target, foretell, is_native, is_remote, run_at, run_with_prefix

_DEPTH = 5
"""The kernel's limit of interpreters of interpreters; one more is ELOOP."""


class _Registers(NamedTuple):
    # Where a call has its arguments; -1: nowhere.
    path: int
    argv: int
    dirfd: int = -1
    flags: int = -1


class _Start(NamedTuple):
    # What is to be executed. `lead`: the strings that take the place of argv[0], or none if argv stays as it is.
    place: Place
    lead: tuple[bytes, ...] = ()
    loads: bytes = b""


def execve(context: Context, task: Task, args: Args) -> Handling:
    """execve(2): local 1 stop. In the pod 2 stops and a round trip for each file on the way to the last interpreter."""
    return (yield from _execute(context, task, args, _Registers(0, 1)))


def execveat(context: Context, task: Task, args: Args) -> Handling:
    """execveat(2): as execve(2). 1 stop for an open file of the pod (AT_EMPTY_PATH), unless its interpreter is the pod's."""
    return (yield from _execute(context, task, args, _Registers(1, 2, 0, 4)))


def _execute(context: Context, task: Task, args: Args, at: _Registers) -> Handling:
    flags = args[at.flags] if at.flags >= 0 else 0
    dirfd = args[at.dirfd] if at.dirfd >= 0 else AT_FDCWD
    follow = not flags & AT_SYMLINK_NOFOLLOW
    place = find(context, task, dirfd, args[at.path], follow=follow, empty=bool(flags & AT_EMPTY_PATH))
    if place is LOCAL_OBJECT or place is REMOTE_OBJECT:
        place = _opened(context, task, dirfd)
    if isinstance(place, Continue):
        return place
    if place.remote is not None:
        return Continue(place.decision)  # the file with the hostname
    if _is_here(context, place):
        return Continue(Decision(Route.LOCAL, Reason.DEFAULT_LOCAL))
    target = Target(at.path, place, follow, content=True)
    if not is_remote(target):
        return (yield from run_at(context, task, [target]))
    foretell(context, target)
    written = task.read_string(args[at.path], PATH_MAX) if args[at.path] else b""
    # What a script's interpreter or a loader opens by itself; relative to another directory it would not find it.
    name = written if b"/" in written and (written.startswith(b"/") or at.dirfd < 0) else place.name
    start = yield from _start(context, task, place, name)
    if start.place is place and not start.lead and is_native(target):
        return Continue(place.decision)
    if is_native(target) and not _is_remote(start.place):
        return Continue(place.decision)  # the kernel reads the same line, and the path in it is as written
    return (yield from _run(context, task, args, at, start))


def _opened(context: Context, task: Task, dirfd: int) -> Continue | Place:
    path = opened_path(context, task, dirfd)
    if path is None:
        return LOCAL_OBJECT
    if not path or path.endswith(DELETED):
        return REMOTE_OBJECT
    decision = Decision(Route.REMOTE, Reason.REMOTE_OBJECT, path)
    return Place(mount_of(context).name_of(path), decision, base=path)


# A program is the pod's only if this machine has none of that name, as mirrord leaves all of exec to this machine: a
# project's own programs lie anywhere. With --from-pod all of them are the pod's.
def _is_here(context: Context, place: Place) -> bool:
    is_pods = place.decision.route is Route.REMOTE and not place.base and place.decision.reason is not Reason.FROM_POD
    return is_pods and context.read_link(place.name) is not None


def _run(context: Context, task: Task, args: Args, at: _Registers, start: _Start) -> Handling:
    others: dict[int, int | Scratch] = {}
    if start.lead:
        pointers = read_array(task, args[at.argv])
        lead: tuple[bytes | int, ...] = start.lead
        others[at.argv] = array([*_with_argv0(lead, start, pointers), *pointers[1:]])
        if at.flags >= 0:
            others[at.flags] = 0
    decision = start.place.decision
    task.will_execute(start.loads)
    try:
        yield from run_with_prefix(context, task, [Target(at.path, start.place, content=True)], others, decision)
    finally:
        task.will_execute(b"")
    return Keep(decision)


# A loader is told what the program is to have as argv[0]: what the call says, unless a script has put its own there.
def _with_argv0(lead: tuple[bytes | int, ...], start: _Start, pointers: list[int]) -> list[bytes | int]:
    if start.loads and lead[2] == b"":
        return [*lead[:2], pointers[0] if pointers else b"", *lead[3:]]
    return list(lead)


def _start(context: Context, task: Task, place: Place, name: bytes) -> Generator[Action, Outcome, _Start]:
    lead: tuple[bytes, ...] = ()
    for _ in range(_DEPTH):
        head = yield from asked(ReadHead(place.decision.path), Head, place.decision)
        if head.errno:
            raise SyscallError(head.errno, place.decision)
        script = parse_script(head.head)
        if script is None:
            return _loaded(context, task, place, name, lead, head.interpreter)
        lead = (script.interpreter, *script.arguments, name, *lead[1:])
        name = script.interpreter
        interpreter = _interpreter(context, task, name)
        if not _is_remote(interpreter):
            return _Start(interpreter, lead)
        place = interpreter
        foretell(context, Target(0, place, content=True))
    raise SyscallError(errno.ELOOP, place.decision)


def _loaded(context: Context, task: Task, place: Place, name: bytes, lead: tuple[bytes, ...], loader: bytes) -> _Start:
    found = _interpreter(context, task, loader) if loader else None
    if found is None or not _is_remote(found):
        return _Start(place, lead)
    foretell(context, Target(0, found, content=True))
    argv0 = lead[0] if lead else b""
    program = name if b"/" in name else place.name
    return _Start(found, (loader, b"--argv0", argv0, program, *lead[1:]), place.name)


# Local ones come back as a place, too: they are executed in the script's stead.
def _interpreter(context: Context, task: Task, path: bytes) -> Place:
    if not path.startswith(b"/"):
        cwd = opened_path(context, task, AT_FDCWD)
        path = (task.current_directory() if cwd is None else cwd) + b"/" + path
    found = find_absolute(context, task, path)
    return Place(path, found.decision) if isinstance(found, Continue) else found


def _is_remote(place: Place) -> bool:
    return place.decision.route is Route.REMOTE
