"""A `Bridge` for unix stream sockets: the same, and an eye on descriptors that are passed along.

A descriptor (SCM_RIGHTS) means something on its own machine only. recvmsg(2) without room for control messages makes the
kernel close what was passed and say MSG_CTRUNC, so nothing can leak; but the program at the other end would wait for a
descriptor that never comes, so the connection is broken.

There is no RST on a unix socket: its peer finds end-of-file, or ECONNRESET if we had not read all that it sent.
"""

from __future__ import annotations

import os
import socket
from errno import EOPNOTSUPP
from typing import Callable, Optional

from .bridge import Bridge
from .ends import Host, OnEnd


class UnixBridge(Bridge):
    """One AF_UNIX SOCK_STREAM socket on one stream. Owns the socket. `on_descriptors` is called if any were passed."""

    def __init__(
        self, host: Host, stream: int, sock: socket.socket, on_end: Optional[OnEnd], on_descriptors: Callable[[], None]
    ) -> None:
        self._on_descriptors = on_descriptors
        super().__init__(host, stream, sock, on_end)

    def _receive(self, size: int) -> bytes:
        content, _, flags, _ = self._sock.recvmsg(size)
        if flags & socket.MSG_CTRUNC:
            self._on_descriptors()
            raise OSError(EOPNOTSUPP, os.strerror(EOPNOTSUPP))
        return content
