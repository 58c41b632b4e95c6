"""Calls of processes that have a network namespace of their own: they begin nothing that is the pod's (see views.py).

What is the pod's already, a connection handed over by another process say, stays so: calls that only ask are not here.
"""

from __future__ import annotations

from collections.abc import Callable

from ..abi import sockaddr
from ..actions import Handling, Route
from ..context import Args, Context
from ..task import Task
from ..views import OWN, View, is_own, tell
from . import common

Handler = Callable[[Context, Task, Args], Handling]

# Name -> the numbers of the arguments that hold an address and its length, if any.
_BEGINNING: dict[str, tuple[int, int] | None] = {
    "socket": None, "bind": None, "listen": None, "ioctl": None, "setsockopt": None, "sendmsg": None, "sendmmsg": None,
    "connect": (1, 2), "sendto": (4, 5),
}  # fmt: skip


def before(name: str, other: Handler) -> Handler:
    """The handler of the call `name`: the kernel's way for such processes, `other` for all others. 1 stop."""
    if name not in _BEGINNING:
        return other

    def handler(context: Context, task: Task, args: Args) -> Handling:
        return _leave(context, task, name, args) if is_own(context, task, View.NETWORK) else other(context, task, args)

    return handler


def _leave(context: Context, task: Task, name: str, args: Args) -> Handling:
    yield from ()
    at = _BEGINNING[name]
    decoded = common.read_address(task, args[at[0]], args[at[1]]) if at is not None else None
    if isinstance(decoded, sockaddr.Internet):
        peer = common.through_loopback(decoded.address)
        if context.policy.outgoing("tcp" if name == "connect" else "udp", peer, ()).route is Route.REMOTE:
            tell(context, task, View.NETWORK)
    return OWN
