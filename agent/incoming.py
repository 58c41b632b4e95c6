"""Connections to the pod that come to the client instead of the pod's container.

A redirect (redirect.py) sends new connections for a stolen port to our listeners, wherever they come from; the kernel still
knows where they wanted to go (SO_ORIGINAL_DST), and accept(2) tells who they are. A connection that came to a listener's
own port was not redirected: some process of the pod tries its luck, and is dropped.

Rules change on a thread of their own, one change after the other, because iptables(8) takes its time.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import threading
from typing import Callable, Dict, List, Optional

from . import redirect
from .net import Reply, from_socket_address
from .pump.loop import READ, Loop
from .pump.session import Session
from .wire.messages import Address, Done, Failed, Incoming, Message, Subscribe, Unsubscribe
from .workers import Workers

_SO_ORIGINAL_DST = 80
_SOCKADDR_IN = struct.Struct("=H2s4s8x")
_SOCKADDR_IN6 = struct.Struct("=H2s4x16s4x")
_BACKLOG = 4096
_ACCEPTS_AT_A_TIME = 64
# After EMFILE and the like: the backlog holds the connections meanwhile.
_ACCEPT_PAUSE_S = 0.1
_LISTENER_TRIES = 16
_ABORT = struct.pack("=ii", 1, 0)

OpenRedirect = Callable[[str, int], redirect.Redirect]


class IncomingTcp:
    """Answers `Subscribe` and `Unsubscribe`, and sends `Incoming`.

    `name` is the agent's (redirect.new_name). `on_rules` is called before the first rule is made: from then on somebody
    has to clean up after us.
    """

    def __init__(
        self,
        loop: Loop,
        session: Session,
        name: str,
        on_rules: Callable[[], None],
        open_redirect: OpenRedirect = redirect.open_redirect,
    ) -> None:
        self._loop = loop
        self._session = session
        self._name = name
        self._on_rules = on_rules
        self._open_redirect = open_redirect
        self._rules_thread = Workers(loop, threads=1)
        self._listeners: List[socket.socket] = []
        self._port = 0
        # The rest belongs to the thread, or to whoever holds the lock.
        self._lock = threading.Lock()
        self._redirect: Optional[redirect.Redirect] = None
        self._sign_of_life: Optional[socket.socket] = None
        self._claims: Dict[int, socket.socket] = {}
        self._closed = False

    def subscribe(self, request: Subscribe, reply: Reply) -> None:
        """From now on new connections to the port are ours. EADDRINUSE: another session has it; EPERM: no right to."""
        try:
            self._listen()
        except OSError as error:
            reply(Failed(error.errno or errno.EIO, f"no listener for stolen connections: {error.strerror}"))
            return
        self._rules_thread.submit(lambda: self._change(lambda: self._take(request.port), reply))

    def unsubscribe(self, request: Unsubscribe, reply: Reply) -> None:
        """The port is the pod's again at once. Connections that we accepted, or that wait to be accepted, stay ours."""
        self._rules_thread.submit(lambda: self._change(lambda: self._give_back(request.port), reply))

    def withdraw(self) -> None:
        """Give all ports back for good; connections that we have live on. Blocks until a change under way is done."""
        with self._lock:
            self._closed = True
            for port in list(self._claims):
                with contextlib.suppress(OSError):  # `close` removes all rules
                    self._give_back(port)

    def close(self) -> None:
        """`withdraw`, and remove all rules. Connections must have been reset before.

        Without rules the kernel no longer translates: an end of one that is sent later would not reach its peer, which
        would wait for ever.
        """
        self.withdraw()
        for listener in self._listeners:
            self._loop.unwatch(listener.fileno())
            listener.close()  # resets what waits to be accepted
        self._listeners.clear()
        with self._lock:
            try:
                if self._redirect is not None:
                    self._redirect.close()
            finally:
                for sock in [*self._claims.values(), self._sign_of_life]:
                    if sock is not None:
                        sock.close()
                self._redirect = None

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

    def _take(self, port: int) -> None:
        if port in self._claims:
            return
        if port == self._port:
            raise OSError(errno.EADDRINUSE, f"port {port} is the agent's own")
        try:
            claim = redirect.claim_port(port)
        except OSError as error:
            text = f"port {port} of this pod is already stolen by another session"
            raise OSError(error.errno, text if error.errno == errno.EADDRINUSE else error.strerror) from error
        try:
            self._rules().add(port)
        except BaseException:
            claim.close()
            raise
        self._claims[port] = claim

    def _rules(self) -> redirect.Redirect:
        if self._redirect is None:
            self._on_rules()
            if self._sign_of_life is None:
                self._sign_of_life = redirect.claim(self._name)
            self._redirect = self._open_redirect(self._name, self._port)
            if self._redirect.refresh_s:
                self._loop.call_threadsafe(self._refresh_later)
        return self._redirect

    def _give_back(self, port: int) -> None:
        claim = self._claims.get(port)
        if claim is not None and self._redirect is not None:
            self._redirect.remove(port)
            del self._claims[port]
            claim.close()

    def _refresh_later(self) -> None:
        rules = self._redirect
        if rules is not None:
            self._loop.call_later(rules.refresh_s, self._refresh)

    def _refresh(self) -> None:
        self._rules_thread.submit(self._refresh_now)

    def _refresh_now(self) -> Callable[[], None]:
        with self._lock:
            if self._redirect is not None:
                # The next one may work; until the ports expire nothing is lost.
                with contextlib.suppress(OSError):
                    self._redirect.refresh()
        return self._refresh_later

    # -- connections, on the loop -------------------------------------------------------------------------------------

    def _listen(self) -> None:
        if self._listeners:
            return
        listeners = _open_listeners()
        self._port = listeners[0].getsockname()[1]
        for listener in listeners:
            self._listeners.append(listener)
            self._watch(listener)

    def _watch(self, listener: socket.socket) -> None:
        if listener in self._listeners:
            self._loop.watch(listener.fileno(), READ, lambda mask: self._accept(listener))

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_ACCEPTS_AT_A_TIME):
            try:
                sock, peer = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:
                self._loop.unwatch(listener.fileno())
                self._loop.call_later(_ACCEPT_PAUSE_S, lambda: self._watch(listener))
                return
            self._hand_over(sock, from_socket_address(peer))

    def _hand_over(self, sock: socket.socket, peer: Address) -> None:
        wanted = original_destination(sock)
        if wanted is None or wanted.port == self._port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
            sock.close()
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = self._session.new_stream()
        self._session.notify(Incoming(stream=stream, port=wanted.port, peer=peer, local=wanted))
        self._session.bridge(stream, sock)


