"""The worker: one session from its first transport to its end, and who answers what.

first transport ──greet──> session ──lost──> lease runs ──a resume in time──> session goes on
                                                 └────────too late────────> the end
"""

from __future__ import annotations

import errno
import signal
import socket
import traceback
from typing import Any, Callable, Dict, List, Optional, Type, Union

from . import env, files
from .incoming.ports import IncomingTraffic
from .net import OutgoingTcp, Reply, failed
from .options import Options
from .ping import OutgoingPing
from .pump.greeting import Greeting, greet
from .pump.loop import READ, Loop, Timer
from .pump.session import Session
from .pump.transport import SocketTransport
from .routes import ask_routes
from .target import Target, TargetError
from .tree import identity
from .tree.tree import Tree
from .udp import OutgoingUdp
from .unix import OutgoingUnix
from .wire.connection import Connection, Role
from .wire.errors import RemoteProtocolError
from .wire.handshake import AgentHandshake, HandshakeResult
from .wire.messages import (
    Access,
    AskRoutes,
    Bye,
    ConnectTcp,
    ConnectUnix,
    Failed,
    GetPod,
    GiveUpConnect,
    Log,
    Message,
    OpenFile,
    OpenPing,
    OpenUdp,
    ReadLink,
    Stat,
    Subscribe,
    SubscribeUdp,
    Unsubscribe,
)
from .workers import Workers

GREETING_TIMEOUT_S = 10.0
_MAX_GREETINGS = 16
_CLOSE_TIMEOUT_S = 3.0
_DELIVERY_ROUND_S = 0.01
_DELIVERY_ROUNDS = 100
_ERROR = 40

Handler = Callable[[Any, Reply], None]


