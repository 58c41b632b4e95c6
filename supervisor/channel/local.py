"""A channel to an agent on this machine: a child process at the other end of a socketpair.

The child is no different from an agent in a pod: an interpreter without site-packages that runs the bootstrap loader
and gets the rest over the channel. Its end of the socketpair is its life line: when the relay goes, in whatever way,
the agent reads end-of-file, cleans up and exits.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import IO

from ...agent.bootstrap.payload import command, environment
from ...agent.pump.transport import SocketTransport
from ..errors import UsageError

_END_TIMEOUT_S = 5.0
_TERMINATE_TIMEOUT_S = 1.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LAST_WORDS_BYTES = 4096


class LocalChannel:
    """Starts the agent when it is opened. `boot_secret`: what the loader is to know."""

    resumable = False

    def __init__(self, boot_secret: bytes, *, python: str = sys.executable) -> None:
        self._boot_secret = boot_secret
        self._python = python
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] | None = None

    def open(self) -> SocketTransport:
        """Start the agent's process. Only once: what breaks this channel is the agent's end."""
        if self._process is not None:
            raise UsageError("the agent on this machine has ended; run mirrord-trace again")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._stderr = os.fdopen(os.memfd_create("agent stderr", os.MFD_CLOEXEC), "w+b", buffering=0)
        boot = environment(f"fd:{theirs.fileno()}", self._boot_secret)
        try:
            with theirs:
                self._process = subprocess.Popen(
                    command(self._python),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._stderr,
                    cwd="/",
                    env=dict([boot, ("PATH", _PATH)]),
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                )
        except OSError as error:
            ours.close()
            raise UsageError(f"cannot start {self._python} for the agent: {error.strerror}") from error
        return SocketTransport(ours)

    def last_words(self) -> str:
        """The last line that the agent wrote to its stderr, or how it ended."""
        text = ""
        if self._stderr is not None:
            end = os.fstat(self._stderr.fileno()).st_size
            text = os.pread(self._stderr.fileno(), _LAST_WORDS_BYTES, max(0, end - _LAST_WORDS_BYTES)).decode(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if lines:
            return lines[-1]
        status = self._process.poll() if self._process is not None else None
        if status is None:
            return ""
        return f"it was killed by signal {-status}" if status < 0 else f"it exited with status {status}"

    def close(self) -> None:
        """Wait for the agent to end, as it does when the transport is closed; kill it if it does not."""
        if self._process is not None:
            self._end(self._process)
        if self._stderr is not None:
            self._stderr.close()
            self._stderr = None

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        try:
            process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.terminate()
            try:
                process.wait(_TERMINATE_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
