"""What becomes of a call of a program that this tool cannot look at (`OutOfReach`)."""

from __future__ import annotations

import errno

from ...syscalls.actions import Continue, Decision, Final, OutOfReach, Reason, Return, Route
from ...syscalls.context import Context

_UNREADABLE = Decision(Route.LOCAL, Reason.UNREADABLE)
_REFUSED = Decision(Route.REMOTE, Reason.UNREADABLE)


def outcome(context: Context, tid: int, lack: OutOfReach) -> Final:
    """The end of the call, and a line for the user.

    A program whose file this user may only execute, or that has forbidden others to look (PR_SET_DUMPABLE in prctl(2)),
    runs on as if nobody supervised it. Where descriptors are missing calls fail, lest some be the pod's and others not.
    """
    if lack.errno in (errno.EACCES, errno.EPERM):
        name = _name(tid)
        context.notice(
            f"unreadable {name}",
            f"{name} does not let this user look into its memory (its file may not be read, or it is not dumpable): what it "
            "asks for is this machine's, not the pod's; run mirrord-trace as root if that matters",
        )
        return Continue(_UNREADABLE)
    context.notice(
        "descriptors",
        "too few files may be open (ulimit -n) for mirrord-trace to serve all that the program asks for: some of its calls "
        f"fail with {errno.errorcode.get(lack.errno, lack.errno)}",
    )
    return Return(-lack.errno, _REFUSED)


def _name(tid: int) -> str:
    # Not /proc/TID/exe, which nobody may look at either.
    try:
        with open(f"/proc/{tid}/comm", encoding="utf-8", errors="replace") as name:
            return name.read().rstrip("\n")
    except OSError:
        return f"process {tid}"
