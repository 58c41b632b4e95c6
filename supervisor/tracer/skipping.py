"""Processes that are not supervised, chosen by the name of their program.

mirrord does not load its library into such a process; what the process executes is looked at anew. Here the process keeps
the filter, which nobody can take from it, and its tracer, without whom every call that the filter selects would end with
ENOSYS (seccomp(2)). So its stops stay, but the kernel runs the calls as they are: original call, original arguments. Threads
and forked children are as their process, until one executes another program.

PTRACE_O_SUSPEND_SECCOMP (ptrace(2)) would spare the stops where the tracer has CAP_SYS_ADMIN. It is not used: it suspends
the filters that a program puts on itself as well, and while it does, nobody sees seccomp(2) or prctl(2) being called.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from . import look

Told = Callable[[int, bytes, str], None]
"""Told of every process that is going to be skipped: its pid, its program, and the reason."""

_LONGEST_NAME = 4096


def line_for(program: bytes) -> str:
    """For who is skipped without having asked for it."""
    return (
        f"{os.fsdecode(os.path.basename(program))} is a build tool: it sees this machine and not the pod, as with mirrord "
        "(skip_build_tools); MIRRORD_SKIP_BUILD_TOOLS=false changes that"
    )


class Skipping:
    """Decides about what a process runs, to be asked at every execve(2)."""

    def __init__(self, names: Mapping[bytes, str], pods_device: int | None = None, told: Told | None = None) -> None:
        """`names`: file name -> reason. `pods_device`: st_dev of the pod's mounted tree.

        Programs of the pod are never skipped: what they load is the pod's, too.
        """
        self._names = names
        self._pods_device = pods_device
        self._told = told

    def skips(self, pid: int, program: bytes = b"", is_new: bool = True) -> bool:
        """Whether a process is skipped. No stop, no round trip.

        As mirrord has it, what counts are the file name of /proc/PID/exe, links resolved, and that of the first
        argument: `cc` is skipped by that name, and by that of the compiler that it is a link to. A script is its
        interpreter. `program`: see `Tree.programs`. `is_new`: if so, it is told.
        """
        if not self._names or program:
            return False
        file = look.read_link(b"/proc/%d/exe" % pid) or b""
        reason = self._names.get(file.rpartition(b"/")[2]) or self._names.get(_first_argument(pid).rpartition(b"/")[2])
        if reason is None:
            return False
        if self._pods_device is not None and look.device(b"/proc/%d/exe" % pid) == self._pods_device:
            return False
        if self._told is not None and is_new:
            self._told(pid, file, reason)
        return True


def _first_argument(pid: int) -> bytes:
    try:
        descriptor = os.open(b"/proc/%d/cmdline" % pid, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""  # it has been killed meanwhile
    try:
        return os.read(descriptor, _LONGEST_NAME).partition(b"\0")[0]
    except OSError:
        return b""
    finally:
        os.close(descriptor)
