"""One HTTP/2 connection, to the peer or to an end: h2 with what it needs to be passed through.

h2 takes a GOAWAY for the end of everything: after one it refuses to send on the streams that are still open. Servers
that shut down in order, and gRPC servers that limit the age of connections, send one and go on answering. So these frames
are taken out before h2 sees them.
"""

from __future__ import annotations

import contextlib
import struct
from typing import Any, List, Optional, Set

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import WindowUpdated
from h2.exceptions import H2Error
from h2.settings import SettingCodes, Settings

from .actions import Action, Send
from .http2_pipe import Pipe

PREFACE_BYTES = 24

_HEADER = struct.Struct("!HBBBI")
_GOAWAY = 7
_MOST_FRAME_BYTES = 16384
_STREAM_WINDOW = 1 << 20
_CONNECTION_WINDOW = 8 << 20
_INITIAL_WINDOW = 65535
_MOST_STREAMS = 1024
_MOST_HEADER_BYTES = 256 * 1024


class BadHttp2(Exception):
    """The other side does not keep to HTTP/2."""


class Side:
    """`number`: the connection. `last_stream`: the highest that the other side will serve (GOAWAY), or None.

    `blocked`: pipes into this connection that have something to send and no window for it.
    """

    def __init__(self, number: int, end: str, is_client: bool) -> None:
        self.number = number
        self.end = end
        self.last_stream: Optional[int] = None
        self.blocked: Set[Pipe] = set()
        self.used = 0
        self._input = b""
        self._preface_left = 0 if is_client else PREFACE_BYTES
        self.h2 = H2Connection(
            H2Configuration(
                client_side=is_client,
                header_encoding=None,
                validate_inbound_headers=False,
                normalize_inbound_headers=False,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.h2.local_settings = Settings(
            client=is_client,
            initial_values={
                SettingCodes.HEADER_TABLE_SIZE: 4096,
                SettingCodes.ENABLE_PUSH: 0,
                SettingCodes.MAX_CONCURRENT_STREAMS: _MOST_STREAMS,
                SettingCodes.INITIAL_WINDOW_SIZE: _STREAM_WINDOW,
                SettingCodes.MAX_FRAME_SIZE: _MOST_FRAME_BYTES,
                SettingCodes.MAX_HEADER_LIST_SIZE: _MOST_HEADER_BYTES,
            },
        )
        self.h2.decoder.max_header_list_size = _MOST_HEADER_BYTES
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(_CONNECTION_WINDOW - _INITIAL_WINDOW)

    def receive(self, data: bytes) -> List[Any]:
        """Bytes -> h2's events. BadHttp2: say what `flush` has, and close."""
        passed = self._without_goaway(data)
        if not passed:
            return []
        try:
            return list(self.h2.receive_data(passed))
        except H2Error as error:
            raise BadHttp2(str(error)) from None
        except Exception as error:  # what strangers send must not end the agent, and h2 is not proof against all of it
            raise BadHttp2(repr(error)) from None

    def flush(self, out: List[Action]) -> None:
        """Send what h2 has to say."""
        data = self.h2.data_to_send()
        if data:
            out.append(Send(self.number, data))

    def may_open(self) -> bool:
        """Whether the other side takes one more stream now."""
        return bool(self.h2.open_outbound_streams < self.h2.remote_settings.max_concurrent_streams)

    def reset(self, stream: int, code: int) -> None:
        """RST_STREAM, unless it is closed already."""
        with contextlib.suppress(H2Error):
            self.h2.reset_stream(stream, code)

    def offer_connect(self, other: "Side") -> None:
        """RFC 8441: what an end can do is offered to the peer as soon as that is known."""
        code = SettingCodes.ENABLE_CONNECT_PROTOCOL
        if other.h2.remote_settings.get(code, 0) == 1 and self.h2.local_settings.get(code, 0) != 1:
            self.h2.update_settings({code: 1})

    # The frames that came whole, but for GOAWAY; the rest waits.
    def _without_goaway(self, data: bytes) -> bytes:
        buffer = self._input + data if self._input else data
        at = min(self._preface_left, len(buffer))
        self._preface_left -= at
        start, pieces = 0, []
        while len(buffer) - at >= 9:
            high, low, kind, _, _ = _HEADER.unpack_from(buffer, at)
            size = (high << 8) + low
            if size > _MOST_FRAME_BYTES:
                # h2 would wait for all of it before it says so. An answer in HTTP/1 looks like this, too.
                with contextlib.suppress(H2Error):
                    self.h2.close_connection(ErrorCodes.FRAME_SIZE_ERROR)
                raise BadHttp2("a frame that is too long")
            if len(buffer) - at < 9 + size:
                break
            end = at + 9 + size
            if kind == _GOAWAY and size >= 8:
                pieces.append(buffer[start:at])
                self.last_stream = int.from_bytes(buffer[at + 9 : at + 13], "big") & 0x7FFFFFFF
                start = end
            at = end
        self._input = buffer[at:]
        pieces.append(buffer[start:at])
        return b"".join(pieces)


def gives_room(event: Any) -> bool:
    """Whether an event of h2 may let blocked pipes go on: a window, or settings."""
    return isinstance(event, WindowUpdated) or hasattr(event, "changed_settings")
