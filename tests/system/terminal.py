"""A terminal with a shell of one's own in it, to type at and to read from."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

_PATIENCE_S = 30.0


class Terminal:
    """The user's end of a terminal. `transcript`: what came so far, in all."""

    def __init__(self, fd: int, pid: int) -> None:
        self.pid = pid
        self.transcript = ""
        self._fd = fd
        self._read_to = 0

    def types(self, text: str) -> None:
        """Keys; control characters among them are what the line discipline makes of them."""
        os.write(self._fd, text.encode())

    def shows(self, pattern: str) -> str:
        """Wait until something new matches; what came up to then."""
        end = time.monotonic() + _PATIENCE_S
        while not (found := re.search(pattern, self.transcript[self._read_to :])):
            left = end - time.monotonic()
            assert left > 0, f"no {pattern!r} in {self.transcript[self._read_to :]!r} after {self.transcript!r}"
            if select.select([self._fd], [], [], left)[0]:
                self.transcript += self._more(pattern)
        seen = self.transcript[self._read_to : self._read_to + found.end()]
        self._read_to += found.end()
        return seen

    def _more(self, pattern: str) -> str:
        try:
            return os.read(self._fd, 65536).decode(errors="replace")
        except OSError:  # nobody has it open any more
            raise AssertionError(f"no {pattern!r} before the end of {self.transcript!r}") from None

    def says(self, command: str, pattern: str) -> str:
        """Type a line, wait for what it shows."""
        self.types(command + "\n")
        return self.shows(pattern)

    def resize(self, rows: int, columns: int) -> None:
        """As a terminal emulator whose window changes: SIGWINCH to the foreground."""
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def ends(self) -> int:
        """Wait for the end of the first program; its status as waitpid(2) tells."""
        end = time.monotonic() + _PATIENCE_S
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return status
            assert time.monotonic() < end, f"still running after {self.transcript!r}"
            # What it still writes must not keep it from ending.
            if select.select([self._fd], [], [], 0.02)[0]:
                with suppress(OSError):
                    self.transcript += os.read(self._fd, 65536).decode(errors="replace")


@contextmanager
def terminal(command: Sequence[str | Path], folder: Path, environment: dict[str, str]) -> Iterator[Terminal]:
    """A session of its own whose controlling terminal this is; whatever of it is left at the end gets SIGHUP and SIGKILL."""
    pid, fd = pty.fork()
    if pid == 0:
        try:
            os.chdir(folder)
            words = [str(word) for word in command]
            os.execvpe(words[0], words, environment)
        finally:
            os._exit(127)
    user = Terminal(fd, pid)
    try:
        yield user
    finally:
        os.close(fd)
        if user.pid:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
