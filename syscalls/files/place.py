"""From the path argument of a call to the file it means: the kernel's business, or a place that policy has decided on.

Paths are resolved by their text: `.`, `..` and double slashes disappear before policy sees the path, without looking at
any file. The kernel would follow symbolic links first, so `/link/../x` may mean another file there. For paths that stay
local this makes no difference: the kernel gets the path as it was written and judges it alone, unless it goes up again out of
a pod directory, which the kernel would not find.

A relative path is the kernel's without any look-up, because the current directory is always local. Only behind a dirfd
that is a pod directory does it become a pod path, and is decided like the absolute path it stands for.

/proc/self/fd/N of a stand-in would show the stand-in (a memfd), so that these paths lead to the object behind it.
"""

from __future__ import annotations

import errno
import re
import stat
from collections.abc import Generator
from typing import NamedTuple, TypeVar

from ...agent.wire.messages import FileStat, Message
from ..abi.flags import to_int32
from ..actions import (
    Action,
    Answer,
    Continue,
    Decision,
    Handling,
    Keep,
    Outcome,
    Reason,
    Route,
    Scratch,
    SyscallError,
    ask,
    ask_for_file,
    run,
)
from ..context import Context
from ..objects import RemoteDirectory, RemoteFile, RemoteObject
from ..task import Task
from ..views import OWN, View, is_own, tell

PATH_MAX = 4096
HOSTNAME_FILE = b"/proc/sys/kernel/hostname"

# Bounds Context.local_reads and local_writes: a program that names ever new paths starts them afresh now and then.
_KNOWN_LIMIT = 8192

BAD_ARGUMENT = Continue(Decision(Route.LOCAL, Reason.BAD_ARGUMENT))
RELATIVE_PATH = Continue(Decision(Route.LOCAL, Reason.RELATIVE_PATH))
LOCAL_OBJECT = Continue(Decision(Route.LOCAL, Reason.LOCAL_OBJECT))

_SPECIAL = (b"/proc/", b"/dev/fd/")
_DESCRIPTOR = re.compile(rb"/(?:proc/(?:self|thread-self|(\d{1,9}))/(?:task/\d+/)?fd|dev/fd)/(\d{1,9})(/.*)?\Z", re.DOTALL)
_OWN_NETWORK = re.compile(rb"/proc/(\d{1,9})/(?:task/\d+/)?net((?:/.*)?)\Z", re.DOTALL)
_BLKSIZE = 4096

M = TypeVar("M", bound=Message)


class Place(NamedTuple):
    """A file that policy has decided on, or (`remote`) one that the tracee has open.

    `name`: absolute, normalised, in the tracee's terms. `decision`: REMOTE with the pod path, or LOCAL if the path that
    the kernel must be given is not the one that the tracee wrote (see `run_elsewhere`). `directory`: the path ends in
    a slash, `.` or `..`, so that it must be a directory and a symbolic link in its place is followed. `base`: the pod
    path of the dirfd that the path was relative to. `proc_fd`: the number in /proc/self/fd/N or a path below it, or -1.
    `tail`: mounted tree only, what has to follow a path so that it ends as the tracee's does: nothing, a slash or `/.`.
    """

    name: bytes
    decision: Decision
    directory: bool = False
    remote: RemoteObject | None = None
    base: bytes = b""
    proc_fd: int = -1
    tail: bytes = b""


def normalise(path: bytes) -> tuple[bytes, bool]:
    """An absolute path without `//`, `.`, `..` and trailing slash, and whether its end demanded a directory."""
    if b"//" not in path and b"/." not in path and path[-1] != 0x2F:
        return path, False
    kept: list[bytes] = []
    parts = path.split(b"/")
    for part in parts:
        if part == b"..":
            del kept[-1:]
        elif part not in (b"", b"."):
            kept.append(part)
    return b"/" + b"/".join(kept), parts[-1] in (b"", b".", b"..")


