"""Drives a handshake over a transport on the loop, for either side."""

from __future__ import annotations

from typing import Callable, Optional, Union

from ..wire.errors import RemoteProtocolError
from ..wire.handshake import AgentHandshake, ClientHandshake, HandshakeResult
from .loop import READ, WRITE, Loop
from .transport import Transport

_RECV_BYTES = 4096


class Greeting:
    """A handshake under way; `greet` makes it. Exactly one of the callbacks is called, unless it is cancelled."""

    def __init__(
        self,
        loop: Loop,
        transport: Transport,
        handshake: Union[ClientHandshake, AgentHandshake],
        on_done: Callable[[HandshakeResult], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._handshake = handshake
        self._on_done = on_done
        self._on_error = on_error
        self._outbox = b""
        self._over = False

    def begin(self, timeout_s: float) -> None:
        """Start; the first bytes go out before the loop next waits."""
        self._timer = self._loop.call_later(timeout_s, self._expired)
        self._loop.watch(self._transport.fileno(), READ | WRITE, self._ready)

    def cancel(self) -> None:
        """Stop and close the transport; no callback is called."""
        if not self._over:
            self._end()
            self._transport.close()

    def _end(self) -> None:
        self._over = True
        self._timer.cancel()
        self._loop.unwatch(self._transport.fileno())

    def _fail(self, error: Exception) -> None:
        self._end()
        self._transport.close()
        self._on_error(error)

    def _expired(self) -> None:
        self._fail(TimeoutError("the peer did not complete the handshake in time"))

    def _ready(self, events: int) -> None:
        try:
            refusal = self._exchange(events)
        except OSError as error:
            self._fail(error)
            return
        if refusal is not None:
            self._fail(refusal)
            return
        result = self._handshake.result
        flushed = not self._outbox and not self._transport.wants_write()
        if result is not None and flushed:
            self._end()
            self._on_done(result)
            return
        self._loop.watch(self._transport.fileno(), READ if flushed else READ | WRITE, self._ready)

    def _exchange(self, events: int) -> Optional[Exception]:
        # Reads and writes what is possible. A refusal is returned after the last words to the peer went out.
        refusal: Optional[Exception] = None
        if events & READ and self._handshake.result is None:
            try:
                data = self._transport.recv(_RECV_BYTES)
                if not data:
                    return ConnectionResetError("the peer closed the transport during the handshake")
                self._handshake.receive(data)
            except BlockingIOError:
                pass
            except RemoteProtocolError as error:
                refusal = error
        self._outbox += self._handshake.output()
        try:
            while self._outbox:
                self._outbox = self._outbox[self._transport.send(self._outbox) :]
            if self._transport.wants_write():
                self._transport.send(b"")
        except BlockingIOError:
            pass
        return refusal


def greet(
    loop: Loop,
    transport: Transport,
    handshake: Union[ClientHandshake, AgentHandshake],
    on_done: Callable[[HandshakeResult], None],
    on_error: Callable[[Exception], None],
    timeout_s: float = 10.0,
) -> Greeting:
    """Carry out `handshake` over `transport`.

    `on_done`: the transport is unwatched and yours, its next bytes are frames (after `result.leftover`). `on_error`:
    RemoteProtocolError, TimeoutError or another OSError; the transport is closed.
    """
    greeting = Greeting(loop, transport, handshake, on_done, on_error)
    greeting.begin(timeout_s)
    return greeting
