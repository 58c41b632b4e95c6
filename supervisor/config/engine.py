"""`--engine`: by which of the kernel's interfaces the program is supervised."""

from __future__ import annotations

import enum
import os
from collections.abc import Sequence

_DEBUGGERS = frozenset({"dlv", "gdb", "gdbserver", "lldb", "lldb-server", "ltrace", "strace"})
"""Programs that trace others."""


class Engine(enum.Enum):
    """`AUTO`, the default, is `PTRACE` but for debuggers and tracers, told by their names: these need `NOTIFY`."""

    PTRACE = "ptrace"
    NOTIFY = "notify"
    AUTO = "auto"

    def is_notify(self, arguments: Sequence[str]) -> bool:
        """Whether the program is to be supervised by seccomp user notification."""
        if self is Engine.AUTO and arguments:
            return is_debugger(arguments[0])
        return self is Engine.NOTIFY


def is_debugger(program: str) -> bool:
    """Whether this is the name of a program that traces others."""
    name = os.path.basename(program)
    return name in _DEBUGGERS or name.startswith(("gdb-", "lldb-"))
