"""The one list of what is trapped.

The seccomp filter, the dispatch and docs/syscalls.md come from these rows. A row without a number on some machine does
not exist there (open(2) on aarch64). `later` rows stop only in processes that asked for it by `actions.Trap`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from . import process, views
from .abi import ifreq, netlink
from .actions import Handling
from .context import Args, Context
from .files.mounted.quick import CHECKS as MOUNTED_CHECKS
from .files.mounted.rows import HANDLERS as MOUNTED_HANDLERS
from .files.mounted.rows import LATER as MOUNTED_LATER
from .files.mounted.rows import NOTES as MOUNTED_NOTES
from .files.quick import CHECKS
from .files.rows import HANDLERS as FILE_HANDLERS
from .net import binding, connecting, creating, datagrams, fastopen, interfaces, listening, names, own_network, routes
from .net.common import IPPROTO_MPTCP
from .quick import NEVER, KnownAddress, Quick, State, Word
from .task import Task

Handler = Callable[[Context, Task, Args], Handling]


@dataclass(frozen=True)
class ArgumentTest:
    """A condition in the filter: argument number `argument` is not 0, or (masked) one of `values`; and the same in words."""

    argument: int
    words: str
    values: tuple[int, ...] = ()
    mask: int = 0xFFFFFFFF


@dataclass(frozen=True)
class Row:
    """One call: its handler (or the errno that the filter answers at once), tests in the filter, and a support note."""

    name: str
    handler: Handler | None
    note: str
    tests: tuple[ArgumentTest, ...] = ()
    errno: int | None = None
    later: str = ""
    """Of calls that stop only once a process has done something: what."""
    alternatives: tuple[tuple[ArgumentTest, ...], ...] = ()
    """Further sets of tests: the call stops if all of `tests` hold, or all of one of these."""
    with_unix_streams: tuple[tuple[ArgumentTest, ...], ...] = ()
    """More of them for runs in which `feature.network.outgoing.unix_streams` names any."""


_SOL_SOCKET = 1
_SO_ERROR = 4
_AF_UNIX = 1
_SOCK_DGRAM = 2
_AF_INET = 2
_AF_INET6 = 10
_NOT_STREAMS = (2, 3, 4, 5, creating.SOCK_DCCP, creating.SOCK_PACKET)
_LIKE_TCP = (IPPROTO_MPTCP, creating.IPPROTO_SMC, creating.IPPROTO_SCTP)

_ADDRESS_WANTED = ArgumentTest(1, "the caller asks for the address")

_FILE_NOTES: Mapping[str, str] = {
    "open": "pod files for reading", "openat": "pod files for reading", "creat": "local, as all writing",
    "openat2": "pod files for reading", "stat": "pod files", "lstat": "pod files", "fstat": "open pod files",
    "newfstatat": "pod files", "statx": "pod files", "access": "pod files", "faccessat": "pod files",
    "faccessat2": "pod files", "readlink": "pod files", "readlinkat": "pod files", "getdents64": "pod directories",
    "fchdir": "EACCES for pod directories", "getdents": "pod directories", "getxattr": "pod files have none",
    "lgetxattr": "pod files have none", "listxattr": "pod files have none", "llistxattr": "pod files have none",
    "uname": "the pod's hostname",
}  # fmt: skip

_MADE_DATAGRAMS = "the process has made an internet datagram or NETLINK_ROUTE socket (with unix_streams: a unix one)"
_SENT_DATAGRAMS = "the process has sent a datagram with an address from the pod, or made a NETLINK_ROUTE socket"
_MADE_NETLINK = "the process has made a NETLINK_ROUTE socket"


def _fast_open(argument: int) -> ArgumentTest:
    return ArgumentTest(argument, "MSG_FASTOPEN is set", (fastopen.MSG_FASTOPEN,), fastopen.MSG_FASTOPEN)


NETWORK_ROWS: tuple[Row, ...] = (
    Row(
        "socket", creating.socket, "internet datagram sockets, so that sendmsg stops from then on; the pod's routes",
        (
            ArgumentTest(0, "the family is AF_INET or AF_INET6", (_AF_INET, _AF_INET6)),
            ArgumentTest(1, "the type is not SOCK_STREAM", _NOT_STREAMS, creating.SOCK_TYPE_MASK),
        ),
        alternatives=(
            (
                ArgumentTest(0, "one of these", (_AF_INET, _AF_INET6)),
                ArgumentTest(2, "the protocol is MPTCP, SMC or SCTP", _LIKE_TCP),
            ),
            (
                ArgumentTest(0, "the family is AF_NETLINK", (netlink.AF_NETLINK,)),
                ArgumentTest(2, "the protocol is NETLINK_ROUTE", (netlink.NETLINK_ROUTE,)),
            ),
        ),
        with_unix_streams=(
            (
                ArgumentTest(0, "the family is AF_UNIX", (_AF_UNIX,)),
                ArgumentTest(1, "the type is SOCK_DGRAM (with unix_streams)", (2,), creating.SOCK_TYPE_MASK),
            ),
        ),
    ),
    Row(
        "connect", connecting.connect,
        "TCP, UDP and unix sockets of the pod; name service caches of this machine look absent (ENOENT)",
    ),
    Row(
        "getsockopt", connecting.getsockopt, "SO_ERROR of a connect from the pod is the pod's",
        (
            ArgumentTest(1, "the level is SOL_SOCKET", (_SOL_SOCKET,)),
            ArgumentTest(2, "the option is SO_ERROR", (_SO_ERROR,)),
        ),
    ),
    Row(
        "setsockopt", routes.setsockopt, "events about the pod's interfaces do not come",
        (
            ArgumentTest(1, "the level is SOL_NETLINK", (netlink.SOL_NETLINK,)),
            ArgumentTest(
                2, "the option joins or leaves a group", (netlink.NETLINK_ADD_MEMBERSHIP, netlink.NETLINK_DROP_MEMBERSHIP)
            ),
        ),
    ),
    Row(
        "ioctl", interfaces.ioctl, "the pod's interfaces",
        (ArgumentTest(1, "the command is one of SIOCGIF*", ifreq.COMMANDS),),
    ),
    Row("getpeername", names.getpeername, "the pod's view of the peer"),
    Row("getsockname", names.getsockname, "the pod's view of the own address"),
    Row("bind", binding.bind, "pod addresses and privileged ports move to loopback; datagrams for the pod port come here"),
    Row("listen", listening.listen, "connections to the pod port, or copies of them, come here"),
    Row("accept", listening.accept, "the real client's address", (_ADDRESS_WANTED,)),
    Row("accept4", listening.accept4, "the real client's address", (_ADDRESS_WANTED,)),
    Row("sendto", datagrams.sendto, "datagrams from the pod", (ArgumentTest(4, "the caller names the peer"),)),
    Row("recvfrom", datagrams.recvfrom, "the peer's real address", (ArgumentTest(4, "the caller asks for the address"),)),
    Row("sendmsg", datagrams.sendmsg, "TCP fast open connects from the pod", (_fast_open(2),)),
    Row("sendmmsg", datagrams.sendmmsg, "TCP fast open connects from the pod", (_fast_open(3),)),
    Row("sendmsg", datagrams.sendmsg, "as sendto", later=_MADE_DATAGRAMS),
    Row("sendmmsg", datagrams.sendmmsg, "as sendto", later=_MADE_DATAGRAMS),
    Row("recvmsg", datagrams.recvmsg, "as recvfrom", later=_SENT_DATAGRAMS),
    Row("recvmmsg", datagrams.recvmmsg, "as recvfrom", later=_SENT_DATAGRAMS),
    Row(
        "recvfrom", datagrams.recvfrom, "answers about the pod's routes are waited for",
        (ArgumentTest(3, "MSG_DONTWAIT is set", (routes.MSG_DONTWAIT,), routes.MSG_DONTWAIT),), later=_MADE_NETLINK,
    ),
)  # fmt: skip

COPIED_ROWS: tuple[Row, ...] = tuple(
    Row(name, handler, _FILE_NOTES.get(name, "pod files")) for name, handler in FILE_HANDLERS.items()
)
"""File calls where the pod's files are copied when they are opened."""

