"""The session with the agent: boot, handshake, and the way back after a broken channel.

First the waiting loader gets the agent itself (`BootClient`), then, on the same transport, the handshake makes a session.
A transport of a resumable channel that breaks is replaced by another: the session's frames are numbered and kept until
acknowledged, so nothing is lost as long as the agent still holds its end, which it does for `lease_s`. Connecting may
block, so it is done in a thread; everything else happens on the loop.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ...agent.bootstrap.payload import BootClient
from ...agent.pump.greeting import Greeting, greet
from ...agent.pump.loop import READ, WRITE, Loop, Timer
from ...agent.pump.session import Session
from ...agent.pump.transport import Transport
from ...agent.wire.connection import Connection, Role
from ...agent.wire.errors import RemoteProtocolError
from ...agent.wire.handshake import ClientHandshake, HandshakeResult
from ...agent.wire.messages import Failed, Message
from ..channel.base import Channel, LastWords
from ..errors import UsageError

GREETING_TIMEOUT_S = 15.0
LINGER_S = 2.0
"""What the connections of a program that has just ended may take to end, so that its last bytes reach their peers.

The agent forgets what it has not written yet when it hears `Bye`. A stream that has ended in both directions has nothing
left to write.
"""

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 3.0
_RECV_BYTES = 4096
_LINGER_STEP_S = 0.01


class AgentSession:
    """One session over however many transports it takes.

    `on_up()`: once, when the agent answers. `on_over(reason)`: once, when it cannot begin or cannot go on; the reason is a
    line for the user. `say(text)`: what happens in between. `session` can be used at once: it queues.
    """

    def __init__(
        self,
        loop: Loop,
        channel: Channel,
        secret: bytes,
        *,
        name: str,
        on_notice: Callable[[Message], None],
        on_up: Callable[[], None],
        on_over: Callable[[str], None],
        say: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._channel = channel
        self._secret = secret
        self._name = name
        self._on_up = on_up
        self._on_over = on_over
        self._say = say
        self._result: HandshakeResult | None = None
        self._under_way: _Boot | Greeting | None = None
        self._timer: Timer | None = None
        self._lost_at = 0.0
        self._pause_s = _FIRST_PAUSE_S
        self._is_silent = False
        self._over = False
        self.session = Session(loop, Connection(Role.CLIENT), on_request=_refuse, on_notice=on_notice, on_lost=self._on_lost)

    def begin(self, transport: Transport, boot: BootClient, timeout_s: float) -> None:
        """Send the agent over `transport`, where a loader waits, and make the session."""

        def booted() -> None:
            self._greet(transport, self._on_first_failure)

        self._under_way = _Boot(self._loop, transport, boot, timeout_s, booted, self._on_first_failure)
        self._under_way.begin()

    def close(self, reason: str, on_closed: Callable[[], None]) -> None:
        """End the session in order; `on_closed` when the agent knows it, or cannot be told."""
        self._stop()
        give_up = time.monotonic() + LINGER_S

        def wait() -> None:
            if self.session.closed:
                on_closed()
            elif self.session.attached and self.session.connection.open_streams and time.monotonic() < give_up:
                self._loop.call_later(_LINGER_STEP_S, wait)
            else:
                self.session.close(reason, 0.0, on_closed)

        self._loop.call_soon(wait)

    def abandon(self) -> None:
        """End it without a word: open requests fail, joined sockets are reset."""
        self._stop()
        self.session.abandon()

    def _stop(self) -> None:
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        if self._under_way is not None:
            self._under_way.cancel()
            self._under_way = None

    # -- the handshake --------------------------------------------------------------------------------------------------

    def _greet(self, transport: Transport, on_error: Callable[[Exception], None]) -> None:
        result = self._result
        received = self.session.connection.received
        handshake = ClientHandshake(self._secret, result.session if result else b"", received if result else 0)

        def on_done(result: HandshakeResult) -> None:
            self._under_way = None
            self._attach(transport, result)

        self._under_way = greet(self._loop, transport, handshake, on_done, on_error, GREETING_TIMEOUT_S)

    def _attach(self, transport: Transport, result: HandshakeResult) -> None:
        first, self._result = self._result is None, result
        try:
            self.session.attach(transport, result.leftover, result.peer_received)
        except RemoteProtocolError as error:
            transport.close()
            self._give_up(str(error))
            return
        self._pause_s = _FIRST_PAUSE_S
        if first:
            self._on_up()
        else:
            self._say(f"the connection to the agent of {self._name} is back")

    def _on_first_failure(self, error: Exception) -> None:
        self._under_way = None
        self._stop()
        self._on_over(f"the agent for {self._name} did not start: {self._reason(error)}")

    # -- resume ---------------------------------------------------------------------------------------------------------

    # The session says so: its transport is closed. `error` None: the peer closed it.
    def _on_lost(self, error: Exception | None) -> None:
        if self._over:
            return
        reason = "it was closed" if error is None else str(error)
        if not self._channel.resumable or isinstance(error, RemoteProtocolError):
            self._give_up(self._reason(error))
            return
        self._lost_at = time.monotonic()
        self._is_silent = False
        self._say(f"the connection to the agent of {self._name} broke ({reason}); trying to resume it")
        self._reconnect()

    def _reconnect(self) -> None:
        self._timer = None
        threading.Thread(target=self._open, name="reconnect", daemon=True).start()

    # In the thread.
    def _open(self) -> None:
        outcome: Transport | Exception
        try:
            # A way there, and nobody at its end: it may have ended, and then there is nothing to wait for.
            if self._is_silent and isinstance(self._channel, LastWords) and (words := self._channel.last_words()):
                raise UsageError(words)
            outcome = self._channel.open()
        except Exception as error:
            outcome = error
        self._loop.call_threadsafe(lambda: self._opened(outcome))

    def _opened(self, outcome: Transport | Exception) -> None:
        if isinstance(outcome, Exception):
            if not self._over:
                self._on_resume_failure(outcome)
        elif self._over:
            outcome.close()
        else:
            self._is_silent = True
            self._greet(outcome, self._on_resume_failure)

    def _on_resume_failure(self, error: Exception) -> None:
        self._under_way = None
        assert self._result is not None
        if isinstance(error, UsageError):
            self._give_up(error.text)
        elif isinstance(error, RemoteProtocolError) or not isinstance(error, OSError):
            self._give_up(self._reason(error))
        elif time.monotonic() + self._pause_s - self._lost_at > self._result.lease_s:
            self._give_up(f"the connection could not be resumed within {self._result.lease_s} s: {self._reason(error)}")
        else:
            self._timer = self._loop.call_later(self._pause_s, self._reconnect)
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)

    def _give_up(self, reason: str) -> None:
        self._stop()
        self._on_over(f"the session with the agent of {self._name} is lost: {reason}")

    def _reason(self, error: Exception | None) -> str:
        words = self._channel.last_words() if isinstance(self._channel, LastWords) else ""
        if isinstance(error, RemoteProtocolError):
            return f"{error} (is something else answering in its place?)" + (f"; its last words: {words}" if words else "")
        if words:
            return words
        if isinstance(error, UsageError):
            return error.text
        return "it ended" if error is None else str(error) or type(error).__name__


# Sends the agent to the loader. One of the callbacks is called, once, unless it is cancelled first.
class _Boot:
    def __init__(
        self,
        loop: Loop,
        transport: Transport,
        client: BootClient,
        timeout_s: float,
        on_done: Callable[[], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._client = client
        self._timeout_s = timeout_s
        self._on_done = on_done
        self._on_error = on_error
        self._outbox = memoryview(b"")
        self._timer: Timer | None = None

    def begin(self) -> None:
        self._timer = self._loop.call_later(self._timeout_s, self._expired)
        self._loop.watch(self._transport.fileno(), READ | WRITE, self._ready)

    def cancel(self) -> None:
        self._end()
        self._transport.close()

    def _end(self) -> None:
        self._loop.unwatch(self._transport.fileno())
        if self._timer is not None:
            self._timer.cancel()

    def _expired(self) -> None:
        self._fail(TimeoutError("it did not answer in time"))

    def _fail(self, error: Exception) -> None:
        self.cancel()
        self._on_error(error)

    def _ready(self, events: int) -> None:
        try:
            if events & READ:
                self._read()
            self._write()
        except (OSError, RemoteProtocolError) as error:
            self._fail(error)
            return
        if self._client.done and not self._outbox and not self._transport.wants_write():
            self._end()
            self._on_done()
        else:
            more = self._outbox or self._transport.wants_write()
            self._loop.watch(self._transport.fileno(), READ | WRITE if more else READ, self._ready)

    def _read(self) -> None:
        try:
            received = self._transport.recv(_RECV_BYTES)
        except BlockingIOError:
            return
        if not received:
            raise ConnectionResetError("it closed the connection")
        self._client.receive(received)

    def _write(self) -> None:
        if not self._outbox:
            self._outbox = memoryview(self._client.output())
        try:
            while self._outbox:
                self._outbox = self._outbox[self._transport.send(self._outbox) :]
            if self._transport.wants_write():
                self._transport.send(b"")
        except BlockingIOError:
            pass


# The agent has nothing to ask of us.
def _refuse(message: Message, reply: Callable[[Message], None]) -> None:
    reply(Failed(38, f"{type(message).__name__} is not for the client"))  # ENOSYS
