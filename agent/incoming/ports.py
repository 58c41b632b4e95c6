"""Connections to the pod that come to the client, instead of the pod's container or as well.

A redirect (redirect.py) for each kind of subscription sends new connections for the subscribed ports to listeners of ours,
wherever they come from; reception.py decides what becomes of them, layers.py what several agents in one pod make of it.

Rules change on a thread of their own, one change after the other, because iptables(8) takes its time.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
from typing import Callable, Dict, Iterable, Optional, Set

from .. import redirect
from ..claims import PortClaim
from ..net import Reply
from ..netlink import default_gateways
from ..pump.loop import Loop
from ..pump.session import Session
from ..target import Target
from ..wire.messages import Address, Done, Failed, Log, Message, Subscribe, SubscribeUdp, Unsubscribe
from ..workers import Workers
from .datagrams import IncomingUdp
from .flush import reset_connections
from .introductions import Introductions
from .layers import Kind, Layer, OpenRedirect
from .listeners import Listeners
from .reception import Reception
from .subscription import Subscription

DRAIN_S = 1.5
_WARNING = 30


class IncomingTraffic:
    """Answers `Subscribe`, `Unsubscribe` and `SubscribeUdp`, and sends `Incoming`.

    `name` is the agent's (redirect.new_name). `on_rules` is called before the first rule is made: from then on somebody
    has to clean up after us. `holder` is what other sessions are told of this one; `nodes`: addresses of the node, beside
    those that the routes tell.
    """

    def __init__(
        self,
        loop: Loop,
        session: Session,
        target: Target,
        name: str,
        on_rules: Callable[[], None],
        holder: str = "",
        nodes: Iterable[str] = (),
        open_redirect: OpenRedirect = redirect.open_redirect,
    ) -> None:
        self._loop = loop
        self._session = session
        self._target = target
        self._name = name
        self._on_rules = on_rules
        self._holder = holder
        self._nodes = tuple(nodes)
        self._open_redirect = open_redirect
        self._rules_thread = Workers(loop, threads=1)
        self._introductions: Optional[Introductions] = None
        self._reception: Optional[Reception] = None
        # The rest belongs to the thread, or to whoever holds the lock; the loop may read what a layer has of plans.
        self._lock = threading.Lock()
        self._layers: Dict[Kind, Layer[Subscription]] = {}
        self._subscribed: Dict[int, Subscription] = {}
        self._claims: Dict[int, PortClaim] = {}
        self._refreshed: Set[Kind] = set()
        self._said_rules = False
        self._closed = False
        self._udp = IncomingUdp(loop, session, name, holder, self._rules_thread, self._lock, self._before_rules)

    def subscribe(self, request: Subscribe, reply: Reply) -> None:
        """From now on new connections to the port come to us. EADDRINUSE: another session has it; EPERM: no right to."""
        try:
            subscription = Subscription(request)
            self._begin()
            layer = self._layer(subscription.kind)
        except OSError as error:
            reply(Failed(error.errno or errno.EIO, error.strerror or str(error)))
            return
        self._rules_thread.submit(lambda: self._change(lambda: self._take(layer, subscription), reply))

    def unsubscribe(self, request: Unsubscribe, reply: Reply) -> None:
        """The port is the pod's again at once. Connections that we have live on; those not yet accepted go on to the pod."""
        self._rules_thread.submit(lambda: self._change(lambda: self._give_back(request.port), reply))

    def subscribe_udp(self, request: SubscribeUdp, reply: Reply) -> None:
        """From now on datagrams to the port come to the client."""
        try:
            self._begin()
        except OSError as error:
            reply(Failed(error.errno or errno.EIO, error.strerror or str(error)))
            self._session.reset(request.stream, 0)
            return
        self._udp.subscribe(request, reply)

    def withdraw(self) -> None:
        """Give all ports back for good; connections that we have live on. Blocks until a change under way is done."""
        with self._lock:
            self._closed = True
            for port in list(self._subscribed):
                with contextlib.suppress(OSError):  # `close` removes all rules
                    self._give_back(port)

    def drain(self, on_done: Callable[[], None]) -> None:
        """After `withdraw`: what merely passes through us to the pod's container may end in peace, for up to `DRAIN_S`."""
        if self._reception is None:
            on_done()
        else:
            self._reception.drain(DRAIN_S, on_done)

    def close(self) -> None:
        """`withdraw`, reset what we have, and remove all rules. Connections of the session must have been reset before.

        Without rules the kernel no longer translates: an end of one that is sent later would not reach its peer, which
        would wait for ever.
        """
        self.withdraw()
        if self._reception is not None:
            self._reception.close()
        with self._lock:
            self._udp.close()
            for layer in self._layers.values():
                layer.listeners.close()  # resets what waits to be accepted
            for layer in self._layers.values():
                layer.close()
            self._layers.clear()
            if self._introductions is not None:
                self._introductions.close()

    # -- on the loop --------------------------------------------------------------------------------------------------

    # Before the first rule: our name is claimed, so that nobody takes our rules for a dead agent's.
    def _begin(self) -> None:
        if self._reception is not None:
            return
        self._introductions = Introductions(self._loop, self._name)
        self._introductions.join()
        nodes = {*default_gateways(), *_packed(self._nodes)}
        self._reception = Reception(self._loop, self._session, self._introductions, nodes)

    def _layer(self, kind: Kind) -> Layer[Subscription]:
        layer = self._layers.get(kind)
        if layer is None:
            try:
                layer = Layer(kind, Listeners(self._loop, lambda *connection: self._accepted(kind, *connection)))
            except OSError as error:
                raise OSError(error.errno or errno.EIO, f"no listener for redirected connections: {error.strerror}") from error
            self._layers[kind] = layer
        return layer

    def _accepted(self, kind: Kind, sock: socket.socket, peer: Address, wanted: Address) -> None:
        assert self._reception is not None
        layer = self._layers[kind]
        self._reception.take(layer.plans.get(wanted.port), layer.number, sock, peer, wanted)

    # -- rules, on the thread -----------------------------------------------------------------------------------------

    def _change(self, change: Callable[[], None], reply: Reply) -> Callable[[], None]:
        message: Message = Done()
        try:
            with self._lock:
                if self._closed:
                    raise OSError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
                change()
        except OSError as error:
            message = Failed(error.errno or errno.EIO, error.strerror or str(error))
        return lambda: reply(message)

    def _take(self, layer: Layer[Subscription], wanted: Subscription) -> None:
        port = wanted.port
        known = self._subscribed.get(port)
        if known is not None and known.request == wanted.request:
            return
        if any(port == each.listeners.port for each in self._layers.values()):
            raise OSError(errno.EADDRINUSE, f"port {port} is the agent's own")
        wanted.prepare(self._target)
        try:
            if known is not None:
                self._give_back(port)
            self._add(layer, wanted)
        except BaseException:
            wanted.close()
            raise
        if wanted.request.flush:
            self._flush(port)

    def _before_rules(self) -> None:
        if not self._said_rules:
            self._said_rules = True
            self._on_rules()

    def _add(self, layer: Layer[Subscription], wanted: Subscription) -> None:
        port = wanted.port
        claim = PortClaim("tcp", port, self._holder) if layer.kind is Kind.STEAL else None
        try:
            self._before_rules()
            rules = layer.open(self._name, self._open_redirect)
            layer.plans[port] = wanted  # before the first connection can be there
            rules.add(port)
        except BaseException:
            layer.plans.pop(port, None)
            if claim is not None:
                claim.close()
            raise
        self._subscribed[port] = wanted
        if claim is not None:
            self._claims[port] = claim
        if rules.refresh_s and layer.kind not in self._refreshed:
            self._refreshed.add(layer.kind)
            self._loop.call_threadsafe(lambda: self._refresh_later(layer))

    def _give_back(self, port: int) -> None:
        wanted = self._subscribed.get(port)
        if wanted is None:
            return
        layer = self._layers[wanted.kind]
        if layer.redirect is not None:
            layer.redirect.remove(port)
        del self._subscribed[port]
        del layer.plans[port]
        wanted.close()
        claim = self._claims.pop(port, None)
        if claim is not None:
            claim.close()

    def _flush(self, port: int) -> None:
        try:
            reset_connections(port)
        except OSError as error:
            text = f"port {port}: established connections stay with the pod's container: {error.strerror}"
            self._loop.call_threadsafe(lambda: self._session.notify(Log(_WARNING, text)))

    def _refresh_later(self, layer: Layer[Subscription]) -> None:
        rules = layer.redirect
        if rules is not None:
            self._loop.call_later(rules.refresh_s, lambda: self._rules_thread.submit(lambda: self._refresh(layer)))

    def _refresh(self, layer: Layer[Subscription]) -> Callable[[], None]:
        with self._lock:
            if layer.redirect is not None:
                # The next one may work; until the ports expire nothing is lost.
                with contextlib.suppress(OSError):
                    layer.redirect.refresh()
        return lambda: self._refresh_later(layer)


def _packed(addresses: Iterable[str]) -> Iterable[bytes]:
    for address in addresses:
        with contextlib.suppress(OSError):
            yield socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