def original_destination(sock: socket.socket) -> Optional[Address]:
    """Where a redirected connection wanted to go; None if the kernel's connection tracking does not know it."""
    try:
        if sock.family == socket.AF_INET:
            name = sock.getsockopt(socket.SOL_IP, _SO_ORIGINAL_DST, _SOCKADDR_IN.size)
            _, port, ip = _SOCKADDR_IN.unpack(name)
        else:
            name = sock.getsockopt(socket.IPPROTO_IPV6, _SO_ORIGINAL_DST, _SOCKADDR_IN6.size)
            _, port, ip = _SOCKADDR_IN6.unpack(name)
    except OSError:
        return None
    return Address(ip, int.from_bytes(port, "big"))


# One port number for both families, because one rule serves both. Not a dual-stack socket: the kernel does not tell the
# original IPv4 destination on one. A pod without IPv6 gets a listener for IPv4 alone.
def _open_listeners() -> List[socket.socket]:
    for _ in range(_LISTENER_TRIES):
        ipv4 = _open_listener(socket.AF_INET, 0)
        try:
            return [ipv4, _open_listener(socket.AF_INET6, ipv4.getsockname()[1])]
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                return [ipv4]
            ipv4.close()
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _open_listener(family: socket.AddressFamily, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(("", port))
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock
