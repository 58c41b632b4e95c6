"""A line between two sockets that hands every byte on a fixed time after it came, in both directions, as fast as they come.

    python benchmarks/delay.py FD FD SECONDS

It has no limit on what is on its way, as a network of any bandwidth has; only what has arrived and is not taken by the
receiver is limited, as by a receive buffer. Standard library only: it runs as a script, in a process of its own.
"""

from __future__ import annotations

import contextlib
import select
import socket
import subprocess
import sys
import time
from collections import deque

RECEIVE_BYTES = 256 * 1024
ARRIVED_LIMIT_BYTES = 4 * 1024 * 1024
_SOCKET_BUFFER_BYTES = 4 * 1024 * 1024
_SO_FORCE = {socket.SO_SNDBUF: 32, socket.SO_RCVBUF: 33}
_BUFFERS = 256


class Line:
    """One direction, without I/O and without a clock: what came in when, and what is to come out by now."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._on_the_way: deque[tuple[float, memoryview]] = deque()
        self._arrived: deque[memoryview] = deque()
        self._arrived_bytes = 0

    def put(self, content: bytes, now_s: float) -> None:
        """These bytes have come."""
        self._on_the_way.append((now_s + self._delay_s, memoryview(content)))

    def advance(self, now_s: float) -> None:
        """It is now so late."""
        while self._on_the_way and self._on_the_way[0][0] <= now_s:
            content = self._on_the_way.popleft()[1]
            self._arrived.append(content)
            self._arrived_bytes += len(content)

    def arrived(self) -> list[memoryview]:
        """What is to be sent first."""
        return [self._arrived[index] for index in range(min(len(self._arrived), _BUFFERS))]

    def took(self, count: int) -> None:
        """So many bytes of it were sent."""
        self._arrived_bytes -= count
        while count:
            first = self._arrived.popleft()
            if len(first) > count:
                self._arrived.appendleft(first[count:])
                return
            count -= len(first)

    @property
    def takes_more(self) -> bool:
        """Whether the receiver keeps up."""
        return self._arrived_bytes < ARRIVED_LIMIT_BYTES

    @property
    def next_at_s(self) -> float | None:
        """When something arrives next."""
        return self._on_the_way[0][0] if self._on_the_way else None

    @property
    def is_empty(self) -> bool:
        """Whether everything is out."""
        return not self._on_the_way and not self._arrived


class _Direction:
    def __init__(self, source: socket.socket, target: socket.socket, delay_s: float) -> None:
        self.source = source
        self.target = target
        self.line = Line(delay_s)
        self.has_ended = False
        self.is_over = False

    def receive(self) -> None:
        try:
            content = self.source.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            content = b""
        if content:
            self.line.put(content, time.monotonic())
        else:
            self.has_ended = True

    def send(self) -> None:
        self.line.advance(time.monotonic())
        try:
            while buffers := self.line.arrived():
                self.line.took(self.target.sendmsg(buffers))
        except BlockingIOError:
            return
        except OSError:  # nobody is there any more
            self.is_over = True
        if self.has_ended and self.line.is_empty:
            with contextlib.suppress(OSError):
                self.target.shutdown(socket.SHUT_WR)
            self.is_over = True


def forward(one: socket.socket, other: socket.socket, delay_s: float) -> None:
    """Work until both directions have ended."""
    for sock in (one, other):
        sock.setblocking(False)
        enlarge(sock)
    both = [_Direction(one, other, delay_s), _Direction(other, one, delay_s)]
    while under_way := [each for each in both if not each.is_over]:
        reads = [each.source for each in under_way if not each.has_ended and each.line.takes_more]
        writes = [each.target for each in under_way if each.line.arrived()]
        times = [each.line.next_at_s for each in under_way if each.line.next_at_s is not None]
        timeout_s = max(0.0, min(times) - time.monotonic()) if times else None
        readable, _, _ = select.select(reads, writes, [], timeout_s)  # waits to the microsecond; epoll(7) has milliseconds
        for each in under_way:
            if each.source in readable:
                each.receive()
            each.send()


def enlarge(sock: socket.socket) -> None:
    """Larger buffers, for fewer turns; beyond the limit for ordinary users where that is allowed."""
    for option, force in _SO_FORCE.items():
        try:
            sock.setsockopt(socket.SOL_SOCKET, force, _SOCKET_BUFFER_BYTES)
        except OSError:
            sock.setsockopt(socket.SOL_SOCKET, option, _SOCKET_BUFFER_BYTES)


def delayed(far: socket.socket, delay_s: float) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """A socket whose bytes come out of, and into, `far` that much later; and the process between, which ends when they do.

    `far` is that process's from now on.
    """
    near, middle = socket.socketpair()
    fds = middle.fileno(), far.fileno()
    words = [sys.executable, "-I", "-S", __file__, *map(str, fds), repr(delay_s)]
    with middle, far:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, pass_fds=fds, start_new_session=True)
    return near, process


def main() -> None:
    """The process between."""
    one, other = (socket.socket(fileno=int(word)) for word in sys.argv[1:3])
    forward(one, other, float(sys.argv[3]))


if __name__ == "__main__":
    main()
