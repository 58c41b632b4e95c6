"""One TLS connection without I/O: ciphertext in and out, plain bytes out and in (ssl.MemoryBIO)."""

from __future__ import annotations

import contextlib
import ssl
from typing import List, Optional

_READ_BYTES = 64 * 1024


class TlsLeg:
    """`ready`: the handshake is over. `ended`: the other side has said that nothing more comes (close_notify)."""

    def __init__(self, context: ssl.SSLContext, is_server: bool, server_name: Optional[str] = None) -> None:
        self.ready = self.ended = False
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=is_server, server_hostname=server_name)
        self._waiting: List[bytes] = []
        self._eof = False

    @property
    def protocol(self) -> Optional[str]:
        """By ALPN, once `ready`."""
        return self._tls.selected_alpn_protocol()

    def received(self, data: bytes) -> bytes:
        """Ciphertext -> plain bytes. ssl.SSLError: it is broken; `output` has the alert."""
        self._in.write(data)
        if not self._shake_hands():
            return b""
        pieces: List[bytes] = []
        while not self.ended:
            try:
                piece = self._tls.read(_READ_BYTES)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                piece = b""
            self.ended = not piece
            pieces.append(piece)
        return b"".join(pieces)

    def send(self, data: bytes) -> None:
        """Plain bytes; before the handshake is over they wait."""
        if self.ready and not self._waiting:
            self._tls.write(data)
        else:
            self._waiting.append(data)

    def send_eof(self) -> None:
        """close_notify, after what was sent. Reading goes on."""
        self._eof = True
        if self.ready:
            # It asks for the other side's, which may take its time.
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()

    def output(self) -> bytes:
        """Ciphertext to be sent now; each byte is returned once."""
        return self._out.read()

    def start(self) -> None:
        """A client's side begins."""
        self._shake_hands()

    def _shake_hands(self) -> bool:
        if not self.ready:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                return False
            self.ready = True
            for data in self._waiting:
                self._tls.write(data)
            self._waiting.clear()
            if self._eof:
                self.send_eof()
        return True
