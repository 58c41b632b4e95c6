"""What the relay does with each message of the tracer and of the agent."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...agent.pump.loop import Loop
from ...agent.pump.session import Session
from ...agent.wire.file_messages import PathEvent
from ...agent.wire.messages import AskRoutes, Bye, DatagramFailed, Done, Failed, GetPod, Incoming, Log, Message, OpenFile, Pod
from ...syscalls.name_rules import WITHOUT_FILTER, DnsConfig
from ...syscalls.path_rules import PathRules
from ...syscalls.policy import PolicyConfig
from ...syscalls.requests import (
    AwaitRoutes,
    Counts,
    EndConnect,
    Foretell,
    GetCounts,
    GiveUpFor,
    JoinUnix,
    Listen,
    OpenUnix,
    ProbePing,
    ReadHead,
    ReceiveUdp,
    RouteSocket,
    StartConnect,
    StatPath,
    UdpPeer,
    WatchTree,
)
from ..errors import InternalError
from ..fuse.mounted import Mounted
from .addresses import AddressTable
from .connects import Connects, FullListener
from .dns import Dns
from .dns_files import read_pod_files
from .dns_tcp import NameConnections
from .files import Files
from .incoming import IncomingTraffic
from .link import ASK, Packet
from .pod_socket import probe
from .report import say
from .routes import Routes
from .udp import UdpTraffic
from .udp_incoming import UdpIncoming
from .unix import UnixTraffic

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
        dns: DnsConfig = WITHOUT_FILTER,
    ) -> None:
        self._session = session
        self._outward = outward
        self._log_level = log_level
        self._open_asks: set[int] = set()
        self._over = False
        self._files = Files(session, temporary_directory)
        self.dns = Dns.of_machine(dns, loop, outward.tell)
        joins = NameConnections(loop, session, self.dns)
        self._connects = Connects(loop, session, listeners, outward.tell, joins.join)
        self._incoming = IncomingTraffic(loop, session, table)
        self._udp_incoming = UdpIncoming(loop, session, table)
        self._routes = Routes(loop, session)
        self._udp = UdpTraffic(loop, session, table, self.dns, outward.tell)
        self._unix = UnixTraffic(loop, session)
        self.mounted: Mounted | None = None
        """The pod's tree, where it is mounted."""
        self._policy_in: Callable[[Pod], PolicyConfig] = lambda pod: PolicyConfig()
        self._answers = self._table()

    @property
    def routes_port(self) -> int:
        """For `Ready`."""
        return self._routes.port

    def prepare(self, done: Callable[[], None]) -> None:
        """The agent is up: learn what filters by name need of the pod, then call `done`; at once if it is nothing."""
        if not self.dns.wants_pod_files:
            done()
            return

        def learn(resolv_conf: bytes, hosts: bytes) -> None:
            self.dns.learn_files(resolv_conf, hosts)
            done()

        read_pod_files(self._session, learn)

    def serve(self, mounted: Mounted, policy_in: Callable[[Pod], PolicyConfig]) -> None:
        """The pod's tree is mounted. `policy_in` says what policy is, given the pod."""
        self.mounted = mounted
        self._answers.update({StatPath: mounted.stat_path, ReadHead: mounted.read_head, WatchTree: mounted.watch_path})
        self._policy_in = policy_in

    def from_tracer(self, packet: Packet) -> None:
        """An ask or a tell of the tracer."""
        if packet.kind == ASK:
            self._open_asks.add(packet.id)
            self._ask(packet.id, packet.message)
            _close(packet.fd)
        elif isinstance(packet.message, Foretell):
            if self.mounted is not None and not self._over:
                self.mounted.foretell(packet.message)
        elif isinstance(packet.message, GiveUpFor):
            if self.mounted is not None:
                self.mounted.server.give_up_for(packet.message.tid)
        elif isinstance(packet.message, UdpPeer) and packet.fd >= 0:
            self._udp.add(packet.message, packet.fd)
        elif isinstance(packet.message, RouteSocket):
            self._routes.add(packet.message)
        elif isinstance(packet.message, JoinUnix):
            self._unix.join(packet.message, packet.fd)
        elif isinstance(packet.message, StartConnect):
            self._connects.start(packet.message)
            _close(packet.fd)
        elif isinstance(packet.message, EndConnect):
            self._connects.end(packet.message)
            _close(packet.fd)
        else:
            raise InternalError(f"the tracer told {packet.message}")

    def from_agent(self, message: Message, on_bye: Callable[[str], None]) -> None:
        """A notice of the agent."""
        if isinstance(message, Incoming):
            self._incoming.accept(message)
        elif isinstance(message, DatagramFailed):
            self._udp.failed(message)
        elif isinstance(message, PathEvent):
            if self.mounted is not None:
                self.mounted.happened(message)
        elif isinstance(message, Log):
            if message.level >= self._log_level:
                say(f"agent: {message.text}")
        elif isinstance(message, Bye):
            on_bye(message.reason)

    def finish(self) -> None:
        """The program has ended: no more datagrams, no new connections; those that are there may end in order."""
        self._incoming.close()
        self._udp_incoming.close()
        self._udp.close()
        self._connects.close()
        self.dns.close()
        self._unix.close()
        self._routes.close()

    def fail_all(self, number: int) -> None:
        """The session is lost: answer what is open, and from now on every ask, with `Failed(number)`."""
        self._over = True
        self.finish()
        if self.mounted is not None:
            self.mounted.server.fail_all(number)
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
        else:
            answer = self._answers.get(type(message))
            if answer is not None:
                answer(message, reply)
            else:
                self._session.request(message, reply, REQUEST_DEADLINE_S)

    # Who answers what; anything else is for the agent.
    def _table(self) -> dict[type[Message], Callable[[Any, Any], None]]:
        return {
            EndConnect: self._end_connect,
            OpenFile: self._files.open,
            AskRoutes: self._routes.ask,
            AwaitRoutes: self._routes.wait,
            OpenUnix: self._unix.open,
            ProbePing: lambda message, reply: probe(self._session, message.family, reply),
            Listen: self._incoming.listen,
            ReceiveUdp: self._udp_incoming.receive,
            GetPod: lambda message, reply: self._session.request(
                message, lambda answer: self._describe(answer, reply), REQUEST_DEADLINE_S
            ),
        }

    def _end_connect(self, message: EndConnect, reply: Callable[[Message], None]) -> None:
        self._connects.end(message)
        reply(Done())

    # What may be written depends on the pod's volumes, and the program starts only once the tracer has this answer.
    def _describe(self, answer: Message, reply: Callable[[Message], None]) -> None:
        if self.mounted is not None and isinstance(answer, Pod):
            policy = self._policy_in(answer)
            rules = PathRules(policy.files, remote_names=policy.dns, remote_interfaces=policy.interfaces)
            self.mounted.tree.may_write = rules.may_write
            self.mounted.tree.asking.may_read = rules.may_read
        reply(answer)

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
