"""Calls about the process and its machine: uname(2)."""

from __future__ import annotations

from .abi.utsname import NODENAME_AT, pack_field
from .actions import Continue, Handling, Keep, Return, Route, run
from .context import Args, Context
from .task import Task


def uname(context: Context, task: Task, args: Args) -> Handling:
    """uname(2): nodename becomes the pod's hostname, all else stays this machine's.

    2 stops; 1 if the hostname is local.
    """
    decision = context.policy.hostname()
    if decision.route is not Route.REMOTE:
        return Continue(decision)
    result = yield from run()
    if result < 0:
        return Keep(decision)
    return Return(result, decision, ((args[0] + NODENAME_AT, pack_field(context.pod.hostname)),))