def find(
    context: Context,
    task: Task,
    dirfd: int,
    address: int,
    *,
    write: bool = False,
    follow: bool = True,
    empty: bool = False,
) -> Continue | Place:
    """The file that a path argument means: at `address`, relative to the register `dirfd`.

    `write`: the call may change it. `follow`: a symbolic link at its end is followed. `empty`: AT_EMPTY_PATH, an empty
    path (or NULL, as Linux 6.11 allows) means `dirfd` itself. Continue wherever the kernel's answer is the right one,
    bad arguments included. Raises ENOENT for what policy hides, ENOTDIR and ENAMETOOLONG below pod directories.
    """
    path = read_path(context, task, address, write, empty)
    if isinstance(path, Continue):
        return path
    if path.startswith(b"/"):
        if is_own(context, task, View.FILES):
            return own_path(context, task, path, write)
        return _absolute(context, task, path, write, follow)
    if not path and not empty:
        return BAD_ARGUMENT
    remote = remote_object(context, task, dirfd)
    if remote is None:
        return RELATIVE_PATH if path else LOCAL_OBJECT
    if not path:
        return Place(remote.name, object_decision(remote), remote=remote)
    return below(context, remote, path, write)


def read_path(context: Context, task: Task, address: int, write: bool, empty: bool) -> bytes | Continue:
    """A path argument as the tracee wrote it, or what the kernel is to do with one that is known to be local, or is none."""
    try:
        path = task.read_string(address, PATH_MAX) if address or not empty else b""
    except SyscallError:
        return BAD_ARGUMENT
    known = (context.local_writes if write else context.local_reads).get(path)
    return path if known is None else known


def remote_object(context: Context, task: Task, fd: int) -> RemoteObject | None:
    """What the register `fd` stands for; None for local files, bad fds and AT_FDCWD."""
    if not context.objects:
        return None
    number = to_int32(fd)
    return context.objects.get(task.file_key(number)) if number >= 0 else None


def object_decision(remote: RemoteObject) -> Decision:
    """The decision for a call on an fd that stands for `remote`."""
    return Decision(Route.REMOTE, Reason.REMOTE_OBJECT, remote.path)


def below(context: Context, remote: RemoteObject, path: bytes, write: bool) -> Place:
    """The relative `path` with the open pod file `remote` as dirfd."""
    if not isinstance(remote, RemoteDirectory):
        raise SyscallError(errno.ENOTDIR, object_decision(remote))
    name, directory = normalise(remote.name + b"/" + path)
    if len(name) >= PATH_MAX:
        raise SyscallError(errno.ENAMETOOLONG, object_decision(remote))
    return Place(name, decide(context, name, write), directory, base=remote.path)


def asked(request: Message, reply: type[M], decision: Decision) -> Generator[Action, Outcome, M]:
    """`ask`, with the decision named in a failure."""
    try:
        return (yield from ask(request, reply))
    except SyscallError as error:
        raise SyscallError(error.errno, decision) from None


def asked_for_file(request: Message, decision: Decision) -> Generator[Action, Outcome, Answer]:
    """`ask_for_file`, with the decision named in a failure."""
    try:
        return (yield from ask_for_file(request))
    except SyscallError as error:
        raise SyscallError(error.errno, decision) from None


def run_elsewhere(place: Place, path_argument: int) -> Handling:
    """Let the kernel run the call on the LOCAL `place`: the mapped path, or the one below a pod directory."""
    path = place.decision.path or place.name
    slash = b"/" if place.directory and not path.endswith(b"/") else b""
    yield from run({path_argument: Scratch(path + slash + b"\0")})
    return Keep(place.decision)


def hostname_content(context: Context) -> bytes:
    """What /proc/sys/kernel/hostname reads when the hostname is the pod's."""
    return context.pod.hostname + b"\n"


