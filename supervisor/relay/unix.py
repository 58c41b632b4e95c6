"""Unix sockets of the pod, from the tracee's own socket on this machine.

The tracer asks first (`OpenUnix`): the pod's verdict is there before anything happens to the tracee's socket. Then it
connects the tracee's socket to a listener of its own and hands the accepted end over (`JoinUnix`), to be bridged with the
stream. For datagrams it hands over a socket that stands for the peer: the tracee's is connected to it, or sends to its
name.

A closed datagram socket tells its peers nothing. So while there are any, /proc/net/unix is looked at for the tracee's.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Callable

from ...agent.pump.loop import Loop, Timer
from ...agent.pump.packets import Packets
from ...agent.pump.session import Session
from ...agent.pump.unix_bridge import UnixBridge
from ...agent.wire.errors import LocalProtocolError
from ...agent.wire.messages import ConnectUnix, Failed, Message, UnixConnected
from ...syscalls.requests import JoinUnix, OpenUnix, UnixOpened
from .report import say

OPEN_DEADLINE_S = 30.0
JOIN_WITHIN_S = 10.0
"""After that the tracee is taken to have died between `UnixOpened` and `JoinUnix`."""

SWEEP_S = 2.0
"""Between looks whether the tracee's datagram sockets are still there."""

Reply = Callable[[Message], None]


class UnixTraffic:
    """All unix sockets of one session. `inodes`: of the unix sockets of this machine; None: cannot be told."""

    def __init__(
        self,
        loop: Loop,
        session: Session,
        *,
        inodes: Callable[[], set[int] | None] | None = None,
        notice: Callable[[str], None] = say,
    ) -> None:
        self._loop = loop
        self._session = session
        self._inodes = inodes or unix_inodes
        self._notice = notice
        self._noticed = False
        self._opened: dict[int, Timer] = {}  # streams that wait for `JoinUnix`
        self._datagrams: dict[int, tuple[int, Packets]] = {}  # by stream: inode of the tracee's socket, and our end
        self._sweep_timer: Timer | None = None

    def open(self, request: OpenUnix, reply: Reply) -> None:
        """connect(2) in the pod; replies `UnixOpened` or `Failed`."""
        try:
            stream = self._session.new_stream()
        except LocalProtocolError:  # as many as the protocol has
            reply(Failed(errno.EAGAIN))
            return

        def answered(message: Message) -> None:
            if isinstance(message, UnixConnected):
                self._opened[stream] = self._loop.call_later(JOIN_WITHIN_S, lambda: self._drop(stream))
                reply(UnixOpened(stream, message.peer))
            else:
                self._session.reset(stream, 0)
                reply(message)

        wanted = ConnectUnix(stream, request.path, request.kind, request.patience_ms)
        self._session.request(wanted, answered, OPEN_DEADLINE_S)

    def join(self, message: JoinUnix, fd: int) -> None:
        """`fd` (owned) is the near end of the stream; -1: nobody wants it, or sends on it, any more."""
        if fd < 0:
            self._drop(message.stream)
            return
        sock = socket.socket(fileno=fd)
        timer = self._opened.pop(message.stream, None)
        if timer is None:
            sock.close()
            return
        timer.cancel()
        if sock.type == socket.SOCK_STREAM:
            bridge = UnixBridge(self._session, message.stream, sock, None, self._descriptors_passed)
            self._session.join(message.stream, bridge)
            return
        packets = Packets(self._session, message.stream, sock, lambda _: self._ended(message.stream), self._descriptors_passed)
        self._session.join(message.stream, packets)
        if sock.type == socket.SOCK_DGRAM:
            self._datagrams[message.stream] = message.inode, packets
            self._plan_sweep()

    def sweep(self) -> None:
        """Pass on what tracee sockets that are gone have sent, and close what stands for their peers."""
        inodes = self._inodes()
        for inode, packets in list(self._datagrams.values()):
            if inodes is not None and inode not in inodes:
                packets.end_after_reading()

    def close(self) -> None:
        """The program has ended: what it has sent still goes to the pod."""
        for stream in list(self._opened):
            self._drop(stream)
        for _, packets in list(self._datagrams.values()):
            packets.end_after_reading()
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
            self._sweep_timer = None

    def _drop(self, stream: int) -> None:
        timer = self._opened.pop(stream, None)
        if timer is not None:
            timer.cancel()
            self._session.reset(stream, 0)
        elif stream in self._datagrams:
            self._datagrams[stream][1].end_after_reading()

    def _ended(self, stream: int) -> None:
        self._datagrams.pop(stream, None)

    def _plan_sweep(self) -> None:
        if self._sweep_timer is None:
            self._sweep_timer = self._loop.call_later(SWEEP_S, self._on_timer)

    def _on_timer(self) -> None:
        self._sweep_timer = None
        self.sweep()
        if self._datagrams:
            self._plan_sweep()

    def _descriptors_passed(self) -> None:
        if not self._noticed:
            self._noticed = True
            self._notice(
                "the program passed descriptors (SCM_RIGHTS) over a unix socket of the pod, where they mean nothing: "
                "the connection is closed"
            )


def unix_inodes() -> set[int] | None:
    """The inodes of all unix sockets of this network namespace; None if the kernel does not tell."""
    with contextlib.suppress(OSError), open("/proc/self/net/unix", "rb") as table:
        next(table, None)
        return {int(fields[6]) for fields in map(bytes.split, table) if len(fields) > 6}
    return None
