"""The tracer's side of everything that goes to the relay and comes back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ...agent.wire.messages import Message
from ...syscalls.actions import Answer
from ...syscalls.net.learnt import NameTable
from ...syscalls.net.sockets import Sockets
from ...syscalls.requests import Lost, NamesLearnt, PeerRefused, Verdict
from ..relay.link import REPLY, RelayLink


class Asks:
    """Numbers requests, keeps verdicts current, and hands replies to the driver. Implements `syscalls.task.RelayPort`.

    Handlers drain in the middle of a stop, so replies for other threads are kept until the loop delivers them.
    """

    def __init__(self, link: RelayLink) -> None:
        self.sockets: Sockets | None = None
        """Where verdicts go."""
        self.names = NameTable()
        """What the relay has read in the answers of name servers."""
        self.on_refused: Callable[[PeerRefused], None] = lambda message: None
        """What to do when a peer refuses datagrams."""
        self.lost: str = ""
        """Why the session is over, once it is."""
        self._link = link
        self._next_id = 0
        self._replies: deque[tuple[int, Answer]] = deque()

    def ask(self, request: Message) -> int:
        """Send a request; returns its id."""
        self._next_id = self._next_id % 0xFFFFFFFF + 1
        self._link.ask(request, self._next_id)
        return self._next_id

    def tell(self, message: Message, fds: tuple[int, ...] = ()) -> None:
        """See `RelayPort.tell`."""
        self._link.tell(message, fds)

    def drain(self) -> None:
        """See `RelayPort.drain`."""
        for packet in self._link.drain():
            if packet.kind == REPLY:
                self._replies.append((packet.id, Answer(packet.message, packet.fd)))
            elif isinstance(packet.message, Verdict) and self.sockets is not None:
                self.sockets.decided(packet.message)
            elif isinstance(packet.message, NamesLearnt):
                self.learn(packet.message)
            elif isinstance(packet.message, PeerRefused):
                self.on_refused(packet.message)
            elif isinstance(packet.message, Lost):
                self.lost = self.lost or packet.message.reason

    def learn(self, message: NamesLearnt) -> None:
        """Remember names that the relay tells."""
        self.names.learn(message.ips, message.names, message.ttl_s)

    def deliver(self, answer: Callable[[int, Answer], None]) -> None:
        """Hand over every reply that has come. `answer` may make further requests."""
        while self._replies:
            request_id, reply = self._replies.popleft()
            answer(request_id, reply)