def own_path(context: Context, task: Task, path: bytes, write: bool) -> Continue:
    """The kernel's, since the process has a root directory of its own; the user is told if it would be the pod's."""
    if path.startswith(b"/") and context.policy.file(normalise(path)[0], write=write).route is not Route.LOCAL:
        tell(context, task, View.FILES)
    return OWN


# -- absolute paths -------------------------------------------------------------------------------------------------


def _absolute(context: Context, task: Task, path: bytes, write: bool, follow: bool) -> Continue | Place:
    name, directory = normalise(path)
    if name.startswith(_SPECIAL):
        special = _special(context, task, name, directory, write, follow)
        if special is not None:
            return special
    decision = decide(context, name, write)
    if decision.route is Route.REMOTE or decision.path or (b"/.." in path and leaves_pod(context, path)):
        return Place(name, decision, directory)
    return remember(context, path, write, decision)


def remember(context: Context, path: bytes, write: bool, decision: Decision) -> Continue:
    """From now on the kernel gets `path`, as written by the tracee, without any decision."""
    known = context.local_writes if write else context.local_reads
    if len(known) >= _KNOWN_LIMIT:
        known.clear()
    return known.remember(path, Continue(decision))


def leaves_pod(context: Context, path: bytes) -> bool:
    """Whether a `..` of the path leaves a directory that only the pod has, so that the kernel cannot walk it as written."""
    parts = path.split(b"/")
    ups = [number for number, part in enumerate(parts) if part == b".." and number > 1]
    before = (normalise(b"/".join(parts[:number]))[0] for number in ups)
    return any(context.policy.file(name).route is Route.REMOTE for name in before)


def decide(context: Context, name: bytes, write: bool) -> Decision:
    """`Policy.file`, with ENOENT for what it hides."""
    decision = context.policy.file(name, write=write)
    if decision.route is Route.MISSING:
        raise SyscallError(errno.ENOENT, decision)
    return decision


# Paths whose meaning is not in their text: never remembered as local. None: nothing special after all.
def _special(context: Context, task: Task, name: bytes, directory: bool, write: bool, follow: bool) -> Continue | Place | None:
    match = _DESCRIPTOR.match(name)
    if match is None:
        return whole_machine(context, task, name, directory, write)
    process, number, rest = match.groups()
    ours = process is None or int(process) in (task.tgid, task.tid)
    link_itself = not (rest or follow or directory)
    remote = remote_object(context, task, int(number)) if ours and not link_itself else None
    if remote is None:
        return Continue(decide(context, name, write))
    if rest:
        inside = below(context, remote, rest[1:], write)
        return inside._replace(directory=directory, base=b"", proc_fd=int(number))
    return Place(remote.name, object_decision(remote), directory, remote, proc_fd=int(number))


def whole_machine(context: Context, task: Task, name: bytes, directory: bool, write: bool) -> Continue | Place | None:
    """A path in /proc that is about a name or a network, which may be the pod's; None: it is about something else."""
    if name == HOSTNAME_FILE:
        return _hostname_place(context, write, directory)
    network = _OWN_NETWORK.match(name)
    if network is None or int(network[1]) not in (task.tgid, task.tid):
        return None
    decision = decide(context, b"/proc/self/net" + network[2], write)
    return Place(name, decision, directory) if decision.route is Route.REMOTE else Continue(decision)


def _hostname_place(context: Context, write: bool, directory: bool) -> Place | None:
    # The file that holds the hostname, if that is the pod's.
    decision = context.policy.hostname()
    if write or decision.route is not Route.REMOTE:
        return None
    size = len(hostname_content(context))
    attributes = FileStat(0, 1, stat.S_IFREG | 0o644, 1, 0, 0, 0, size, _BLKSIZE, 0, 0, 0, 0, -1)
    remote = RemoteFile(HOSTNAME_FILE, HOSTNAME_FILE, attributes)
    return Place(HOSTNAME_FILE, decision, directory, remote)
