"""Failures of the supervisor, as types: who is to blame and what follows.

`SyscallError` (syscalls.actions) is the fifth: an errno for the application.
"""

from __future__ import annotations

EXIT_USAGE = 2
EXIT_OWN_FAILURE = 125
EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127


class TraceeGone(Exception):
    """The tracee was killed while we held it (ESRCH). A normal outcome: waitpid(2) will say how it ended."""


class UsageError(Exception):
    """The user, the cluster or the machine must change something; the text is one line with the remedy."""

    def __init__(self, text: str, exit_status: int = EXIT_OWN_FAILURE) -> None:
        super().__init__(text)
        self.text = text
        self.exit_status = exit_status


class InternalError(Exception):
    """A bug of this tool."""
