"""The link between tracer and relay: a SOCK_SEQPACKET socketpair, one message a packet, both ends in this file.

A packet is `kind u8, id u32` (big endian) and the encoded message: 'A' asks and wants one reply 'R' of the same id, 'T'
tells. File descriptors travel with it (SCM_RIGHTS). A message too large for a packet travels as a memfd, the first
descriptor of its packet, which then has a lower-case kind and no message of its own. 'D' has a pid as its id and no
message: it names the doorbell.

Neither end ever waits for the other. What the kernel does not take now is queued here. The relay's end flushes its queue
when its event loop finds the socket writable. The tracer has no event loop: it sleeps in waitpid(2), where no socket
can wake it, and flushes whenever it uses the link. Hence the doorbell, a stopped-and-resumed child of the tracer that
SIGUSR1 makes visible to waitpid: the relay rings it after it has sent messages, and also after it has read so much in one
run that the tracer may have found the socket full.
"""

from __future__ import annotations

import array
import errno
import os
import select
import signal
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ...agent.pump.loop import READ, WRITE, Loop
from ...agent.wire.codec import decode, encode
from ...agent.wire.messages import Failed, Message
from ...syscalls.requests import Lost, NotStarted

ASK, REPLY, TELL = "A", "R", "T"

_HEADER = struct.Struct(">cI")
_INLINE_LIMIT = 32 * 1024
_MAX_DESCRIPTORS = 4
_SOCKET_BUFFER = 1024 * 1024  # the kernel gives what it allows
_PACKET_COST = 256  # at least this much of the socket's buffer goes to a packet, whatever its size
_DESCRIPTOR_COST = 4096  # descriptors in flight are limited too, far more strictly than bytes
_FULL = (errno.EAGAIN, errno.ENOBUFS, errno.ETOOMANYREFS, errno.ENOMEM)


class Packet(NamedTuple):
    """What came over the link. `fd` is -1 or a descriptor that the receiver now owns."""

    kind: str
    id: int
    message: Message
    fd: int


def make_link() -> tuple[socket.socket, socket.socket]:
    """A connected pair: the tracer's and the relay's end."""
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    for end in pair:
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER)
    return pair


class _Outgoing(NamedTuple):
    packet: bytes
    fds: tuple[int, ...]  # duplicates owned by the queue


class _Received(NamedTuple):
    kind: str
    id: int
    body: bytes
    fds: list[int]


