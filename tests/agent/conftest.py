"""A pod without a cluster: a process in its own user and network namespaces, and a client for an agent that serves it.

Works as an ordinary user where user namespaces are allowed; tests that need one skip otherwise and say so.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import pickle
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional, Tuple

import pytest
from mirrord_trace.agent import kernel
from mirrord_trace.agent.bootstrap import payload
from mirrord_trace.agent.options import Options
from mirrord_trace.agent.pump.greeting import greet
from mirrord_trace.agent.pump.loop import Loop
from mirrord_trace.agent.pump.session import Session
from mirrord_trace.agent.pump.transport import SocketTransport
from mirrord_trace.agent.wire.connection import Connection, Role
from mirrord_trace.agent.wire.handshake import ClientHandshake
from mirrord_trace.agent.wire.messages import Incoming, Message

TIMEOUT_S = 20.0
AGENT_PYTHON = os.environ.get("MIRRORD_TRACE_TEST_AGENT_PYTHON", sys.executable)

_libc = ctypes.CDLL(None, use_errno=True)
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1


def _bring_loopback_up() -> None:
    with socket.socket() as sock:
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("=16sH14x", b"lo", _IFF_UP))


def _become_pod() -> None:
    uid, gid = os.geteuid(), os.getegid()
    if _libc.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNET | kernel.CLONE_NEWUTS) < 0:
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    socket.sethostname("the-pod")
    _bring_loopback_up()


class PodProcess:
    """A sleeping process in namespaces of its own; `run` carries out a function in there."""

    def __init__(self) -> None:
        reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                _become_pod()
                os.write(writer, b"ok")
                while True:
                    signal.pause()
            except OSError as error:
                os.write(writer, str(error).encode())
            finally:
                os._exit(1)
        os.close(writer)
        news = os.read(reader, 200)
        os.close(reader)
        if news != b"ok":
            os.waitpid(self.pid, 0)
            pytest.skip(f"user and network namespaces are not allowed here: {news.decode()}")

    def enter(self) -> None:
        """Move the calling process into the pod's namespaces, for good."""
        for name, kind in (("user", kernel.CLONE_NEWUSER), ("net", kernel.CLONE_NEWNET)):
            fd = os.open(f"/proc/{self.pid}/ns/{name}", os.O_RDONLY)
            kernel.setns(fd, kind)
            os.close(fd)

    def run(self, function: Callable[[], Any]) -> Any:
        """The result of `function`, or its exception, from a child inside the pod."""
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.close(reader)
                self.enter()
                try:
                    outcome = (True, function())
                except Exception as error:
                    outcome = (False, error)
                with os.fdopen(writer, "wb") as out:
                    pickle.dump(outcome, out)
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as file:
            fine, result = pickle.loads(file.read())
        os.waitpid(child, 0)
        if not fine:
            raise result
        return result

    def socket(self, *arguments: Any) -> socket.socket:
        """A socket of the pod's network namespace, for use here."""
        ours, theirs = socket.socketpair()
        child = os.fork()
        if child == 0:
            try:
                self.enter()
                inside = socket.socket(*arguments)
                socket.send_fds(theirs, [b"s"], [inside.fileno()])
            finally:
                os._exit(0)
        theirs.close()
        with ours:
            _, fds, _, _ = socket.recv_fds(ours, 1, 1)
        os.waitpid(child, 0)
        assert fds, "no socket came from the pod"
        return socket.socket(fileno=fds[0])

    def ruleset(self) -> str:
        """`nft list ruleset` in the pod; skips without the program."""
        program = shutil.which("nft", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        if program is None:
            pytest.skip("nft (nftables) is not installed")
        done: str = self.run(
            lambda: subprocess.run([program, "list", "ruleset"], capture_output=True, text=True, check=False).stdout
        )
        return done

    def end(self) -> None:
        """Kill it."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


class Client:
    """The client's end of a session, driven step by step: every method returns when its outcome is there."""

    def __init__(self, sock: socket.socket, options: Options) -> None:
        self.options = options
        self.loop = Loop()
        self.incoming: List[Incoming] = []
        self.notices: List[Message] = []
        self.lost: List[Optional[Exception]] = []
        self.session = Session(
            self.loop,
            Connection(Role.CLIENT),
            on_request=lambda message, reply: None,
            on_notice=self._notice,
            on_lost=self._lost,
        )
        self.session_id = b""
        self.attach(sock)

    def attach(self, sock: socket.socket) -> None:
        """Greet over `sock` and begin or resume the session on it."""
        received = self.session.connection.received if self.session_id else 0
        handshake = ClientHandshake(self.options.secret, self.session_id, received)
        outcome: List[Any] = []
        transport = SocketTransport(sock)
        self._transport_socket = sock
        greet(self.loop, transport, handshake, self._into(outcome), self._into(outcome))
        self.until(lambda: bool(outcome))
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        self.session_id = outcome[0].session
        self.session.attach(transport, outcome[0].leftover, outcome[0].peer_received)

    def break_transport(self) -> None:
        """Break the transport; the session notices later."""
        self._transport_socket.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """Break the transport and wait until the session has noticed."""
        self.break_transport()
        self.until(lambda: bool(self.lost))

    def ask(self, message: Message) -> Message:
        """The reply to a request."""
        outcome: List[Message] = []
        self.session.request(message, self._into(outcome), deadline_s=TIMEOUT_S)
        self.until(lambda: bool(outcome))
        return outcome[0]

    def content(self, stream: int) -> bytes:
        """All that comes on a stream."""
        content = bytearray()
        outcome: List[int] = []
        self.session.consume(stream, content.extend, self._into(outcome))
        self.until(lambda: bool(outcome))
        assert outcome == [0]
        return bytes(content)

    def joined(self, stream: int) -> socket.socket:
        """A blocking socket joined to the stream; use it through `exchange`."""
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        self.session.bridge(stream, theirs)
        return ours

    def receive(self, sock: socket.socket, size: int) -> bytes:
        """`size` bytes (fewer at the end) from a socket that the loop has to feed."""
        sock.setblocking(False)
        data = bytearray()
        over: List[bool] = []

        def ready(mask: int) -> None:
            part = sock.recv(size - len(data))
            data.extend(part)
            if not part or len(data) == size:
                over.append(True)
            self.loop.stop()

        self.loop.watch(sock.fileno(), 1, ready)
        self.until(lambda: bool(over))
        self.loop.unwatch(sock.fileno())
        return bytes(data)

    def close(self) -> None:
        """Drop everything without a word to the agent."""
        self.session.abandon()
        self._transport_socket.close()
        self.loop.close()

    def until(self, condition: Callable[[], bool]) -> None:
        """Run the loop until `condition`, which an event makes true."""
        late: List[bool] = []
        timer = self.loop.call_later(TIMEOUT_S, self._into(late, True))
        while not condition():
            assert not late, "nothing happened"
            again = self.loop.call_later(0.01, self.loop.stop)
            self.loop.run()
            again.cancel()
        timer.cancel()

    def _into(self, box: List[Any], *values: Any) -> Callable[..., None]:
        def put(*arguments: Any) -> None:
            box.append((values or arguments)[0])
            self.loop.stop()

        return put

    def _notice(self, message: Message) -> None:
        (self.incoming if isinstance(message, Incoming) else self.notices).append(message)  # type: ignore[arg-type]
        self.loop.stop()

    def _lost(self, error: Optional[Exception]) -> None:
        self.lost.append(error)
        self.loop.stop()


class AgentProcess:
    """An agent started the way a pod starts it: the loader's source, a secret, and the payload from here."""

    def __init__(self, options: Options, where: str = "fd") -> None:
        self.options = options
        self.secret = os.urandom(payload.BOOT_SECRET_BYTES)
        self.port = 0
        if where == "fd":
            self.socket, theirs = socket.socketpair()
            self._start(f"fd:{theirs.fileno()}", (theirs.fileno(),))
            theirs.close()
        else:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
            self._start(str(self.port), ())
            self.socket = self.connect()

    def connect(self) -> socket.socket:
        """A connection to the agent's port, as soon as it listens."""
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self.port))
            except ConnectionRefusedError:
                assert time.monotonic() < deadline, "the agent does not listen"
                assert self.process.poll() is None, "the agent has ended"
                time.sleep(0.01)

    def deliver(self) -> None:
        """The exchange with the loader."""
        boot = payload.BootClient(self.secret, payload.build(self.options))
        self.socket.settimeout(TIMEOUT_S)
        self.socket.sendall(boot.output())
        while not boot.done:
            boot.receive(self.socket.recv(4096))
        self.socket.sendall(boot.output())

    def worker_pid(self) -> int:
        """The worker; the process itself is the guard."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        assert len(children) == 1
        return int(children[0])

    def wait(self) -> int:
        """The exit status."""
        return self.process.wait(TIMEOUT_S)

    def _start(self, where: str, pass_fds: Tuple[int, ...]) -> None:
        name, value = payload.environment(where, self.secret)
        self.process = subprocess.Popen(
            payload.command(AGENT_PYTHON), env={name: value}, pass_fds=pass_fds, stdin=subprocess.DEVNULL
        )

    def end(self) -> None:
        """Whatever state it is in: over."""
        self.socket.close()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@pytest.fixture
def pod() -> Iterator[PodProcess]:
    """A pod."""
    process = PodProcess()
    yield process
    process.end()


@pytest.fixture
def new_agent() -> Iterator[Callable[..., AgentProcess]]:
    """`new_agent(where="fd"|"port", pid=..., ...)`: a loader that waits for its client."""
    started: List[AgentProcess] = []

    def start(where: str = "fd", **options: Any) -> AgentProcess:
        started.append(AgentProcess(Options(**options), where))
        return started[-1]

    yield start
    for agent in reversed(started):
        agent.end()


@pytest.fixture
def start_agent(new_agent: Callable[..., AgentProcess]) -> Iterator[Callable[..., Tuple[AgentProcess, Client]]]:
    """The same, served: `start_agent(...)` is the agent and its client."""
    started: List[Client] = []

    def start(where: str = "fd", **options: Any) -> Tuple[AgentProcess, Client]:
        agent = new_agent(where, **options)
        agent.deliver()
        started.append(Client(agent.socket, agent.options))
        return agent, started[-1]

    yield start
    for client in reversed(started):
        client.close()
