"""Internet sockets of every kind that socket(2) knows, and what becomes of them: kinds.py IP PORT of an echo server."""

from __future__ import annotations

import errno
import socket
import sys

KINDS = {
    "tcp": (socket.SOCK_STREAM, 0),
    "multipath tcp": (socket.SOCK_STREAM, 262),
    "smc": (socket.SOCK_STREAM, 256),
    "sctp": (socket.SOCK_STREAM, 132),
    "sctp messages": (socket.SOCK_SEQPACKET, 132),
    "dccp": (6, 33),
    "udp": (socket.SOCK_DGRAM, 0),
    "udp-lite": (socket.SOCK_DGRAM, 136),
    "raw icmp": (socket.SOCK_RAW, 1),
    "raw": (socket.SOCK_RAW, 255),
}


def outcome(family: int, kind: int, protocol: int, peer: tuple[str, int]) -> str:
    """What happened, in a word."""
    try:
        with socket.socket(family, kind, protocol) as sock:
            if kind != socket.SOCK_STREAM:
                return "made"
            sock.settimeout(10)
            sock.connect(peer)
            sock.sendall(b"hello")
            return sock.recv(10).decode()
    except OSError as error:
        return errno.errorcode[error.errno or 0]


for name, (kind, protocol) in KINDS.items():
    print(f"{name}: {outcome(socket.AF_INET, kind, protocol, (sys.argv[1], int(sys.argv[2])))}")