# One end: packets with descriptors in both directions over a non-blocking socket, with a queue for what does not fit.
class _End:
    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.at_eof = False
        self._queue: deque[_Outgoing] = deque()
        self._buffer = bytearray(_INLINE_LIMIT + _HEADER.size)

    @property
    def has_queue(self) -> bool:
        return bool(self._queue)

    def send(self, kind: str, id: int, body: bytes, fds: Sequence[int] = ()) -> None:
        owned: tuple[int, ...] = ()
        if len(body) <= _INLINE_LIMIT:
            packet = _HEADER.pack(kind.encode(), id) + body
        else:
            packet = _HEADER.pack(kind.lower().encode(), id)
            owned = (_memory_file(body),)
        if not self._queue and self._send_now(packet, (*owned, *fds)):
            _close_all(owned)
            return
        if self.at_eof:
            _close_all(owned)
            return
        kept = list(owned)
        try:
            kept.extend(os.dup(fd) for fd in fds)
        except OSError:
            _close_all(kept)
            raise
        self._queue.append(_Outgoing(packet, tuple(kept)))

    def flush(self) -> bool:
        while self._queue:
            packet, fds = self._queue[0]
            if not self._send_now(packet, fds):
                break
            self._queue.popleft()
            _close_all(fds)
        return not self._queue

    def receive(self) -> _Received | None:
        try:
            size, control, flags, _ = self.socket.recvmsg_into(
                [self._buffer], socket.CMSG_SPACE(4 * _MAX_DESCRIPTORS), socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return None
        except ConnectionError:
            size = 0
        if size == 0:
            self._end()
            return None
        fds = _descriptors(control)
        kind, id = _HEADER.unpack_from(self._buffer)
        body = bytes(memoryview(self._buffer)[_HEADER.size : size])
        if flags & socket.MSG_CTRUNC and kind.decode().upper() == REPLY:
            # There was no descriptor left for one that came along.
            _close_all(fds)
            return _Received(REPLY, id, encode(Failed(errno.EMFILE)), [])
        if kind.islower():
            kind, body = kind.upper(), _take_memory_file(fds.pop(0))
        return _Received(kind.decode(), id, body, fds)

    def close(self) -> None:
        self._end()
        self.socket.close()

    # True also if there is nobody to send to any more.
    def _send_now(self, packet: bytes, fds: Sequence[int]) -> bool:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self.socket.sendmsg([packet], ancillary)
        except ConnectionError:
            self._end()
        except OSError as error:
            if error.errno not in _FULL:
                raise
            return False
        return True

    def _end(self) -> None:
        self.at_eof = True
        while self._queue:
            _close_all(self._queue.popleft().fds)


class RelayLink:
    """The tracer's end. No call waits, except `wait`."""

    def __init__(self, sock: socket.socket) -> None:
        self._end = _End(sock)
        self._told_end = False

    def fileno(self) -> int:
        """The socket, for poll(2)."""
        return self._end.socket.fileno()

    @property
    def closed(self) -> bool:
        """The relay has gone; nothing more will come."""
        return self._end.at_eof

    def ask(self, message: Message, callback_id: int, fds: Sequence[int] = ()) -> None:
        """Send a request; its reply will have `callback_id` (32 bit, unused by any other open request)."""
        self._end.send(ASK, callback_id, encode(message), fds)

    def tell(self, message: Message, fds: tuple[int, ...] = ()) -> None:
        """Send a notice. `fds` are duplicated in transit; the caller keeps its own."""
        self._end.send(TELL, 0, encode(message), fds)

    def set_doorbell(self, pid: int) -> None:
        """From now on SIGUSR1 goes to `pid`, a child of this process, whenever there is something to drain."""
        self._end.send("D", pid, b"")

    def drain(self) -> list[Packet]:
        """Everything that has come, in order; flushes too. Its descriptors belong to the caller.

        When the relay has gone without a word, the last packet is a `Lost` made here.
        """
        self._end.flush()
        packets: list[Packet] = []
        while (received := self._end.receive()) is not None:
            kind, id, body, fds = received
            message = decode(body)
            self._told_end = self._told_end or isinstance(message, (Lost, NotStarted))
            packets.append(Packet(kind, id, message, fds[0] if fds else -1))
        if self._end.at_eof and not self._told_end:
            self._told_end = True
            packets.append(Packet(TELL, 0, Lost("the relay process of mirrord-trace was killed"), -1))
        return packets

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until `drain` has something to return; False after `timeout_s`. For the time before the program runs."""
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN | (select.POLLOUT if self._end.has_queue else 0))
        ready = poll.poll(None if timeout_s is None else max(0, timeout_s * 1000))
        self._end.flush()
        return any(event & ~select.POLLOUT for _, event in ready)

    def close(self) -> None:
        """The session is over: the relay sees end-of-file, cleans up and exits."""
        self._end.close()


class RelayEnd:
    """The relay's end, driven by its event loop.

    `on_packet` gets every ask and tell of the tracer, and owns the packet's fd; `on_end` is called once when the
    tracer has gone.
    """

    def __init__(
        self, loop: Loop, sock: socket.socket, on_packet: Callable[[Packet], None], on_end: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._end = _End(sock)
        self._on_packet = on_packet
        self._on_end = on_end
        self._doorbell = -1
        self._ring_planned = False
        self._run_cost = 0
        self._full_cost = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 16
        loop.watch(sock.fileno(), READ, self._on_ready)

    def reply(self, id: int, message: Message, fd: int = -1) -> None:
        """Answer the ask `id`; `fd` is passed on and closed here. With no descriptor left, the answer is EMFILE."""
        try:
            self._send(REPLY, id, message, fd)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            self._send(REPLY, id, Failed(error.errno), -1)

    def tell(self, message: Message, fd: int = -1) -> None:
        """Send a notice; `fd` is passed on and closed here."""
        self._send(TELL, 0, message, fd)

    def close(self) -> None:
        """Stop reading and sending; the tracer sees end-of-file."""
        self._loop.unwatch(self._end.socket.fileno())
        self._end.close()
        self._set_doorbell(-1)

    def _send(self, kind: str, id: int, message: Message, fd: int) -> None:
        fds = (fd,) if fd >= 0 else ()
        try:
            self._end.send(kind, id, encode(message), fds)
        finally:
            _close_all(fds)
        if self._end.has_queue:
            self._loop.watch(self._end.socket.fileno(), READ | WRITE, self._on_ready)
        self._plan_ring()

    def _on_ready(self, events: int) -> None:
        if events & WRITE and self._end.has_queue:
            if self._end.flush():
                self._loop.watch(self._end.socket.fileno(), READ, self._on_ready)
            self._plan_ring()
        if events & READ:
            self._read()

    def _read(self) -> None:
        while (received := self._end.receive()) is not None:
            self._run_cost += len(received.body) + _PACKET_COST + _DESCRIPTOR_COST * len(received.fds)
            self._take(received)
        if self._run_cost > self._full_cost:
            self._plan_ring()
        self._run_cost = 0
        if self._end.at_eof:
            self._loop.unwatch(self._end.socket.fileno())
            self._on_end()

    def _take(self, received: _Received) -> None:
        if received.kind == "D":
            self._set_doorbell(received.id)
            return
        fd = received.fds[0] if received.fds else -1
        self._on_packet(Packet(received.kind, received.id, decode(received.body), fd))

    # A pidfd, not a pid: the doorbell may be gone, and its number in use again, before we notice the end of the tracer.
    def _set_doorbell(self, pid: int) -> None:
        if self._doorbell >= 0:
            os.close(self._doorbell)
        try:
            self._doorbell = os.pidfd_open(pid) if pid > 0 else -1
        except ProcessLookupError:
            self._doorbell = -1
        self._plan_ring()

    # One ring for all that this turn of the event loop sends.
    def _plan_ring(self) -> None:
        if self._doorbell >= 0 and not self._ring_planned:
            self._ring_planned = True
            self._loop.call_soon(self._ring)

    def _ring(self) -> None:
        self._ring_planned = False
        if self._doorbell >= 0:
            try:
                signal.pidfd_send_signal(self._doorbell, signal.SIGUSR1)
            except ProcessLookupError:
                self._set_doorbell(-1)


def _memory_file(content: bytes) -> int:
    fd = os.memfd_create("mirrord-trace message", os.MFD_CLOEXEC)
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]
    return fd


def _take_memory_file(fd: int) -> bytes:
    try:
        return os.pread(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)


def _descriptors(control: Sequence[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, content in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    return list(fds)


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