class Service:
    """Serves one client. `target` may be the reason why there is none: then every request is refused with it."""

    def __init__(
        self,
        options: Options,
        target: Union[Target, TargetError],
        listener: Optional[socket.socket],
        name: str,
        on_rules: Callable[[], None],
    ) -> None:
        self._options = options
        self._target = target
        self._listener = listener
        self._loop = Loop()
        self._connection = Connection(Role.AGENT)
        self._session = Session(
            self._loop, self._connection, on_request=self._request, on_notice=self._notice, on_lost=self._lost
        )
        self._session_id = b""
        self._greetings: List[Greeting] = []
        self._deadline: Optional[Timer] = None
        self._status = 0
        self._workers = Workers(self._loop)
        # With the target's rights: permissions are the pod's.
        self._file_workers = Workers(self._loop, prepare=self._become_target)
        self._outgoing_tcp = OutgoingTcp(self._loop, self._session)
        self._outgoing_udp = OutgoingUdp(self._loop, self._session)
        self._outgoing_ping = OutgoingPing(self._loop, self._session)
        self._incoming: Optional[IncomingTraffic] = None
        self._tree: Optional[Tree] = None
        self._ending = False
        self._handlers: Dict[Type[Message], Handler] = {}
        if isinstance(target, Target):
            self._incoming = IncomingTraffic(self._loop, self._session, target, name, on_rules, options.holder, options.nodes)
            self._tree = Tree(self._loop, self._session, target, self._attempt)
            own = self._handlers_for(target)
            self._handlers = {**own, **self._incoming_handlers(self._incoming), **self._tree.handlers()}

    def run(self, sock: socket.socket) -> int:
        """Serve until the client ends the session, the lease runs out, or SIGTERM. The process's exit status."""
        signal.signal(signal.SIGTERM, lambda number, frame: self._loop.call_threadsafe(self._asked_to_end))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
        if self._listener is not None:
            self._listener.setblocking(False)
            self._loop.watch(self._listener.fileno(), READ, self._accept)
        self._deadline = self._loop.call_later(self._options.startup_timeout_s, self._nobody_came)
        self._greet(sock)
        try:
            self._loop.run()
        finally:
            if self._incoming is not None:
                self._incoming.withdraw()
            self._session.abandon()
            if self._incoming is not None:
                self._incoming.close()
            self._outgoing_tcp.close()
            self._outgoing_udp.close()
            self._outgoing_ping.close()
            if self._tree is not None:
                self._tree.close()
        return self._status

    # -- transports ---------------------------------------------------------------------------------------------------

    def _accept(self, mask: int) -> None:
        assert self._listener is not None
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        if len(self._greetings) < _MAX_GREETINGS:
            self._greet(sock)
        else:
            sock.close()

    def _greet(self, sock: socket.socket) -> None:
        transport = SocketTransport(sock)
        handshake = AgentHandshake(self._options.secret, self._received_in, self._options.lease_s)

        def done(result: HandshakeResult) -> None:
            self._greetings.remove(greeting)
            self._attach(transport, result)

        def refused(error: Exception) -> None:
            self._greetings.remove(greeting)
            if self._listener is None:
                self._end(1)

        greeting = greet(self._loop, transport, handshake, done, refused, GREETING_TIMEOUT_S)
        self._greetings.append(greeting)

    def _received_in(self, session_id: bytes) -> Optional[int]:
        return self._connection.received if session_id == self._session_id else None

    def _attach(self, transport: SocketTransport, result: HandshakeResult) -> None:
        if bool(self._session_id) != result.resumed:
            transport.close()  # one agent serves one session
            return
        self._session_id = result.session
        if self._deadline is not None:
            self._deadline.cancel()
        self._session.attach(transport, result.leftover, result.peer_received)

    def _lost(self, error: Optional[Exception]) -> None:
        if self._listener is None or isinstance(error, RemoteProtocolError):
            self._end(0 if error is None else 1)
        else:
            self._deadline = self._loop.call_later(self._options.lease_s, lambda: self._end(0))

    # -- the end ------------------------------------------------------------------------------------------------------

    def _nobody_came(self) -> None:
        self._end(1)

    def _asked_to_end(self) -> None:
        if self._ending:
            self._loop.stop()
        elif self._session_id:
            if self._incoming is not None:
                self._incoming.withdraw()
            self._loop.call_later(_CLOSE_TIMEOUT_S, lambda: self._end(0))
            self._session.close("the agent was asked to end", on_closed=lambda: self._end(0))
        else:
            self._end(0)

    # The last words of a program that has ended get a moment to arrive. Then the session is over; what others have going
    # through us to the pod's container gets a moment to end as well.
    def _end(self, status: int) -> None:
        if self._ending:
            return
        self._ending = True
        self._status = status
        if self._incoming is None:
            self._loop.stop()
            return
        self._incoming.withdraw()
        self._deliver(self._incoming, _DELIVERY_ROUNDS)

    def _deliver(self, incoming: IncomingTraffic, rounds: int) -> None:
        # The ends of streams may come behind the client's Bye: it closes the transport when all is sent.
        if rounds and (self._session.attached or self._session.delivering):
            self._loop.call_later(_DELIVERY_ROUND_S, lambda: self._deliver(incoming, rounds - 1))
            return
        self._session.abandon()
        incoming.drain(self._loop.stop)

    # -- messages -----------------------------------------------------------------------------------------------------

    def _notice(self, message: Message) -> None:
        if isinstance(message, Bye):
            self._end(0)
        elif isinstance(message, GiveUpConnect):
            self._outgoing_tcp.give_up(message)
        elif self._tree is not None:
            self._tree.notice(message)

    def _request(self, message: Message, reply: Reply) -> None:
        if isinstance(self._target, TargetError):
            reply(Failed(self._target.errno, self._target.text))
            return
        handler = self._handlers.get(type(message))
        if handler is None:
            reply(Failed(errno.ENOSYS, f"the agent does not know {type(message).__name__}"))
            return
        try:
            handler(message, reply)
        except Exception as error:  # a bug of ours costs one request, not the session
            reply(self._internal(error))

    def _handlers_for(self, target: Target) -> Dict[Type[Message], Handler]:
        root = target.root
        outgoing_unix = OutgoingUnix(self._loop, self._session, root, self._workers)
        return {
            GetPod: self._on_thread(lambda request: env.pod(target)),
            Stat: self._on_thread(lambda request: files.stat_file(root, request), self._file_workers),
            Access: self._on_thread(lambda request: files.access(root, request), self._file_workers),
            ReadLink: self._on_thread(lambda request: files.read_link(root, request), self._file_workers),
            OpenFile: lambda request, reply: self._open_file(target, request, reply),
            ConnectTcp: self._outgoing_tcp.connect,
            ConnectUnix: outgoing_unix.connect,
            OpenUdp: self._outgoing_udp.open,
            OpenPing: self._outgoing_ping.open,
            AskRoutes: self._on_thread(ask_routes),
        }

    def _incoming_handlers(self, incoming: IncomingTraffic) -> Dict[Type[Message], Handler]:
        return {
            Subscribe: incoming.subscribe,
            Unsubscribe: incoming.unsubscribe,
            SubscribeUdp: incoming.subscribe_udp,
        }

    def _become_target(self) -> None:
        if isinstance(self._target, Target) and self._target.credentials is not None:
            identity.assume(self._target.credentials)

    # What may block runs on a thread; its OSError is the reply.
    def _on_thread(self, answer: Callable[[Any], Message], workers: Optional[Workers] = None) -> Handler:
        def work(request: Message, reply: Reply) -> Callable[[], None]:
            message = self._attempt(lambda: answer(request))
            return lambda: reply(message)

        chosen = workers or self._workers
        return lambda request, reply: chosen.submit(lambda: work(request, reply))

    def _open_file(self, target: Target, request: OpenFile, reply: Reply) -> None:
        def work() -> Callable[[], None]:
            result: List[files.OpenResult] = []

            def attempt() -> Message:
                result.append(files.open_file(target.root, request))
                return result[0].reply

            message = self._attempt(attempt)
            return lambda: self._opened(request, message, result[0].fd if result else None, reply)

        self._file_workers.submit(work)

    # The client opened the stream in any case, so a stream without content has to be closed here.
    def _opened(self, request: OpenFile, message: Message, fd: Optional[int], reply: Reply) -> None:
        reply(message)
        if fd is None:
            self._session.reset(request.stream, 0)
        else:
            self._session.produce(request.stream, fd)

    def _attempt(self, work: Callable[[], Message]) -> Message:
        try:
            return work()
        except OSError as error:
            return failed(error)
        except Exception as error:
            return self._internal(error)

    def _internal(self, error: Exception) -> Failed:
        text = f"internal error in the agent: {error!r}"
        traceback.print_exception(type(error), error, error.__traceback__)
        self._loop.call_threadsafe(lambda: self._session.notify(Log(_ERROR, text)))
        return Failed(errno.EIO, text)
