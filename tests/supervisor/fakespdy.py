"""The server's side of a port-forward by SPDY streams, as the container runtime has it; by the standard, not by our code."""

from __future__ import annotations

import socket
import struct
import zlib

from mirrord_trace.supervisor.channel.spdy import DICTIONARY

SYN_STREAM, SYN_REPLY, RST_STREAM, PING, GOAWAY = 1, 2, 3, 6, 7


def control(kind: int, payload: bytes, flags: int = 0) -> bytes:
    """A control frame."""
    return struct.pack("!HHI", 0x8003, kind, flags << 24 | len(payload)) + payload


def data(stream: int, payload: bytes, flags: int = 0) -> bytes:
    """A DATA frame."""
    return struct.pack("!II", stream, flags << 24 | len(payload)) + payload


class SpdyPeer:
    """One connection, in a thread of its own. The same verbs as `fakeapi.ForwardPeer`: channel 0 is "data", 1 "error"."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.streams: dict[str, int] = {}
        self.headers: dict[str, dict[str, str]] = {}
        self.ended: set[int] = set()
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)

    def frame(self) -> tuple[int, int, bytes] | None:
        """The next frame: (kind, or 0 for DATA; stream, or flags of control; payload). None at the end."""
        head = self._exactly(8)
        if head is None:
            return None
        word, flags_and_length = struct.unpack("!II", head)
        payload = self._exactly(flags_and_length & 0xFFFFFF) or b""
        if word >> 31:
            assert word >> 16 == 0x8003
            return word & 0xFFFF, flags_and_length >> 24, payload
        if flags_and_length >> 24 & 1:
            self.ended.add(word)
        return 0, word, payload

    def _exactly(self, size: int) -> bytes | None:
        received = b""
        while len(received) < size:
            part = self.sock.recv(size - len(received))
            if not part:
                return None
            received += part
        return received

    def announce(self) -> None:
        """Take both streams, and say so."""
        while len(self.streams) < 2:
            frame = self.frame()
            assert frame is not None
            kind, _, payload = frame
            if kind == 0:
                assert payload == b""
                continue
            assert kind == SYN_STREAM
            headers = self._headers(payload[10:])
            (stream,) = struct.unpack_from("!I", payload)
            self.streams[headers["streamtype"]] = stream
            self.headers[headers["streamtype"]] = headers
            self.sock.sendall(control(SYN_REPLY, struct.pack("!I", stream) + b"never read"))

    def _headers(self, block: bytes) -> dict[str, str]:
        plain = self._inflate.decompress(block)
        (count,) = struct.unpack_from("!I", plain)
        position, words = 4, []
        for _ in range(2 * count):
            (size,) = struct.unpack_from("!I", plain, position)
            words.append(plain[position + 4 : position + 4 + size].decode())
            position += 4 + size
        assert position == len(plain)
        return dict(zip(words[::2], words[1::2], strict=True))

    def _stream(self, channel: int) -> int:
        return self.streams["error" if channel else "data"]

    def send(self, channel: int, payload: bytes) -> None:
        """One DATA frame."""
        self.sock.sendall(data(self._stream(channel), payload))

    def send_split(self, channel: int, payload: bytes) -> None:
        """One DATA frame, byte by byte."""
        for byte in data(self._stream(channel), payload):
            self.sock.sendall(bytes([byte]))

    def receive(self) -> bytes:
        """The next piece of the data stream, behind a zero byte; b"" at its end."""
        while self.streams["data"] not in self.ended and (frame := self.frame()) is not None:
            kind, stream, payload = frame
            if kind == 0 and stream == self.streams["data"] and payload:
                return b"\0" + payload
        return b""

    def end(self) -> None:
        """The pod has closed the connection: both streams end."""
        self.sock.sendall(data(self._stream(1), b"", 1) + data(self._stream(0), b"", 1))

    def reset(self) -> None:
        """Drop the connection with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()
