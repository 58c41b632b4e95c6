"""The closed set of things a handler may do.

A handler is a generator. It yields `Run`, `Ask` or `GiveFile` and is sent their outcome; it ends by returning
`Continue`, `Return` or `Keep`, or by raising `SyscallError`. The driver (supervisor/tracer/driver.py) carries the
actions out; nothing here touches a tracee, so a second engine can carry them out as well.
"""

from __future__ import annotations

import enum
import errno as errno_names
import os
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from ..agent.wire.messages import Message


class Route(enum.Enum):
    """Where a call goes."""

    LOCAL = "local"
    REMOTE = "remote"
    MISSING = "missing"


class Reason(enum.Enum):
    """Why a call goes there: shown by --trace and checked by tests. The value is the text for people."""

    NOT_OURS = "not a call this tool routes"
    OWN_VIEW = "the process may have a root directory or a namespace of its own"
    RELATIVE_PATH = "relative paths are local"
    BAD_ARGUMENT = "the kernel judges the argument"
    FS_MODE_LOCAL = "feature.fs.mode is local"
    FS_MODE = "feature.fs.mode"
    WRITE_ACCESS = 'feature.fs.mode is "read"'
    PATTERN_NOT_FOUND = "feature.fs.not_found"
    PATTERN_READ_WRITE = "feature.fs.read_write"
    PATTERN_READ_ONLY = "feature.fs.read_only"
    PATTERN_LOCAL = "feature.fs.local"
    DEFAULT_NOT_FOUND = "hidden by default"
    DEFAULT_REMOTE = "remote by default"
    DEFAULT_READ_ONLY = "remote by default, but for reading only"
    VOLUME = "volumes of the pod are for reading (feature.magic.auto_mount)"
    AWS = "hidden by feature.magic.aws"
    FROM_POD = "--from-pod"
    FROM_POD_LOCAL = "local even with --from-pod"
    DEFAULT_LOCAL = "local by default"
    REMOTE_OBJECT = "the file descriptor is the pod's"
    LOCAL_OBJECT = "the file descriptor is local"
    POD_HOSTNAME = "the pod's hostname"
    HOSTNAME_OFF = "feature.hostname is off"
    OUTGOING = "outgoing traffic leaves from the pod"
    OUTGOING_OFF = "feature.network.outgoing is off for this protocol"
    OUTGOING_FILTER = "feature.network.outgoing.filter"
    IGNORE_LOCALHOST = "feature.network.*.ignore_localhost"
    OWN_LISTENER = "this program itself listens there"
    NOT_INTERNET = "not an internet socket"
    UNIX_STREAMS = "feature.network.outgoing.unix_streams"
    LOCAL_RESOLVER_SOCKET = "name service caches of this machine look absent"
    INCOMING = "traffic for this pod port comes here"
    INCOMING_OFF = "feature.network.incoming is off"
    INCOMING_IGNORED = "feature.network.incoming.ignore_ports or ports"
    PORT_ZERO = "the kernel chose the port, so nobody in the pod knows it"
    DNS = "names are resolved by the pod"
    DNS_OFF = "feature.network.dns is off"
    POD_INTERFACES = "interfaces and routes are the pod's"
    INTERFACES_OFF = "feature.network.interfaces is off"
    UNSUPPORTED = "not supported by this tool"
    UNREADABLE = "the program's memory may not be read"


@dataclass(frozen=True)
class Decision:
    """A route and its reason; for files also the pod path after `feature.fs.mapping`."""

    route: Route
    reason: Reason
    path: bytes = b""


class SyscallError(Exception):
    """The application gets -errno as the result of its call. `decision`, if given, is shown by --trace.

    `text`: what the agent or the relay says about it, for people.
    """

    def __init__(self, errno: int, decision: Decision | None = None, text: str = "") -> None:
        super().__init__(errno_names.errorcode.get(errno, str(errno)))
        self.errno = errno
        self.decision = decision
        self.text = text


class OutOfReach(Exception):
    """This tool cannot look at the program: it has no descriptor left (EMFILE, ENFILE), or it may not (EACCES, EPERM).

    Not the program's doing, so no handler may take it for a bad argument that the kernel judges: that would lead the call to
    this machine without a word. Drivers end the call (supervisor/tracer/reach.py).
    """

    def __init__(self, errno: int) -> None:
        super().__init__(errno_names.errorcode.get(errno, str(errno)))
        self.errno = errno


