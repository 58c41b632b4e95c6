"""What becomes of a connection that was accepted for a subscribed port.

    plain steal   a stream to the client
    mirror        a passage to the original destination, tapped by a copy
    rules, TLS    a router decides (routed.py)
    anything that is not for the client: a passage

Probes of the kubelet go on to the pod's container, unless the rules take them.
"""

from __future__ import annotations

import errno
import socket
from typing import Callable, Collection, Dict, Optional, Protocol, Set, Tuple, Union

from ..http.actions import CLIENT, PEER, Open, Router
from ..pump.loop import Loop
from ..pump.session import Session
from ..wire.errors import LocalProtocolError
from ..wire.messages import Address, Incoming, Log
from .copies import open_copy
from .introductions import Introductions
from .links import Link, SocketLink, StreamLink
from .listeners import abort
from .onward import connect_onward
from .passage import Passage
from .probes import HTTP2, PROBE, ProbeWatch
from .routed import RoutedConnection

_WARNING = 30
_SWEEP_S = 0.1


class Plan(Protocol):
    """What a subscription wants of the connections to one port."""

    port: int
    mirror: bool
    take_probes: bool

    def takes(self) -> bool:
        """Whether this connection is the client's at all (sampling)."""
        ...

    def router(self) -> Optional[Router]:
        """Who decides request by request; None: nobody, all of it is the client's."""
        ...

    def plain_router(self) -> Router:
        """Who tells the kubelet's gRPC probes from other requests."""
        ...


class Reception:
    """All connections that are under way. `nodes`: the packed addresses that the kubelet's probes come from."""

    def __init__(self, loop: Loop, session: Session, introductions: Introductions, nodes: Collection[bytes]) -> None:
        self._loop = loop
        self._session = session
        self._introductions = introductions
        self._nodes = frozenset(nodes)
        self._watches: Dict[ProbeWatch, _Case] = {}
        # What reaches the pod's container through us.
        self._passing: Set[Union[Passage, RoutedConnection]] = set()
        self._dropped: Set[int] = set()

    def take(self, plan: Optional[Plan], layer: int, sock: socket.socket, peer: Address, wanted: Address) -> None:
        """A connection that was accepted by `layer`; without a plan (the port was given back) it goes on to the pod."""
        case = _Case(layer, sock, self._introductions.true_peer(peer, wanted), wanted)
        if plan is None:
            self._pass(case)
        elif not plan.take_probes and case.peer.ip in self._nodes:
            self._watch(plan, case)
        else:
            self._serve(plan, case)

    def drain(self, timeout_s: float, on_done: Callable[[], None]) -> None:
        """Let what passes through to the pod's container come to its end; what has not by then stays."""
        if not self._passing:
            on_done()
            return
        rounds = max(1, round(timeout_s / _SWEEP_S))
        self._sweep(rounds, on_done)

    def close(self) -> None:
        """Reset all that goes through us."""
        for watch, case in self._watches.items():
            watch.cancel()
            abort(case.sock)
        self._watches.clear()
        for each in list(self._passing):
            each.abort()
        self._passing.clear()

    # What waits for nothing is closed as soon as it has been quiet for a round.
    def _sweep(self, rounds: int, on_done: Callable[[], None]) -> None:
        for each in list(self._passing):
            if each.idle and each.quiet:
                each.finish()
            each.quiet = True
        if not self._passing or rounds == 0:
            on_done()
        else:
            self._loop.call_later(_SWEEP_S, lambda: self._sweep(rounds - 1, on_done))

    # -- the ways a connection can go ---------------------------------------------------------------------------------

    def _watch(self, plan: Plan, case: _Case) -> None:
        def on_verdict(verdict: str) -> None:
            del self._watches[watch]
            if verdict == PROBE:
                self._pass(case)
            elif verdict == HTTP2 and not plan.mirror:
                self._route(plan, case, plan.router() or plan.plain_router())
            else:
                self._serve(plan, case)

        watch = ProbeWatch(self._loop, case.sock, on_verdict)
        self._watches[watch] = case

    def _serve(self, plan: Plan, case: _Case) -> None:
        router = plan.router()
        if router is not None:
            self._route(plan, case, router)
        elif not plan.takes():
            self._pass(case)
        elif plan.mirror:
            self._mirror(plan, case)
        else:
            self._steal(case)

    def _steal(self, case: _Case) -> None:
        try:
            stream = self._open_stream(case)
        except OSError:
            abort(case.sock)
            return
        self._session.bridge(stream, case.sock)

    def _mirror(self, plan: Plan, case: _Case) -> None:
        port = plan.port
        pod = self._connect(case)
        if pod is not None:
            tap = open_copy(self._session, port, case.peer, case.wanted, lambda: self._copy_dropped(port))
            self._passing.add(Passage(self._loop, case.sock, pod[0], pod[1], self._passing.discard, tap))

    def _pass(self, case: _Case) -> None:
        pod = self._connect(case)
        if pod is not None:
            self._passing.add(Passage(self._loop, case.sock, pod[0], pod[1], self._passing.discard))

    def _route(self, plan: Plan, case: _Case, router: Router) -> None:
        port = plan.port
        routed = RoutedConnection(
            self._loop,
            router,
            lambda driver, action: self._open_link(driver, action, case),
            self._passing.discard,
            lambda: self._copy_dropped(port),
        )
        self._passing.add(routed)
        routed.begin(SocketLink(self._session, routed, PEER, case.sock, connected=True))

    # -- ends ---------------------------------------------------------------------------------------------------------

    def _open_link(self, driver: RoutedConnection, action: Open, case: _Case) -> Link:
        if action.end == CLIENT:
            return StreamLink(self._session, driver, action.connection, self._open_stream(case))
        sock, connected = connect_onward(case.wanted, case.layer, case.peer, self._introductions)
        return SocketLink(self._session, driver, action.connection, sock, connected)

    def _open_stream(self, case: _Case) -> int:
        if self._session.closed:
            raise OSError(errno.ECONNRESET, "the session has ended")
        try:
            stream = self._session.new_stream()
        except LocalProtocolError as error:
            raise OSError(errno.ENFILE, str(error)) from error
        self._session.notify(Incoming(stream=stream, port=case.wanted.port, peer=case.peer, local=case.wanted))
        return stream

    def _connect(self, case: _Case) -> Optional[Tuple[socket.socket, bool]]:
        try:
            return connect_onward(case.wanted, case.layer, case.peer, self._introductions)
        except OSError:
            abort(case.sock)
            return None

    def _copy_dropped(self, port: int) -> None:
        if port not in self._dropped:
            self._dropped.add(port)
            text = f"mirroring port {port}: the copy of a connection was dropped, because it was not read fast enough"
            self._session.notify(Log(_WARNING, text))


class _Case:
    # A connection, and how it came.
    __slots__ = ("layer", "peer", "sock", "wanted")

    def __init__(self, layer: int, sock: socket.socket, peer: Address, wanted: Address) -> None:
        self.layer = layer
        self.sock = sock
        self.peer = peer
        self.wanted = wanted
