"""connect(2) to where a redirected connection wanted to go: the next layer, or the pod's own container."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from typing import Tuple

from ..net import to_socket_address
from ..wire.messages import Address
from .introductions import Introductions
from .layers import mark_of

# A port that is still in TIME_WAIT towards that destination: another one is tried.
_TRIES = 4


def connect_onward(wanted: Address, layer: int, peer: Address, introductions: Introductions) -> Tuple[socket.socket, bool]:
    """A non-blocking socket, and whether it is connected already. OSError: it cannot be.

    It carries the mark of the layer, so that only later ones redirect it, and is introduced to the other agents as `peer`.
    """
    for _ in range(_TRIES):
        sock, code = _attempt(wanted, layer, peer, introductions)
        if code in (0, errno.EINPROGRESS):
            return sock, code == 0
        sock.close()
        if code != errno.EADDRNOTAVAIL:
            break
    raise OSError(code, os.strerror(code))


def _attempt(wanted: Address, layer: int, peer: Address, introductions: Introductions) -> Tuple[socket.socket, int]:
    family = socket.AF_INET if len(wanted.ip) == 4 else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, struct.pack("=I", mark_of(layer)))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        introductions.introduce(sock, peer)
        return sock, sock.connect_ex(to_socket_address(wanted))
    except OSError as error:
        with contextlib.suppress(OSError):
            sock.close()
        raise OSError(error.errno or errno.EIO, error.strerror or str(error)) from error
