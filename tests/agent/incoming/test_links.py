from __future__ import annotations

import contextlib
import errno
import socket
import struct

import pytest
from mirrord_trace.agent.incoming import links
from mirrord_trace.agent.incoming.links import SocketLink, StreamLink
from mirrord_trace.agent.pump.loop import Loop
from mirrord_trace.agent.pump.session import Session
from mirrord_trace.agent.pump.transport import SocketTransport
from mirrord_trace.agent.wire.connection import Connection, Role

ABORT = struct.pack("ii", 1, 0)


class Notes:
    """A driver that remembers."""

    def __init__(self):
        self.said = bytearray()
        self.news = []

    def received(self, number, data):
        self.said += data

    def ended(self, number):
        self.news.append("ended")

    def failed(self, number, code):
        self.news.append(("failed", code))

    def drained(self, number):
        self.news.append("drained")

    def gone(self, number):
        self.news.append("gone")


class Setting:
    """Two sessions on one loop, and a driver."""

    def __init__(self):
        self.loop = Loop()
        ours, theirs = socket.socketpair()
        nothing = {"on_request": lambda *_: None, "on_notice": lambda _: None, "on_lost": lambda _: None}
        self.session = Session(self.loop, Connection(Role.AGENT), **nothing)
        self.client = Session(self.loop, Connection(Role.CLIENT), **nothing)
        self.session.attach(SocketTransport(ours))
        self.client.attach(SocketTransport(theirs))
        self.notes = Notes()

    def turn(self, condition):
        for _ in range(2000):
            if condition():
                return
            timer = self.loop.call_later(0.005, self.loop.stop)
            self.loop.run()
            timer.cancel()
        raise AssertionError("nothing happened")

    def socket_link(self, connected=True):
        with socket.create_server(("127.0.0.1", 0)) as server:
            far = socket.create_connection(server.getsockname())
            near, _ = server.accept()
        near.setblocking(False)
        far.setblocking(False)
        return SocketLink(self.session, self.notes, 1, near, connected), far

    def stream_link(self):
        stream = self.session.new_stream()
        link = StreamLink(self.session, self.notes, 1, stream)
        theirs, far = socket.socketpair()
        self.turn(lambda: self.client.connection.is_open(stream))
        self.client.bridge(stream, theirs)
        far.setblocking(False)
        return link, far

    def read(self, sock, size):
        got = bytearray()

        def enough():
            try:
                while len(got) < size:
                    part = sock.recv(65536)
                    if not part:
                        return True
                    got.extend(part)
            except BlockingIOError:
                pass
            return len(got) >= size

        self.turn(enough)
        return bytes(got)


@pytest.fixture
def it():
    setting = Setting()
    yield setting
    setting.session.abandon()
    setting.client.abandon()
    setting.loop.close()


@pytest.fixture(params=["socket_link", "stream_link"])
def linked(request, it):
    link, far = getattr(it, request.param)()
    yield it, link, far
    far.close()
    link.close(errno.ECONNRESET)


def test_bytes_and_ends_both_ways(linked):
    it, link, far = linked
    link.send(b"ask")
    assert it.read(far, 3) == b"ask"
    far.send(b"answer")
    far.shutdown(socket.SHUT_WR)
    it.turn(lambda: "ended" in it.notes.news)
    assert it.notes.said == b"answer"
    link.send(b"more")
    link.send_eof()
    link.send(b"too late")
    assert it.read(far, 100) == b"more"


def test_what_cannot_be_sent_yet_is_counted_and_comes_in_order(linked):
    it, link, far = linked
    content = b"0123456789" * 1_000_000
    for at in range(0, len(content), 100_000):
        link.send(content[at : at + 100_000])
    assert link.unsent_bytes > 0
    assert it.read(far, len(content)) == content
    assert link.unsent_bytes == 0
    assert "drained" in it.notes.news


def test_close_waits_for_what_was_sent_and_for_the_other_side(linked):
    it, link, far = linked
    far.send(b"not wanted any more")
    link.send(b"x" * 3_000_000)
    link.close(0)
    assert len(it.read(far, 4_000_000)) == 3_000_000
    far.close()
    it.turn(lambda: it.notes.news[-1:] == ["gone"])
    assert "ended" not in it.notes.news


def test_the_other_side_cannot_keep_it_for_ever(linked, monkeypatch):
    monkeypatch.setattr(links, "LINGER_S", 0.01)
    it, link, _ = linked
    link.close(0)
    it.turn(lambda: it.notes.news == ["gone"])


def test_a_reset_says_why(linked):
    it, link, far = linked
    link.close(errno.ECONNREFUSED)
    link.close(0)
    assert it.notes.news == ["gone"]
    it.turn(lambda: over(far))


def over(sock):
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def test_nothing_is_read_while_it_is_paused(linked):
    it, link, far = linked
    link.pause(True)
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sent += far.send(bytes(65536))
            timer = it.loop.call_later(0.001, it.loop.stop)
            it.loop.run()
            timer.cancel()
    assert len(it.notes.said) <= 1 << 20
    link.pause(False)
    it.turn(lambda: len(it.notes.said) == sent)


def test_a_broken_socket_has_failed(it):
    link, far = it.socket_link()
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
    far.close()
    it.turn(lambda: it.notes.news == [("failed", errno.ECONNRESET)])
    link.send(b"x")
    link.close(0)
    assert link.unsent_bytes == 0


def test_a_connection_still_being_made(it):
    link, far = it.socket_link(connected=False)
    link.send(b"early")
    assert link.unsent_bytes == 5
    assert it.read(far, 5) == b"early"
    link.close(errno.ECONNRESET)
    far.close()


def test_a_stream_that_the_client_drops_has_failed(it):
    link, far = it.stream_link()
    far.close()
    link.send(b"x" * 100)
    it.turn(lambda: it.notes.news == [("failed", errno.ECONNRESET)] or "ended" in it.notes.news)
    link.close(0)