MOUNTED_ROWS: tuple[Row, ...] = (
    *(Row(name, handler, MOUNTED_NOTES[name]) for name, handler in MOUNTED_HANDLERS.items()),
    *(Row(name, handler, MOUNTED_NOTES[name], later=when) for name, (handler, when) in MOUNTED_LATER.items()),
)
"""File calls where the pod's tree is mounted."""

OTHER_ROWS: tuple[Row, ...] = (
    *NETWORK_ROWS,
    Row(
        "clone",
        process.clone,
        "CLONE_UNTRACED is taken away",
        (ArgumentTest(0, "CLONE_UNTRACED is set", (process.CLONE_UNTRACED,), process.CLONE_UNTRACED),),
        alternatives=tuple((ArgumentTest(0, "a namespace is made", (flag,), flag),) for flag in views.NEW_VIEWS),
    ),
    Row("clone3", process.clone3, "CLONE_UNTRACED is taken away"),
    *(
        Row(name, views.changes_view, "noted: the process may have a root directory or a namespace of its own then")
        for name in views.CHANGING
    ),
    Row(
        "ptrace",
        process.ptrace,
        "the kernel's EPERM for supervised processes is explained",
        (ArgumentTest(0, "the request begins to trace", process.TRACING_BEGINS),),
    ),
    Row("io_uring_setup", None, "rings bypass every filter; runtimes fall back to epoll", errno=errno.ENOSYS),
)


"""All but the file calls."""

ROWS: tuple[Row, ...] = (*COPIED_ROWS, *OTHER_ROWS)
"""The table of sessions in which the pod's files are copied."""


def rows(mounted: bool) -> tuple[Row, ...]:
    """The table of a session. `mounted`: the pod's tree is mounted, so that calls on descriptors need no stop."""
    return (*MOUNTED_ROWS, *OTHER_ROWS) if mounted else ROWS


def handlers(numbers: Mapping[str, int], *, mounted: bool = False) -> dict[int, tuple[str, Handler]]:
    """Dispatch: syscall number -> (name, handler). The netlink sockets of net/routes.py come before the row's own handler."""
    found = ((row.name, row.handler) for row in rows(mounted) if row.name in numbers and row.handler is not None)
    return {numbers[name]: (name, own_network.before(name, routes.before(name, handler))) for name, handler in found}


OTHER_CHECKS: Mapping[str, Quick] = {
    "connect": Quick(address=KnownAddress(1, 2, others=State.NO_INTERNET)),
    "getpeername": Quick(needs=State.NO_SOCKETS),
    "getsockname": Quick(needs=State.NO_SOCKETS),
    # Never a short way, but what was remembered of working directories ends.
    **dict.fromkeys(views.CHANGING, Quick(needs=NEVER, moves=True)),
    "clone3": Quick(word=Word(0, process.CLONE_UNTRACED | sum(views.NEW_VIEWS))),
}
"""The short way of all but the file calls."""


def checks(numbers: Mapping[str, int], *, mounted: bool = False) -> dict[int, Quick]:
    """The short way: syscall number -> when it is local, for calls that then need no handler."""
    found = {**(MOUNTED_CHECKS if mounted else CHECKS), **OTHER_CHECKS}
    return {numbers[name]: quick for name, quick in found.items() if name in numbers}
