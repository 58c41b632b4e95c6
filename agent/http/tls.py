"""TLS is ended here, so that a router can see requests, and begun again towards the ends.

The certificate for the peer comes from the pod (whoever drives this finds it). Towards the pod's container the peer's SNI is
kept and nothing is verified: it is the same pod. One protocol (ALPN) is spoken on all legs: the one that the pod's container
chooses of those the peer offers, which the first connection finds out before it answers the peer. Client certificates cannot
be passed on: the container sees none. What does not begin as TLS is plain, and what there is no certificate for is the
pod's, untouched.
"""

from __future__ import annotations

import contextlib
import errno
import ssl
from typing import Callable, Dict, List, Optional, Tuple

from .actions import CLIENT, PEER, POD, Action, Close, Join, Open, Router, Send, SendEof
from .router import open_router
from .rules import Rules, Tls
from .tls_hello import Hello, NotTls, read_hello
from .tls_leg import TlsLeg

_HELLO_WAIT_S = 2.0
_POD_WAIT_S = 2.0
_PROBE = 1
# The inner router's connection n is n + _SHIFT out here, but for the one that the probe has opened.
_SHIFT = 1

ServerContextFor = Callable[[str, Tuple[str, ...]], Optional[ssl.SSLContext]]
"""(server name or "", the protocols to choose from: none or one) -> context with certificate and ALPN set, or None."""


class TlsEnds:
    """How TLS is spoken with both ends; one for each subscription, whatever the number of connections.

    OSError (ssl.SSLError), ValueError: `trust_roots` are none.
    """

    def __init__(self, tls: Tls, server_context_for: ServerContextFor) -> None:
        self.server_context_for = server_context_for
        self.chosen: Dict[Tuple[str, ...], Tuple[str, ...]] = {}
        self._tls = tls
        self._contexts: Dict[Tuple[str, Tuple[str, ...]], ssl.SSLContext] = {}
        self._context(CLIENT, ())

    def leg(self, end: str, hello: Hello, protocols: Tuple[str, ...]) -> Optional[TlsLeg]:
        """A connection's TLS; None: it is plain. ssl.SSLError, ValueError: the peer's server name is none."""
        if end == CLIENT and self._tls.delivery == "tcp":
            return None
        name = (self._tls.server_name if end == CLIENT else "") or hello.server_name
        context = self._context(end, protocols)
        leg = TlsLeg(context, is_server=False, server_name=name or None)
        leg.start()
        return leg

    def _context(self, end: str, protocols: Tuple[str, ...]) -> ssl.SSLContext:
        context = self._contexts.get((end, protocols))
        if context is None:
            context = self._contexts[end, protocols] = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            if end == CLIENT and self._tls.trust_roots:
                context.load_verify_locations(cadata=self._tls.trust_roots)
                context.verify_mode = ssl.CERT_REQUIRED
                # Without a name there is nothing to check against; the chain is verified all the same.
                context.check_hostname = bool(self._tls.server_name)
            if protocols:
                context.set_alpn_protocols(list(protocols))
        return context


