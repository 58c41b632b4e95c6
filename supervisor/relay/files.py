"""A pod file as an open file of this machine: a sealed memfd, or an unlinked temporary file if it is large.

The tracee gets an open file description of its own for it, so that read, pread, lseek, mmap and sendfile are the kernel's
business. It is a copy of the moment of the open(2), and sealed: nothing can be written into it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace

from ...agent.pump.session import Session
from ...agent.wire.errors import LocalProtocolError
from ...agent.wire.messages import Failed, FileStat, Message, Opened, OpenFile
from .report import PATIENCE_S, say, size

INLINE_LIMIT = 128 * 1024
"""Files up to this size come within the reply: one round trip, one frame."""

OPEN_DEADLINE_S = 30.0

_PROGRESS_EVERY_S = 2.0
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE

Reply = Callable[[Message, int], None]
"""Takes the answer and an fd (or -1) that it then owns."""


class Files:
    """Opens pod files. `directory`: where large ones are put, by default that of tempfile ($TMPDIR)."""

    def __init__(self, session: Session, directory: str | None = None) -> None:
        self._session = session
        self._directory = directory

    def open(self, request: OpenFile, reply: Reply) -> None:
        """Pass `request` on with a stream of its own, and answer with `Opened` and an fd, or what the agent says."""
        try:
            stream = self._session.new_stream()
        except LocalProtocolError:  # as many as the protocol has
            reply(Failed(errno.ENFILE, "too many streams"), -1)
            return
        limit = min(request.inline_limit or INLINE_LIMIT, INLINE_LIMIT)

        def on_reply(message: Message) -> None:
            if isinstance(message, Opened) and message.follows:
                _Download(self._session, stream, request.path, message.stat, reply).start(self._directory)
                return
            self._session.reset(stream, 0)
            if isinstance(message, Opened):
                _answer_inline(message, reply)
            else:
                reply(message, -1)

        self._session.request(replace(request, stream=stream, inline_limit=limit), on_reply, OPEN_DEADLINE_S)


def sealed_file(content: bytes, mode: int) -> int:
    """A memfd with this content that nobody can change, executable if `mode` says so; positioned at 0."""
    fd = os.memfd_create("pod file", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
        os.lseek(fd, 0, os.SEEK_SET)
        os.fchmod(fd, _copy_mode(mode))
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except OSError:
        os.close(fd)
        raise
    return fd


def _answer_inline(message: Opened, reply: Reply) -> None:
    try:
        fd = sealed_file(message.content, message.stat.mode)
    except OSError as error:
        reply(_failure(error), -1)
        return
    reply(replace(message, content=b""), fd)


# Readable for every user that the tracee may have become.
def _copy_mode(mode: int) -> int:
    return 0o444 | (stat.S_IMODE(mode) & 0o111)


def _failure(error: OSError) -> Failed:
    return Failed(error.errno or errno.EIO, f"local copy of the pod file: {error.strerror}")


# A large file on its way into an unlinked temporary file.
class _Download:
    def __init__(self, session: Session, stream: int, path: bytes, file_stat: FileStat, reply: Reply) -> None:
        self._session = session
        self._stream = stream
        self._path = path
        self._stat = file_stat
        self._reply = reply
        self._fd = -1
        self._received = 0
        self._next_report = time.monotonic() + PATIENCE_S

    def start(self, directory: str | None) -> None:
        try:
            self._fd = _unlinked_file(directory, self._stat.mode)
        except OSError as error:
            self._fail(error)
            return
        self._session.consume(self._stream, self._on_data, self._on_end)

    # The stream may still deliver what had arrived before its reset.
    def _on_data(self, content: memoryview) -> None:
        if self._fd < 0:
            return
        try:
            while content:
                count = os.write(self._fd, content)
                self._received += count
                content = content[count:]
        except OSError as error:
            self._fail(error)
            return
        if time.monotonic() >= self._next_report:
            self._next_report = time.monotonic() + _PROGRESS_EVERY_S
            path = self._path.decode(errors="replace")
            say(f"fetching {path} from the pod: {size(self._received)} of {size(self._stat.size)}")

    def _on_end(self, number: int) -> None:
        if self._fd < 0:
            return
        if number:
            os.close(self._fd)
            self._fd = -1
            self._reply(Failed(number), -1)
            return
        fd, self._fd = self._fd, -1
        os.lseek(fd, 0, os.SEEK_SET)
        self._reply(Opened(self._stat, b"", False), fd)

    def _fail(self, error: OSError) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        path = self._path.decode(errors="replace")
        say(f"cannot keep a copy of the pod's {path}: {error.strerror}; TMPDIR chooses the place")
        self._session.reset(self._stream, errno.ECANCELED)
        self._reply(_failure(error), -1)


def _unlinked_file(directory: str | None, mode: int) -> int:
    with tempfile.TemporaryFile(dir=directory, prefix="mirrord-trace-", buffering=0) as file:
        os.fchmod(file.fileno(), _copy_mode(mode))
        return os.dup(file.fileno())
