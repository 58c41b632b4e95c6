"""Frames: the 12-byte header in front of everything that follows the handshake, and what the kinds carry.

    0        1        2        3        4                 8                 12
    | flags+kind |      length (24 bit)     |  stream or id   |    sequence     | payload, `length` bytes

All integers are big endian. The sequence is the low 32 bits of the sender's count of sequenced frames, this one
included; it is 0 in ACK, PING and PONG, which belong to one transport and are never replayed.
"""

from __future__ import annotations

import struct
from typing import Tuple, Union

from .errors import LocalProtocolError, RemoteProtocolError
from .messages import Address

Buffer = Union[bytes, bytearray, memoryview]

NOTICE = 1
REQUEST = 2
REPLY = 3
OPEN = 4
DATA = 5
EOF = 6
RESET = 7
CREDIT = 8
ACK = 9
PING = 10
PONG = 11

MORE = 0x80
"""Flag on NOTICE, REQUEST and REPLY: the message goes on in the next frame of these kinds."""

CONTROL_KINDS = frozenset((NOTICE, REQUEST, REPLY))
UNSEQUENCED_KINDS = frozenset((ACK, PING, PONG))

HEADER = struct.Struct("!III")
HEADER_BYTES = HEADER.size
U32 = struct.Struct("!I")
U64 = struct.Struct("!Q")

MAX_PAYLOAD_BYTES = 256 * 1024
"""The most that one frame carries."""

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""The most that one control message may have, over all its frames."""

WINDOW_BYTES = 1024 * 1024
"""What a sender may have under way on one stream before the receiver gives credit."""

MAX_REQUESTS = 1024
"""Requests of one side that may wait for their reply at a time."""

MAX_STREAMS = 65536
"""Streams opened by one side that the other takes at a time; the opener keeps to half, since ends are under way."""

MAX_ERRNO = 4095

# kind -> (smallest, largest) payload. A stream, where a kind has one, is never 0.
LENGTHS = {
    NOTICE: (1, MAX_PAYLOAD_BYTES),
    REQUEST: (1, MAX_PAYLOAD_BYTES),
    REPLY: (1, MAX_PAYLOAD_BYTES),
    OPEN: (0, 0),
    DATA: (1, MAX_PAYLOAD_BYTES),
    EOF: (0, 0),
    RESET: (4, 4),
    CREDIT: (4, 4),
    ACK: (8, 8),
    PING: (8, 8),
    PONG: (8, 8),
}
_WITHOUT_STREAM = frozenset((NOTICE, ACK, PING, PONG))


def check_header(word: int, stream: int, sequence: int) -> None:
    """Judge a header by itself, before its payload has come; RemoteProtocolError if it cannot be one."""
    kind = word >> 24
    length = word & 0xFFFFFF
    bare = kind & ~MORE
    limits = LENGTHS.get(bare)
    if limits is None or (kind != bare and bare not in CONTROL_KINDS):
        raise RemoteProtocolError(f"frame of unknown kind {kind:#x}")
    if not limits[0] <= length <= limits[1]:
        raise RemoteProtocolError(f"frame of kind {bare} with {length} bytes")
    if (stream == 0) != (bare in _WITHOUT_STREAM):
        raise RemoteProtocolError(f"frame of kind {bare} with stream or id {stream}")
    if sequence != 0 and bare in UNSEQUENCED_KINDS:
        raise RemoteProtocolError(f"frame of kind {bare} with sequence {sequence}")


# -- datagrams: one DATA frame each, the peer in front ---------------------------------------------------------------

_PORT = struct.Struct("!H")
_IP_LENGTHS = (4, 16)


def pack_datagram(peer: Address, payload: Buffer) -> bytes:
    """One datagram as a DATA payload: length of the IP address (4 or 16), the address, port, the datagram itself."""
    if len(peer.ip) not in _IP_LENGTHS or not 0 <= peer.port <= 0xFFFF:
        raise LocalProtocolError(f"not an address: {peer!r}")
    return b"".join((bytes((len(peer.ip),)), peer.ip, _PORT.pack(peer.port), payload))


def unpack_datagram(data: Buffer) -> Tuple[Address, bytes]:
    """The reverse of `pack_datagram`; RemoteProtocolError if it is none."""
    view = memoryview(data)
    size = view[0] if view else 0
    if size not in _IP_LENGTHS or len(view) < size + 3:
        raise RemoteProtocolError("malformed datagram")
    peer = Address(bytes(view[1 : size + 1]), _PORT.unpack_from(view, size + 1)[0])
    return peer, bytes(view[size + 3 :])
