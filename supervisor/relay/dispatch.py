"""What the relay does with each message of the tracer and of the agent."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass

from ...agent.pump.loop import Loop
from ...agent.pump.session import Session
from ...agent.wire.messages import Bye, Failed, Incoming, Log, Message, OpenFile
from ...syscalls.requests import Counts, GetCounts, Listen, StartConnect, UdpPeer
from ..errors import InternalError
from .addresses import AddressTable
from .connects import Connects, FullListener
from .files import Files
from .incoming import IncomingTraffic
from .link import ASK, Packet
from .report import say
from .udp import UdpTraffic

REQUEST_DEADLINE_S = 30.0


@dataclass(frozen=True)
class Outward:
    """The two ways to the tracer: `reply(id, message, fd or -1)` and `tell(message)`."""

    reply: Callable[[int, Message, int], None]
    tell: Callable[[Message], None]


class Dispatch:
    """The parts of the relay that need a session, and who gets which message."""

    def __init__(
        self,
        loop: Loop,
        session: Session,
        table: AddressTable,
        listeners: dict[int, FullListener],
        outward: Outward,
        *,
        temporary_directory: str | None = None,
        log_level: int = logging.WARNING,
    ) -> None:
        self._session = session
        self._outward = outward
        self._log_level = log_level
        self._open_asks: set[int] = set()
        self._over = False
        self._files = Files(session, temporary_directory)
        self._connects = Connects(loop, session, listeners, outward.tell)
        self._incoming = IncomingTraffic(loop, session, table)
        self._udp = UdpTraffic(loop, session, table)

    def from_tracer(self, packet: Packet) -> None:
        """An ask or a tell of the tracer."""
        if packet.kind == ASK:
            self._open_asks.add(packet.id)
            self._ask(packet.id, packet.message)
            _close(packet.fd)
        elif isinstance(packet.message, UdpPeer) and packet.fd >= 0:
            self._udp.add(packet.message, packet.fd)
        elif isinstance(packet.message, StartConnect):
            self._connects.start(packet.message)
            _close(packet.fd)
        else:
            raise InternalError(f"the tracer told {packet.message}")

    def from_agent(self, message: Message, on_bye: Callable[[str], None]) -> None:
        """A notice of the agent."""
        if isinstance(message, Incoming):
            self._incoming.accept(message)
        elif isinstance(message, Log):
            if message.level >= self._log_level:
                say(f"agent: {message.text}")
        elif isinstance(message, Bye):
            on_bye(message.reason)

    def finish(self) -> None:
        """The program has ended: no more datagrams, no new connections; those that are there may end in order."""
        self._incoming.close()
        self._udp.close()

    def fail_all(self, number: int) -> None:
        """The session is lost: answer what is open, and from now on every ask, with `Failed(number)`."""
        self._over = True
        self.finish()
        for id in list(self._open_asks):
            self._reply(id, Failed(number, "the session with the agent is lost"))

    def _ask(self, id: int, message: Message) -> None:
        def reply(answer: Message, fd: int = -1) -> None:
            self._reply(id, answer, fd)

        if isinstance(message, GetCounts):
            session = self._session
            reply(Counts(session.round_trips, session.bytes_sent, session.bytes_received))
        elif self._over:
            reply(Failed(errno.ENETDOWN, "the session with the agent is lost"))
        elif isinstance(message, OpenFile):
            self._files.open(message, reply)
        elif isinstance(message, Listen):
            self._incoming.listen(message, reply)
        else:
            self._session.request(message, reply, REQUEST_DEADLINE_S)

    # A reply that comes after the ask was failed is dropped, with its file.
    def _reply(self, id: int, answer: Message, fd: int = -1) -> None:
        if id in self._open_asks:
            self._open_asks.discard(id)
            self._outward.reply(id, answer, fd)
        else:
            _close(fd)


def _close(fd: int) -> None:
    if fd >= 0:
        os.close(fd)
