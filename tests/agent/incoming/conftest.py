"""Traffic of a pod: its container, and peers inside and outside of it, all as threads and sockets of the test's process."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
from typing import Any, Callable, Iterator, List, Optional

import pytest
from mirrord_trace.agent import kernel

Serve = Callable[[socket.socket], None]


def _greet(sock: socket.socket) -> None:
    sock.sendall(b"the container's own")


class Traffic:
    """`pod` is a PodProcess."""

    def __init__(self, pod: Any) -> None:
        self.pod = pod
        self.peers: List[Any] = []  # who connected to the container, in order

    @contextlib.contextmanager
    def container(self, serve: Serve = _greet, family: int = socket.AF_INET, host: str = "127.0.0.1") -> Iterator[int]:
        """The pod's own server: `serve(sock)` for each connection, on a thread. Yields its port."""
        with self.pod.socket(family, socket.SOCK_STREAM) as server:
            server.bind((host, 0))
            server.listen()
            thread = threading.Thread(target=self._accept, args=(server, serve))
            thread.start()
            try:
                yield server.getsockname()[1]
            finally:
                server.shutdown(socket.SHUT_RDWR)
                thread.join()

    def _accept(self, server: socket.socket, serve: Serve) -> None:
        threads = []
        with contextlib.suppress(OSError):
            while True:
                sock, peer = server.accept()
                self.peers.append(peer)
                threads.append(threading.Thread(target=self._serve, args=(sock, serve)))
                threads[-1].start()
        for thread in threads:
            thread.join()

    @staticmethod
    def _serve(sock: socket.socket, serve: Serve) -> None:
        sock.settimeout(20)
        with sock, contextlib.suppress(OSError):
            serve(sock)

    def call(self, port: int, host: str = "127.0.0.1", family: int = socket.AF_INET, source: str = "") -> socket.socket:
        """A connection from inside the pod."""
        sock: socket.socket = self.pod.socket(family, socket.SOCK_STREAM)
        if source:
            sock.bind((source, 0))
        sock.settimeout(10)
        sock.connect((host, port))
        return sock

    def ask(self, port: int, request: bytes, **how: Any) -> bytes:
        """What comes on a connection from inside the pod after `request`, to the end."""
        sock = self.call(port, **how)
        sock.sendall(request)
        return read_all(sock)


def read_all(sock: socket.socket) -> bytes:
    """All that comes, then closed."""
    sock.settimeout(10)
    parts = []
    with sock:
        while True:
            part = sock.recv(65536)
            if not part:
                return b"".join(parts)
            parts.append(part)


class Neighbour:
    """A network namespace below the pod's user namespace, joined to the pod's by a veth pair."""

    def __init__(self, pod: Any, holder: int) -> None:
        self._pod = pod
        self._holder = holder

    def socket(self, kind: int, family: int, host: Optional[str] = None, port: int = 0) -> socket.socket:
        """A socket of there; connected, if it is told to what."""
        ours, theirs = socket.socketpair()
        child = os.fork()
        if child == 0:
            try:
                self._pod.enter()
                fd = os.open(f"/proc/{self._holder}/ns/net", os.O_RDONLY)
                kernel.setns(fd, kernel.CLONE_NEWNET)
                sock = socket.socket(family, kind)
                if host is not None:
                    sock.connect((host, port))
                socket.send_fds(theirs, [b"s"], [sock.fileno()])
            finally:
                os._exit(0)
        theirs.close()
        with ours:
            _, fds, _, _ = socket.recv_fds(ours, 1, 1)
        os.waitpid(child, 0)
        assert fds, "the neighbour could not connect"
        sock = socket.socket(fileno=fds[0])
        sock.settimeout(10)
        return sock


@contextlib.contextmanager
def _join_by_a_wire(pod: Any) -> Iterator[Neighbour]:
    program = shutil.which("ip", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    unshare = shutil.which("unshare")
    if program is None or unshare is None:
        pytest.skip("ip (iproute2) or unshare (util-linux) is not installed")
    reader, writer = os.pipe()
    ready_reader, ready_writer = os.pipe()
    holder = os.fork()
    if holder == 0:
        try:
            pod.enter()
            os.dup2(reader, 0)
            os.dup2(ready_writer, 1)
            os.execv(unshare, ["unshare", "-n", "sh", "-c", "echo ready; exec cat >&2"])
        finally:
            os._exit(1)
    os.close(reader)
    os.close(ready_writer)
    os.read(ready_reader, 10)
    script = f"""
        set -e
        PATH=$PATH:/usr/sbin:/sbin
        ip link add inside type veth peer name outside netns {holder}
        ip addr add 10.9.0.1/24 dev inside && ip addr add fd00:9::1/64 dev inside nodad && ip link set inside up
        nsenter -t {holder} -n sh -c '
            ip addr add 10.9.0.2/24 dev outside; ip addr add fd00:9::2/64 dev outside nodad; ip link set outside up'
        ip route add default via 10.9.0.2
    """
    try:
        done = pod.run(lambda: subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False))
        assert done.returncode == 0, done.stderr
        yield Neighbour(pod, holder)
    finally:
        os.close(writer)
        os.close(ready_reader)
        os.waitpid(holder, 0)


@pytest.fixture
def traffic(pod: Any) -> Traffic:
    """The pod's traffic."""
    return Traffic(pod)


@pytest.fixture
def neighbour(pod: Any) -> Iterator[Neighbour]:
    """Another pod: 10.9.0.2 and fd00:9::2. The pod is 10.9.0.1 and fd00:9::1; the neighbour is its default gateway as well."""
    with _join_by_a_wire(pod) as found:
        yield found


@pytest.fixture
def whole() -> Callable[[socket.socket], bytes]:
    """`whole(sock)`: all that comes, then closed."""
    return read_all
