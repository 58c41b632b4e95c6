"""The demo pod as its starter sees it: start it, visit it, stop it."""

from __future__ import annotations

import errno
import json
import os
import select
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from ...errors import UsageError
from . import network, rootfs

_START_TIMEOUT_S = 30.0
_VISIT_TIMEOUT_S = 10.0
_END_TIMEOUT_S = 5.0
_MESSAGE_BYTES = 65536
# Run without site-packages, and found beside the standard library, not before it.
_LAUNCH = "import sys; sys.path.append({folder!r}); from demo.node import main; main({parent}, {control})"

_FORBIDDEN = (errno.EPERM, errno.EACCES, errno.ENOSPC, errno.EUSERS, errno.EINVAL, errno.ENOSYS)


class DemoPod:
    """A pod made of namespaces of this machine; a context manager. One thread uses it at a time.

    It ends with `stop`, and also when the thread that called `start` ends in any way, SIGKILL included.
    """

    def __init__(self) -> None:
        self.pid = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._pidfd = -1

    def __enter__(self) -> DemoPod:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def start(self) -> int:
        """Start the pod; returns the pid of its container process once all its servers answer.

        UsageError: this machine forbids what it needs; the text says what to change.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        launch = _LAUNCH.format(folder=str(Path(__file__).parent.parent), parent=os.getpid(), control=theirs.fileno())
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", launch],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=rootfs.ENVIRONMENT,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self._control = ours
        ours.settimeout(_START_TIMEOUT_S)
        try:
            report = json.loads(ours.recv(_MESSAGE_BYTES) or b'{"error": "its process ended at once", "errno": 0}')
        except TimeoutError:
            report = {"error": f"it was not ready after {_START_TIMEOUT_S:.0f} s", "errno": 0}
        if "error" in report:
            self.stop()
            raise UsageError(_refusal(report["error"], report["errno"]))
        self.pid = int(report["pid"])
        self._pidfd = os.pidfd_open(self.pid)
        return self.pid

    def stop(self) -> None:
        """End the pod and everything in it; does nothing the second time."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._pidfd >= 0:
            # Process 1 of the pod dies of its parent's death, a moment later.
            select.select([self._pidfd], [], [], _END_TIMEOUT_S)
            os.close(self._pidfd)
            self._pidfd = -1
        self.pid = 0

    def open_socket(
        self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM, *, in_pod: bool = False
    ) -> socket.socket:
        """An unbound socket in the network of the cluster around the pod, or in the pod's own."""
        assert self._control is not None, "the pod is not running"
        self._control.send(json.dumps({"in_pod": in_pod, "family": family, "type": kind}).encode())
        message, fds, _, _ = socket.recv_fds(self._control, _MESSAGE_BYTES, 1)
        answer = json.loads(message or b'{"error": "the demo pod has ended", "errno": 32}')
        if "error" in answer:
            raise OSError(answer["errno"], answer["error"])
        return socket.socket(fileno=fds[0])

    def connect(self, port: int, host: str = network.POD[0], *, in_pod: bool = False) -> socket.socket:
        """A TCP connection to the pod as another pod of the cluster makes it, or as a process inside the pod does."""
        is_ipv6 = ":" in host
        connection = self.open_socket(socket.AF_INET6 if is_ipv6 else socket.AF_INET, in_pod=in_pod)
        try:
            connection.settimeout(_VISIT_TIMEOUT_S)
            if not in_pod:
                connection.bind((network.CLIENT[is_ipv6], 0))
            connection.connect((host, port))
        except BaseException:
            connection.close()
            raise
        return connection

    def visit(
        self, port: int = network.HTTP_PORT, path: str = "/", host: str = network.POD[0], *, in_pod: bool = False
    ) -> bytes:
        """The body that a GET request to the pod is answered with."""
        with self.connect(port, host, in_pod=in_pod) as connection:
            where = f"[{host}]" if ":" in host else host
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {where}:{port}\r\nConnection: close\r\n\r\n".encode())
            response = bytearray()
            while chunk := connection.recv(_MESSAGE_BYTES):
                response += chunk
        return _body(bytes(response))


# Content-Length bodies end with the connection, since we asked for that; chunked ones are put together.
def _body(response: bytes) -> bytes:
    head, separator, body = response.partition(b"\r\n\r\n")
    if not separator:
        raise OSError(errno.EPROTO, f"no HTTP response: {response[:80]!r}")
    if b"transfer-encoding: chunked" not in head.lower():
        return body
    whole = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        whole += body[: int(size, 16)]
        body = body[int(size, 16) + 2 :]
    return whole


def _refusal(text: str, number: int) -> str:
    if number not in _FORBIDDEN:
        return f"the demo pod did not start: {text}"
    return (
        f"the demo pod needs namespaces that this machine forbids ({text}); allow them with "
        f"{_remedy()}, run as root, or give another target: see mirrord-trace doctor"
    )


# The first switch that is off. Each distribution has another one.
def _remedy() -> str:
    for switch, wanted in (
        ("kernel/unprivileged_userns_clone", "1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "0"),
        ("user/max_user_namespaces", "15000"),
    ):
        try:
            now = Path("/proc/sys", switch).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if now != wanted and not (switch.startswith("user/") and now != "0"):
            return f"`sudo sysctl -w {switch.replace('/', '.')}={wanted}`"
    return "`sudo sysctl -w user.max_user_namespaces=15000` or the container's seccomp profile"