def server_context(certificate: str, key: str, protocols: Tuple[str, ...]) -> ssl.SSLContext:
    """A context for `ServerContextFor`, of two files in PEM. OSError (ssl.SSLError too): they cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def open_tls_router(rules: Rules, mirror: bool, ends: TlsEnds, sampled: Callable[[], bool] = lambda: True) -> Router:
    """As router.open_router, for a port where `rules.tls` is set."""
    return TlsRouter(lambda: open_router(rules, mirror, sampled), ends)


class TlsRouter:
    """A shell around another router, which sees plain bytes."""

    def __init__(self, open_inner: Callable[[], Router], ends: TlsEnds) -> None:
        self._open_inner = open_inner
        self._ends = ends
        self._inner: Optional[Router] = None
        self._start = b""
        self._hello: Optional[Hello] = None
        self._protocols: Tuple[str, ...] = ()
        self._probing = self._plain = self._over = False
        self._adopted: Optional[int] = None
        # By the inner router's numbers; None: plain. What is not in it is closed.
        self._legs: Dict[int, Optional[TlsLeg]] = {}
        self._probe: Optional[TlsLeg] = None
        self._joined: Dict[int, int] = {}
        self._silent: Dict[int, bool] = {}

    @property
    def wants_s(self) -> float:
        """Router."""
        if self._inner is not None:
            return self._inner.wants_s
        return 0.0 if self._over else _POD_WAIT_S if self._probing else _HELLO_WAIT_S

    @property
    def full(self) -> bool:
        """Router."""
        return self._inner is not None and self._inner.full

    def start(self) -> List[Action]:
        """Router."""
        return []

    def received(self, connection: int, data: bytes) -> List[Action]:
        """Router."""
        if self._plain and self._inner is not None:
            return self._inner.received(connection, data)
        out: List[Action] = []
        if self._probing and connection == _PROBE:
            self._probed(data, out)
        elif self._inner is not None:
            number = self._inside(connection)
            if number in self._legs:
                self._decrypt(number, data, out)
        elif not self._over:
            self._start += data
            if self._hello is None:
                self._greet(out)
        return out

    def ended(self, connection: int) -> List[Action]:
        """Router."""
        if self._plain and self._inner is not None:
            return self._inner.ended(connection)
        out: List[Action] = []
        if self._inner is not None:
            number = self._inside(connection)
            if number in self._legs:
                self._eof(number, out)
        elif connection == PEER:
            self._give_up(out)
        elif self._probing:
            out.append(Close(_PROBE))
            self._probe_failed(out)
        return out

    def failed(self, connection: int, errno: int) -> List[Action]:
        """Router."""
        if self._plain and self._inner is not None:
            return self._inner.failed(connection, errno)
        out: List[Action] = []
        if self._inner is not None:
            number = self._inside(connection)
            if number in self._legs:
                self._fail(number, errno, out)
        elif connection == PEER:
            self._over = True
            if self._probing:
                out.append(Close(_PROBE, errno))
        elif self._probing:
            self._probe_failed(out)
        return out

    def timeout(self) -> List[Action]:
        """Router."""
        out: List[Action] = []
        if self._plain and self._inner is not None:
            return self._inner.timeout()
        if self._inner is not None:
            self._carry_out(self._inner.timeout(), out)
        elif self._probing:
            out.append(Close(_PROBE))
            self._probe_failed(out)
        elif not self._over:
            self._begin_plain(out)
        return out

    # -- before the peer is answered ----------------------------------------------------------------------------------

    def _greet(self, out: List[Action]) -> None:
        try:
            self._hello = read_hello(self._start)
        except NotTls:
            self._begin_plain(out)
            return
        if self._hello is None:
            return
        offered = tuple(name for name in self._hello.protocols if name in ("h2", "http/1.1"))
        if not offered or offered in self._ends.chosen:
            self._begin(self._ends.chosen.get(offered, ()), out)
            return
        self._protocols = offered
        out.append(Open(_PROBE, POD))
        self._probing = True
        try:
            self._probe = self._new_leg(POD, offered)
        except (ssl.SSLError, ValueError):
            self._probe = None
        if self._probe is None:
            out.append(Close(_PROBE))
            self._probe_failed(out)
        else:
            _send_output(self._probe, _PROBE, out)

    def _probed(self, data: bytes, out: List[Action]) -> None:
        probe = self._probe
        assert probe is not None
        try:
            early = probe.received(data)
        except ssl.SSLError:
            _send_output(probe, _PROBE, out)
            out.append(Close(_PROBE))
            self._probe_failed(out)
            return
        _send_output(probe, _PROBE, out)
        if not probe.ready:
            return
        chosen = (probe.protocol,) if probe.protocol is not None else ()
        self._ends.chosen[self._protocols] = chosen
        self._begin(chosen, out)
        if early and self._inner is not None and self._adopted is not None:
            self._carry_out(self._inner.received(self._adopted, early), out)

    # The pod's container is down, or speaks no TLS: the client's program may be there all the same.
    def _probe_failed(self, out: List[Action]) -> None:
        self._probe = None
        self._begin(("http/1.1",) if "http/1.1" in self._protocols else self._protocols[:1], out)

    def _begin(self, protocols: Tuple[str, ...], out: List[Action]) -> None:
        self._probing = False
        self._protocols = protocols
        hello = self._hello
        assert hello is not None
        context = self._ends.server_context_for(hello.server_name, protocols)
        if context is None:
            if self._probe is not None:
                out.append(Close(_PROBE))
            out += [Open(_PROBE + 1, POD), Send(_PROBE + 1, self._start), Join(PEER, _PROBE + 1)]
            self._over = True
            return
        self._inner = self._open_inner()
        self._legs[PEER] = TlsLeg(context, is_server=True)
        self._carry_out(self._inner.start(), out)
        if self._probe is not None and self._adopted is None:
            out.append(Close(_PROBE))
        self._probe = None
        self._decrypt(PEER, self._start, out)

    def _begin_plain(self, out: List[Action]) -> None:
        self._plain = True
        self._inner = self._open_inner()
        out += self._inner.start()
        if self._start:
            out += self._inner.received(PEER, self._start)

    def _give_up(self, out: List[Action]) -> None:
        self._over = True
        if self._probing:
            out.append(Close(_PROBE))
        out.append(Close(PEER))

    # -- in the middle ------------------------------------------------------------------------------------------------

    def _decrypt(self, number: int, data: bytes, out: List[Action]) -> None:
        leg = self._legs[number]
        if leg is None:
            self._plain_bytes(number, data, out)
            return
        was_ended = leg.ended
        try:
            plain = leg.received(data)
        except ssl.SSLError:
            _send_output(leg, self._outside(number), out)
            if number == PEER:
                out.append(Close(PEER))
            else:
                out.append(Close(self._outside(number)))
            self._fail(number, errno.EPROTO, out)
            return
        _send_output(leg, self._outside(number), out)
        if plain:
            self._plain_bytes(number, plain, out)
        if leg.ended and not was_ended and number in self._legs:
            self._eof(number, out)

    def _plain_bytes(self, number: int, data: bytes, out: List[Action]) -> None:
        inner = self._inner
        assert inner is not None
        if number in self._joined:
            self._carry_out([Send(self._joined[number], data)], out)
        else:
            self._carry_out(inner.received(number, data), out)

    # Told once, by close_notify or by the connection's own end.
    def _eof(self, number: int, out: List[Action]) -> None:
        inner = self._inner
        if self._silent.get(number) or inner is None:
            return
        self._silent[number] = True
        other = self._joined.get(number)
        if other is None:
            self._carry_out(inner.ended(number), out)
            return
        self._carry_out([SendEof(other)], out)
        if self._silent.get(other):
            self._carry_out([Close(number), Close(other)], out)

    def _fail(self, number: int, code: int, out: List[Action]) -> None:
        inner = self._inner
        assert inner is not None
        self._legs.pop(number, None)
        other = self._joined.pop(number, None)
        if other is None:
            self._carry_out(inner.failed(number, code), out)
        else:
            self._carry_out([Close(other, code)], out)

    def _carry_out(self, actions: List[Action], out: List[Action]) -> None:
        for action in actions:
            if isinstance(action, Open):
                self._open(action, out)
            elif isinstance(action, Join):
                self._joined[action.a], self._joined[action.b] = action.b, action.a
                for number, other in ((action.a, action.b), (action.b, action.a)):
                    if number not in self._legs:
                        self._carry_out([Close(other, errno.ECONNRESET)], out)
            elif action.connection in self._legs:
                self._to_leg(action, out)

    def _to_leg(self, action: Action, out: List[Action]) -> None:
        assert isinstance(action, (Send, SendEof, Close))
        leg, number = self._legs[action.connection], self._outside(action.connection)
        if isinstance(action, Send):
            if leg is None:
                out.append(Send(number, action.data))
                return
            # If it is broken, reading tells.
            with contextlib.suppress(ssl.SSLError):
                leg.send(action.data)
        elif leg is not None and not (isinstance(action, Close) and action.errno):
            leg.send_eof()
        if leg is not None:
            _send_output(leg, number, out)
        if isinstance(action, SendEof) and (leg is None or leg.ready):
            out.append(SendEof(number))
        elif isinstance(action, Close):
            del self._legs[action.connection]
            self._joined.pop(action.connection, None)
            out.append(Close(number, action.errno))

    def _open(self, action: Open, out: List[Action]) -> None:
        number = action.connection
        if action.end == POD and self._probe is not None and self._adopted is None:
            self._adopted = number
            self._legs[number] = self._probe
            return
        try:
            leg = self._new_leg(action.end, self._protocols)
        except (ssl.SSLError, ValueError):
            assert self._inner is not None
            self._carry_out(self._inner.failed(number, errno.EPROTO), out)
            return
        out.append(Open(number + _SHIFT, action.end, action.copy))
        self._legs[number] = leg
        if leg is not None:
            _send_output(leg, number + _SHIFT, out)

    def _new_leg(self, end: str, protocols: Tuple[str, ...]) -> Optional[TlsLeg]:
        hello = self._hello
        assert hello is not None
        return self._ends.leg(end, hello, protocols)

    def _inside(self, number: int) -> int:
        if number == _PROBE and self._adopted is not None:
            return self._adopted
        return number - _SHIFT if number else PEER

    def _outside(self, number: int) -> int:
        if number == self._adopted:
            return _PROBE
        return number + _SHIFT if number else PEER


def _send_output(leg: TlsLeg, number: int, out: List[Action]) -> None:
    data = leg.output()
    if data:
        out.append(Send(number, data))
