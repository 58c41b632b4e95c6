"""A server in the demo's cluster that does to a connection what the first line on it says, and remembers how it went."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Iterator

from mirrord_trace.supervisor.targets.demo import network
from mirrord_trace.supervisor.targets.demo.pod import DemoPod

_PATIENCE_S = 15.0
_ABORT = struct.pack("ii", 1, 0)


@contextlib.contextmanager
def scripted_server(pod: DemoPod) -> Iterator[int]:
    """Its port, at the greeter's address."""
    listener = pod.open_socket()
    listener.bind((network.GREETER[0], 0))
    listener.listen(64)
    said: list[str] = []
    thread = threading.Thread(target=_accept, args=(listener, said), daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # ends the thread's accept
        thread.join(_PATIENCE_S)
        listener.close()


# One connection after the other: what one sees has been said when the next one asks.
def _accept(listener: socket.socket, said: list[str]) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.settimeout(_PATIENCE_S)
            order = ""
            try:
                order = _line(connection)
                _obey(connection, order, said)
            except OSError as error:
                said.append(f"{order}: {error}")


def _line(connection: socket.socket) -> str:
    line = b""
    while not line.endswith(b"\n") and (byte := connection.recv(1)):
        line += byte
    return line.decode().strip()


def _obey(connection: socket.socket, order: str, said: list[str]) -> None:
    if order == "urgent":
        _line(connection)
        connection.sendall(b"abcde")
        connection.send(b"U", socket.MSG_OOB)
        connection.sendall(b"fghij")
        connection.sendall(_read_with_mark(connection).encode())
    elif order == "reset":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
    elif order == "how it ends":
        said.append(_end(connection))
    elif order == "how it ends after you spoke":
        connection.sendall(b"x" * 1000)
        said.append(_end(connection))
    elif order == "half close, then listen":
        connection.shutdown(socket.SHUT_WR)
        said.append(f"then came {_line(connection)}")
    elif order == "what was said":
        connection.sendall("; ".join(said).encode())
        said.clear()


def _end(connection: socket.socket) -> str:
    try:
        return f"read {connection.recv(1)!r}"
    except ConnectionResetError:
        return "reset"


# "one|two urgent !": where the mark was, and the urgent byte.
def _read_with_mark(connection: socket.socket) -> str:
    text, urgent = b"", b""
    poll = select.poll()
    poll.register(connection, select.POLLPRI)
    if poll.poll(_PATIENCE_S * 1000):
        urgent = connection.recv(1, socket.MSG_OOB)
    while part := connection.recv(100):  # stops at the mark
        text += b"|" + part if text else part
    return f"{text.decode()} urgent {urgent.decode()}"
