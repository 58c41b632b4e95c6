"""Processes with a root directory or namespaces of their own: sandboxes, containers, chroot(2).

What is the pod's is so in place of what is this machine's. A process that has gone away from this machine's files, network
or hostname into some of its own wants those and nothing else, so they are the kernel's from then on: its paths where its
root directory or its /proc is another, its sockets in another network namespace, uname(2) in another UTS namespace. What
it has open of the pod it keeps.

Few sessions see such a process, so nobody looks for one before a call that can make one was made: those stop for this.
"""

from __future__ import annotations

import enum

from .actions import Continue, Decision, Handling, Reason, Route
from .context import Args, Context
from .task import Task

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
NEW_VIEWS = (CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWPID, CLONE_NEWNET)
"""Flags of clone(2) and unshare(2)."""

CHANGING = ("chroot", "pivot_root", "unshare", "setns", "mount", "move_mount")

OWN = Continue(Decision(Route.LOCAL, Reason.OWN_VIEW))


class View(enum.Enum):
    """What a process may have of its own."""

    FILES = "root directory or /proc"
    NETWORK = "network namespace"
    NAME = "UTS namespace"


_LEFT = {View.FILES: "paths", View.NETWORK: "connections and ports"}


def is_own(context: Context, task: Task, view: View) -> bool:
    """Whether the thread has one of its own. Free as long as no process can have."""
    return context.has_views and task.has_own(view)


def tell(context: Context, task: Task, view: View) -> None:
    """Tell the user that something that would be the pod's is not."""
    context.notice(
        f"view-{view.name}",
        f"process {task.tgid} has a {view.value} of its own (a sandbox?): its {_LEFT[view]} are not the pod's",
    )


def changes_view(context: Context, task: Task, args: Args) -> Handling:
    """chroot(2), pivot_root(2), unshare(2), setns(2), mount(2), move_mount(2): the kernel's, but noted. 1 stop."""
    yield from ()
    context.has_views = True
    return OWN
