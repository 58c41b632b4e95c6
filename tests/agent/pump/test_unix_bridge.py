"""Unix stream sockets over a session's stream: bytes both ways, half-close, and descriptors that cannot go along."""

from __future__ import annotations

import os
import socket
from errno import EOPNOTSUPP
from typing import Any, List, Tuple

from mirrord_trace.agent.pump.unix_bridge import UnixBridge


class _Joined:
    # A program's socket, bridged on both sides, and the server's in the pod.
    def __init__(self, world: Any) -> None:
        self.passed: List[str] = []
        self.ends: List[Tuple[str, int]] = []
        stream = world.stream()
        self.program, near = socket.socketpair()
        self.server, far = socket.socketpair()
        for side, sock, name in ((world.client, near, "client"), (world.agent, far, "agent")):
            self._join(side.session, stream, sock, name)
        for sock in (self.program, self.server):
            sock.setblocking(False)

    def _join(self, session: Any, stream: int, sock: socket.socket, name: str) -> None:
        bridge = UnixBridge(
            session,
            stream,
            sock,
            lambda errno: self.ends.append((name, errno)),
            lambda: self.passed.append(name),
        )
        session.join(stream, bridge)

    def close(self) -> None:
        self.program.close()
        self.server.close()


def _receive(world: Any, sock: socket.socket, size: int) -> bytes:
    content = bytearray()
    over: List[bool] = []

    def look() -> bool:
        if over or len(content) == size:
            return True
        try:
            part = sock.recv(size - len(content))
        except BlockingIOError:
            return False
        content.extend(part)
        if not part:
            over.append(True)
        return bool(over) or len(content) == size

    world.until(look)
    return bytes(content)


def test_bytes_and_half_close(world: Any) -> None:
    joined = _Joined(world)
    joined.program.send(b"question")
    assert _receive(world, joined.server, 8) == b"question"
    joined.program.shutdown(socket.SHUT_WR)
    assert _receive(world, joined.server, 1) == b""
    joined.server.send(b"answer")
    assert _receive(world, joined.program, 6) == b"answer"
    joined.server.close()
    assert _receive(world, joined.program, 1) == b""
    world.until(lambda: len(joined.ends) == 2)
    assert sorted(joined.ends) == [("agent", 0), ("client", 0)]
    joined.close()


def test_passed_descriptors_break_the_connection_and_are_not_kept(world: Any) -> None:
    joined = _Joined(world)
    world.round_trip()
    before = len(os.listdir("/proc/self/fd"))
    reader, writer = os.pipe()
    socket.send_fds(joined.program, [b"take these"], [reader, writer])
    os.close(reader)
    os.close(writer)
    world.until(lambda: len(joined.ends) == 2)
    assert joined.passed == ["client"]
    assert sorted(joined.ends) == [("agent", EOPNOTSUPP), ("client", EOPNOTSUPP)]
    assert _receive(world, joined.program, 1) == b""
    assert _receive(world, joined.server, 1) == b""
    # The two ends of the bridges are closed, and nothing of the pipe is left.
    assert len(os.listdir("/proc/self/fd")) == before - 2
    joined.close()


def test_descriptors_from_the_pod(world: Any) -> None:
    joined = _Joined(world)
    with open(os.devnull, "rb") as null:
        socket.send_fds(joined.server, [b"x"], [null.fileno()])
    world.until(lambda: len(joined.ends) == 2)
    assert joined.passed == ["agent"]
    joined.close()
