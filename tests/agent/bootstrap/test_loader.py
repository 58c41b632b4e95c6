"""The loader itself, as a process, with clients good and bad. What it executes here is a payload of the test's."""

from __future__ import annotations

import io
import socket
import subprocess
import sys
import time
import zipfile

import pytest
from mirrord_trace.agent.bootstrap import payload

SECRET = b"s" * 32

MAIN = b"""
def boot(sock, listener):
    sock.settimeout(10)
    sock.sendall(b"booted " + (b"again at %d" % listener.getsockname()[1] if listener else b"for once"))
    return 7
"""


def archive(main=MAIN):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("mirrord_trace/__init__.py", "")
        file.writestr("mirrord_trace/agent/__init__.py", "")
        file.writestr("mirrord_trace/agent/main.py", main)
    return buffer.getvalue()


class Loader:
    def __init__(self, where, pass_fds=()):
        name, value = payload.environment(where, SECRET)
        self.process = subprocess.Popen(
            payload.command(sys.executable), env={name: value}, pass_fds=pass_fds, stderr=subprocess.PIPE
        )

    def end(self):
        self.process.terminate()
        return self.process.communicate(timeout=20)[1].decode()


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    loader = Loader(str(port))
    yield port
    loader.end()


def connect(port):
    deadline = time.monotonic() + 20
    while True:
        try:
            sock = socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.01)
            continue
        sock.settimeout(20)
        return sock


def deliver(sock, secret=SECRET, content=None, chunk=None):
    client = payload.BootClient(secret, archive() if content is None else content)
    sock.sendall(client.output())
    while not client.done:
        client.receive(sock.recv(chunk or 4096))
    return client.output()


def read_all(sock):
    parts = []
    try:
        while part := sock.recv(1000):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def test_a_client_with_the_secret_starts_its_payload(port):
    with connect(port) as sock:
        sock.sendall(deliver(sock))
        assert read_all(sock) == b"booted again at %d" % port


def test_the_exchange_may_come_in_pieces(port):
    with connect(port) as sock:
        said = deliver(sock, chunk=1)
        for start in range(0, len(said), 50):
            sock.sendall(said[start : start + 50])
        assert read_all(sock).startswith(b"booted")


def test_an_inherited_socket_does_as_well():
    ours, theirs = socket.socketpair()
    loader = Loader(f"fd:{theirs.fileno()}", (theirs.fileno(),))
    theirs.close()
    with ours:
        ours.settimeout(20)
        ours.sendall(deliver(ours))
        assert read_all(ours) == b"booted for once"
    assert loader.process.wait(20) == 7
    loader.end()


def test_an_inherited_socket_that_ends_is_the_end():
    ours, theirs = socket.socketpair()
    loader = Loader(f"fd:{theirs.fileno()}", (theirs.fileno(),))
    theirs.close()
    ours.close()
    assert loader.process.wait(20) == 1
    assert "no client came" in loader.end()


EVIL = b"def boot(sock, listener):\n    sock.sendall(b'taken over')\n"


def test_after_all_kinds_of_strangers_the_client_is_served(port):
    with connect(port) as silent, connect(port) as sock:
        silent.close()
        sock.sendall(b"GET / HTTP/1.1\r\nHost: somebody\r\n\r\n" + bytes(200))
        assert b"taken over" not in read_all(sock)
    with connect(port) as sock:  # knows the protocol, not the secret
        sock.sendall(bytes(32))
        greeting = sock.recv(4096)
        assert greeting.startswith(b"MTBOOT1\n")
        sock.sendall(bytes(32) + len(archive(EVIL)).to_bytes(4, "big") + bytes(32) + archive(EVIL))
        assert read_all(sock) == b""
    with connect(port) as sock:  # a proof that was heard elsewhere, under another nonce
        said = deliver(sock)
    with connect(port) as sock:
        sock.sendall(bytes(32))
        sock.recv(4096)
        sock.sendall(said)
        assert read_all(sock) == b""
    with connect(port) as sock:  # the proof is right, what follows is something else
        good = deliver(sock)
        evil = archive(EVIL)
        sock.sendall(good[:68] + (evil + bytes(len(good)))[: len(good) - 68])
        assert read_all(sock) == b""
    with connect(port) as sock:
        sock.sendall(deliver(sock))
        assert read_all(sock).startswith(b"booted")


def test_the_secret_leaves_the_environment(port):
    show = b"import os\ndef boot(sock, listener):\n    sock.sendall(repr(dict(os.environ)).encode())\n"
    with connect(port) as sock:
        sock.sendall(deliver(sock, content=archive(show)))
        assert SECRET.hex().encode() not in read_all(sock)