@dataclass(frozen=True)
class Continue:
    """End: the kernel runs the call untouched. 1 stop."""

    decision: Decision


@dataclass(frozen=True)
class Return:
    """End: this is the result (after `Run`: in place of the kernel's), with `writes` (address, bytes) put into the tracee.

    A write to an unmapped address makes the result -EFAULT. 1 stop, or that of the `Run` before it.
    """

    value: int
    decision: Decision
    writes: tuple[tuple[int, bytes], ...] = ()


@dataclass(frozen=True)
class Keep:
    """End, only after `Run` or `GiveFile`: the kernel's result stands."""

    decision: Decision


@dataclass(frozen=True)
class Scratch:
    """An argument that must point at these bytes: the driver puts them into memory of its own in the tracee.

    `pointers`: (offset, target) pairs; the 8 bytes at `offset` become the address of the byte at `target` of `content`.
    """

    content: bytes
    pointers: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Run:
    """Yield: let the kernel run the call, with some arguments replaced. Sent back: the kernel's result (int, -errno).

    2 stops. Replaced registers hold their old values again before the tracee sees the result. If a signal makes the
    kernel restart the call, the handler is closed and a new one begins when the call is made again.
    After a `Run` with replaced arguments that has failed, another one makes the call once more (2 more stops).
    """

    args: Mapping[int, int | Scratch] = field(default_factory=dict)
    sysno: int | None = None


@dataclass(frozen=True)
class Ask:
    """Yield: park the thread, send the request to the relay (which passes agent messages on), resume with the reply.

    Sent back: `Answer`. A `Failed` reply is raised in the handler as SyscallError instead. 1 round trip.
    """

    request: Message


@dataclass
class Answer:
    """Reply to `Ask`. `fd` is an open file of the supervisor that came with the reply, or -1; the handler owns it."""

    message: Message
    fd: int = -1

    def drop(self) -> None:
        """Nobody wants it: its file is closed."""
        if self.fd >= 0:
            os.close(self.fd)


@dataclass(frozen=True)
class GiveFile:
    """Yield: skip the call; the tracee gets its own open file of what `fd` (the supervisor's) refers to.

    `flags` are open(2) flags for the tracee's description (access mode, O_CLOEXEC, O_NONBLOCK, O_APPEND). Sent back:
    `Given`. The supervisor's `fd` is closed afterwards. 2 stops.
    """

    fd: int
    flags: int


@dataclass(frozen=True)
class Given:
    """Outcome of `GiveFile`: the tracee's fd number or -errno, and the (st_dev, st_ino) by which the file is known."""

    result: int
    key: tuple[int, int]


@dataclass(frozen=True)
class Trap:
    """Yield: from now on these calls (rows of the table marked `later`) of the process and its children stop too.

    Sent back: 0, or -errno if the kernel refused the filter. 0 stops if they already do, else 3, once a process.
    """

    calls: frozenset[str]


Final = Continue | Return | Keep
Action = Run | Ask | GiveFile | Trap
Outcome = int | Answer | Given
Handling = Generator[Action, Outcome, Final]

R = TypeVar("R", bound=Message)


def run(args: Mapping[int, int | Scratch] | None = None, sysno: int | None = None) -> Generator[Action, Outcome, int]:
    """Typed form of `Run`: `result = yield from run({1: Scratch(path)})`."""
    outcome = yield Run(args or {}, sysno)
    assert isinstance(outcome, int)
    return outcome


def ask(request: Message, reply: type[R]) -> Generator[Action, Outcome, R]:
    """Typed form of `Ask` for replies without an fd. Any other reply type is EPROTO."""
    answer = yield from ask_for_file(request)
    if not isinstance(answer.message, reply):
        raise SyscallError(errno_names.EPROTO)
    return answer.message


def ask_for_file(request: Message) -> Generator[Action, Outcome, Answer]:
    """Typed form of `Ask` for replies that may bring an fd."""
    outcome = yield Ask(request)
    assert isinstance(outcome, Answer)
    return outcome


def give_file(fd: int, flags: int) -> Generator[Action, Outcome, Given]:
    """Typed form of `GiveFile`."""
    outcome = yield GiveFile(fd, flags)
    assert isinstance(outcome, Given)
    return outcome


def trap(calls: frozenset[str]) -> Generator[Action, Outcome, int]:
    """Typed form of `Trap`."""
    outcome = yield Trap(calls)
    assert isinstance(outcome, int)
    return outcome
