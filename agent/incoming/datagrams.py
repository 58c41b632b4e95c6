"""Datagrams to the pod that come to the client.

Steal: a redirect of its own for each port sends them to a socket of ours. Conntrack translates there and back, so an answer
from that socket leaves as one of the pod's port, provided that it leaves from the address that the datagram came to
(IP_PKTINFO) and while the kernel still knows of the flow. Once it does not (30 s without an answer, two minutes with one) an
answer would not only come from a wrong port but also stand in the way of that peer's next datagram: it is
refused. What wants to go to peers that never spoke has to go by `OpenUdp`.

Mirror: copies (sniffing.py), whose answers are dropped.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import threading
import time
from typing import Callable, Dict, List, Optional, Tuple

from .. import redirect
from ..claims import PortClaim
from ..net import Reply, from_socket_address, to_socket_address
from ..pump.loop import READ, Loop
from ..pump.session import Session
from ..wire.errors import RemoteProtocolError
from ..wire.frames import pack_datagram, unpack_datagram
from ..wire.messages import Address, DatagramFailed, Done, Failed, Message, SubscribeUdp
from ..workers import Workers
from .conntrack import forget_datagrams
from .layers import STEAL_NUMBER
from .listeners import open_pair
from .sniffing import Sniffer, open_sniffers

_MOST_DATAGRAM = 65536
_AT_A_TIME = 64
_RECEIVE_BUFFER = 1 << 20
_IP_PKTINFO, _IPV6_RECVPKTINFO, _IPV6_PKTINFO = 8, 49, 50
_SOL_IP, _SOL_IPV6 = socket.IPPROTO_IP, socket.IPPROTO_IPV6
# A little less than what the kernel waits for (nf_conntrack_udp_timeout, ..._stream).
_KNOWN_S, _KNOWN_ANSWERED_S = 28.0, 115.0
_SWEEP_AT = 4096

OpenUdpRedirect = Callable[[str, int, int, int], redirect.Redirect]


class _Peer:
    __slots__ = ("answered", "came_to", "interface", "last_at")

    def __init__(self) -> None:
        self.came_to = b""
        self.interface = 0
        self.last_at = 0.0
        self.answered = False


class _Stolen:
    # One port. `sockets`: for IPv4 and IPv6.
    def __init__(self, session: Session, stream: int, sockets: List[socket.socket]) -> None:
        self._session = session
        self._stream = stream
        self._peers: Dict[Address, _Peer] = {}
        self._sweep_at = _SWEEP_AT
        self.sockets = sockets
        for sock in sockets:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            if sock.family == socket.AF_INET:
                sock.setsockopt(_SOL_IP, _IP_PKTINFO, 1)
            else:
                sock.setsockopt(_SOL_IPV6, _IPV6_RECVPKTINFO, 1)
            session.loop.watch(sock.fileno(), READ, self._receiver(sock))

    def close(self) -> None:
        for sock in self.sockets:
            self._session.loop.unwatch(sock.fileno())
            sock.close()

    def _receiver(self, sock: socket.socket) -> Callable[[int], None]:
        return lambda mask: self._receive(sock)

    def _receive(self, sock: socket.socket) -> None:
        now = time.monotonic()
        for _ in range(_AT_A_TIME):
            if sock.fileno() < 0:
                return
            try:
                datagram, ancillary, _, name = sock.recvmsg(_MOST_DATAGRAM, 64)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error of an earlier answer
            address = from_socket_address(name)
            peer = self._peers.setdefault(address, _Peer())
            peer.interface, peer.came_to = _came_to(ancillary)
            if now - peer.last_at > _limit_s(peer):
                peer.answered = False
            peer.last_at = now
            self._session.send_datagram(self._stream, pack_datagram(address, datagram))
        self._sweep(now)

    def send(self, payload: bytes) -> None:
        try:
            address, datagram = unpack_datagram(payload)
        except RemoteProtocolError:
            self._session.reset(self._stream, errno.EPROTO)
            return
        peer = self._peers.get(address)
        now = time.monotonic()
        if peer is None or now - peer.last_at > _limit_s(peer):
            self._refused(address, errno.EHOSTUNREACH)
            return
        try:
            self._answer(address, peer, datagram)
        except BlockingIOError:
            return  # as on a full interface
        except OSError as error:
            self._refused(address, error.errno or errno.EIO)
            return
        peer.answered = True
        peer.last_at = now

    def _answer(self, address: Address, peer: _Peer, datagram: bytes) -> None:
        name = to_socket_address(address)
        if len(address.ip) == 4:
            source = struct.pack("=i4s4s", 0, peer.came_to, bytes(4))
            self.sockets[0].sendmsg([datagram], [(_SOL_IP, _IP_PKTINFO, source)], 0, name)
            return
        is_link_local = peer.came_to[:2] == b"\xfe\x80"
        source = struct.pack("=16sI", peer.came_to, peer.interface if is_link_local else 0)
        scope = peer.interface if address.ip[:2] == b"\xfe\x80" else 0
        self.sockets[-1].sendmsg([datagram], [(_SOL_IPV6, _IPV6_PKTINFO, source)], 0, (*name[:2], 0, scope))

    def _refused(self, address: Address, code: int) -> None:
        self._session.notify(DatagramFailed(self._stream, address, code))

    def _sweep(self, now: float) -> None:
        if len(self._peers) >= self._sweep_at:
            self._peers = {address: peer for address, peer in self._peers.items() if now - peer.last_at <= _limit_s(peer)}
            self._sweep_at = max(_SWEEP_AT, 2 * len(self._peers))


class _Mirrored:
    # One port.
    def __init__(self, session: Session, stream: int, port: int, sockets: List[socket.socket]) -> None:
        self._session = session
        self._stream = stream
        self.sockets = sockets
        for sock in sockets:
            session.loop.watch(sock.fileno(), READ, self._receiver(Sniffer(sock, port), sock))

    def close(self) -> None:
        for sock in self.sockets:
            self._session.loop.unwatch(sock.fileno())
            sock.close()

    def send(self, payload: bytes) -> None:
        pass  # nobody gets it

    def _receiver(self, sniffer: Sniffer, sock: socket.socket) -> Callable[[int], None]:
        def receive(mask: int) -> None:
            for _ in range(_AT_A_TIME):
                if sock.fileno() < 0:
                    return
                try:
                    found = sniffer.receive()
                except OSError:
                    return
                if found is not None:
                    self._session.send_datagram(self._stream, pack_datagram(found.peer, found.datagram))

        return receive


class _Port:
    # What is to be given back.
    def __init__(self) -> None:
        self.serving: Optional[_Stolen] = None
        self.rules: Optional[redirect.Redirect] = None
        self.claim: Optional[PortClaim] = None


class IncomingUdp:
    """Answers `SubscribeUdp`. Rules change on the thread of `rules_thread`, under `lock`, which `close` wants to be held.

    `agent` is its name, `before_rules()` is called on the thread before a rule is made.
    """

    def __init__(
        self,
        loop: Loop,
        session: Session,
        agent: str,
        holder: str,
        rules_thread: Workers,
        lock: threading.Lock,
        before_rules: Callable[[], None],
        open_redirect: OpenUdpRedirect = redirect.open_redirect,
    ) -> None:
        self._loop = loop
        self._session = session
        self._agent = agent
        self._holder = holder
        self._rules_thread = rules_thread
        self._lock = lock
        self._before_rules = before_rules
        self._open_redirect = open_redirect
        self._mirrored: Dict[int, _Mirrored] = {}
        # By stream; entries that are being given back stay until that is done.
        self._stolen: Dict[int, Tuple[int, _Port]] = {}
        self._closed = False

    def subscribe(self, request: SubscribeUdp, reply: Reply) -> None:
        """EADDRINUSE: another session has the port, its text says who; EPERM: no right to."""
        if request.mirror:
            self._mirror(request, reply)
            return
        try:
            sockets = open_pair(socket.SOCK_DGRAM)
        except OSError as error:
            self._refuse(request, reply, error)
            return
        port = _Port()
        serving = port.serving = _Stolen(self._session, request.stream, sockets)
        self._stolen[request.stream] = (request.port, port)
        self._session.datagrams(request.stream, serving.send, lambda code: self._end(request.stream))
        own_port = sockets[0].getsockname()[1]
        self._rules_thread.submit(lambda: self._take(request, port, own_port, reply))

    def close(self) -> None:
        """Give all ports back. May block for some seconds."""
        self._closed = True
        for mirrored in self._mirrored.values():
            mirrored.close()
        self._mirrored.clear()
        for number, port in self._stolen.values():
            _give_back(number, port)
            if port.serving is not None:
                port.serving.close()
        self._stolen.clear()

    def _refuse(self, request: SubscribeUdp, reply: Reply, error: OSError) -> None:
        reply(_failure(error))
        self._session.reset(request.stream, 0)

    def _mirror(self, request: SubscribeUdp, reply: Reply) -> None:
        try:
            mirrored = _Mirrored(self._session, request.stream, request.port, open_sniffers(request.port))
        except OSError as error:
            self._refuse(request, reply, error)
            return
        self._mirrored[request.stream] = mirrored
        self._session.datagrams(request.stream, mirrored.send, lambda code: self._end(request.stream))
        reply(Done())

    def _end(self, stream: int) -> None:
        mirrored = self._mirrored.pop(stream, None)
        if mirrored is not None:
            mirrored.close()
        if stream in self._stolen and not self._closed:
            number, port = self._stolen[stream]
            # Until the rule is gone datagrams come here: better lost than answered with ICMP errors.
            self._rules_thread.submit(lambda: self._given_back(stream, number, port))

    # -- on the thread ------------------------------------------------------------------------------------------------

    def _take(self, request: SubscribeUdp, port: _Port, own_port: int, reply: Reply) -> Callable[[], None]:
        message: Message = Done()
        with self._lock:
            try:
                if self._closed:
                    raise OSError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
                port.claim = PortClaim("udp", request.port, self._holder)
                self._before_rules()
                port.rules = self._open_redirect(self._agent, own_port, STEAL_NUMBER, request.port)
                port.rules.add(request.port)
                forget_datagrams(request.port)
            except OSError as error:
                _give_back(request.port, port)
                message = _failure(error)
        return lambda: self._taken(request, port, message, reply)

    def _taken(self, request: SubscribeUdp, port: _Port, message: Message, reply: Reply) -> None:
        if isinstance(message, Done):
            if port.rules is not None and port.rules.refresh_s:
                self._refresh_later(port)
        else:
            self._stolen.pop(request.stream, None)
            if port.serving is not None:
                port.serving.close()
        reply(message)
        if not isinstance(message, Done):
            self._session.reset(request.stream, 0)

    def _given_back(self, stream: int, number: int, port: _Port) -> Callable[[], None]:
        with self._lock:
            if not self._closed:
                _give_back(number, port)
        return lambda: self._gone(stream)

    def _gone(self, stream: int) -> None:
        _, port = self._stolen.pop(stream, (0, None))
        if port is not None and port.serving is not None:
            port.serving.close()

    def _refresh_later(self, port: _Port) -> None:
        rules = port.rules
        if rules is not None:
            self._loop.call_later(rules.refresh_s, lambda: self._rules_thread.submit(lambda: self._refresh(port)))

    def _refresh(self, port: _Port) -> Callable[[], None]:
        with self._lock, contextlib.suppress(OSError):  # the next one may work
            if port.rules is not None:
                port.rules.refresh()
        return lambda: self._refresh_later(port)


def _give_back(number: int, port: _Port) -> None:
    rules, port.rules = port.rules, None
    if rules is not None:
        with contextlib.suppress(OSError):  # the guard tries again
            rules.close()
        forget_datagrams(number)
    claim, port.claim = port.claim, None
    if claim is not None:
        claim.close()


def _failure(error: OSError) -> Failed:
    return Failed(error.errno or errno.EIO, error.strerror or str(error))


def _limit_s(peer: _Peer) -> float:
    return _KNOWN_ANSWERED_S if peer.answered else _KNOWN_S


# (interface, the pod's address) of a datagram, as its ancillary data tells.
def _came_to(ancillary: List[Tuple[int, int, bytes]]) -> Tuple[int, bytes]:
    for level, kind, content in ancillary:
        if level == _SOL_IP and kind == _IP_PKTINFO:
            interface, source, _ = struct.unpack_from("=i4s4s", content)
            return interface, source
        if level == _SOL_IPV6 and kind == _IPV6_PKTINFO:
            source, interface = struct.unpack_from("=16sI", content)
            return interface, source
    return 0, b""
