from __future__ import annotations

import errno
import socket
import struct

import pytest
from mirrord_trace.agent.incoming.passage import Passage
from mirrord_trace.agent.pump.loop import Loop

ABORT = struct.pack("ii", 1, 0)


class Notes:
    """A tap that remembers."""

    def __init__(self):
        self.said = bytearray()
        self.news = []

    def data(self, data):
        self.said += data

    def eof(self):
        self.news.append("eof")

    def broken(self, code):
        self.news.append(code)


def pair():
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


class Setting:
    """A passage between `peer` and `pod`, which are the far ends."""

    def __init__(self, connected=True, early=b""):
        self.loop = Loop()
        self.peer, near = pair()
        self.pod, far = pair()
        self.tap = Notes()
        self.ended = []
        self.passage = Passage(self.loop, near, far, connected, self.ended.append, self.tap, early)

    def turn(self, condition):
        for _ in range(2000):
            if condition():
                return
            timer = self.loop.call_later(0.005, self.loop.stop)
            self.loop.run()
            timer.cancel()
        raise AssertionError("nothing happened")

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
def new():
    made = []

    def make(**options):
        made.append(Setting(**options))
        return made[-1]

    yield make
    for each in made:
        each.passage.abort()
        each.peer.close()
        each.pod.close()
        each.loop.close()


def test_bytes_go_both_ways_and_the_peers_are_tapped(new):
    it = new(early=b"first ")
    it.peer.sendall(b"hello")
    assert it.read(it.pod, 11) == b"first hello"
    assert not it.passage.idle
    it.pod.sendall(b"answer")
    assert it.read(it.peer, 6) == b"answer"
    assert it.tap.said == b"first hello"
    assert it.passage.idle


def test_each_direction_ends_by_itself(new):
    it = new()
    it.peer.shutdown(socket.SHUT_WR)
    assert it.read(it.pod, 1) == b""
    it.pod.sendall(b"late")
    assert it.read(it.peer, 4) == b"late"
    assert not it.ended
    it.pod.close()
    assert it.read(it.peer, 1) == b""
    it.turn(lambda: it.ended == [it.passage])
    assert it.tap.news == ["eof"]


def test_bulk_waits_for_a_slow_reader_and_is_all_there(new):
    it = new()
    content = b"0123456789" * 800_000
    sent = [0]

    def push():
        try:
            while sent[0] < len(content):
                sent[0] += it.peer.send(content[sent[0] : sent[0] + 65536])
        except BlockingIOError:
            pass
        else:
            it.peer.shutdown(socket.SHUT_WR)
            return
        it.loop.call_later(0.001, push)

    push()
    got = it.read(it.pod, len(content))
    assert got == content
    assert it.tap.said == content


@pytest.mark.parametrize("who", ["peer", "pod"])
def test_a_reset_goes_through(new, who):
    it = new()
    one, other = (it.peer, it.pod) if who == "peer" else (it.pod, it.peer)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
    one.close()
    it.turn(lambda: bool(it.ended))
    with pytest.raises(ConnectionResetError):
        other.recv(1)
    assert it.tap.news == [errno.ECONNRESET]


def test_a_connection_that_is_still_being_made_takes_what_there_is(new):
    it = new(connected=False)
    it.peer.sendall(b"early")
    it.peer.shutdown(socket.SHUT_WR)
    assert it.read(it.pod, 10) == b"early"
    it.pod.close()
    it.turn(lambda: bool(it.ended))


def test_a_connection_that_cannot_be_made_resets_the_peer():
    loop = Loop()
    peer, near = pair()
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = gone.getsockname()
    far = socket.socket()
    far.setblocking(False)
    far.connect_ex(address)
    ended = []
    Passage(loop, near, far, False, lambda passage: (ended.append(passage), loop.stop()))
    loop.run()
    with peer, pytest.raises(ConnectionResetError):
        peer.recv(1)
    loop.close()


def test_it_can_be_finished_in_order(new):
    it = new()
    it.passage.finish()
    it.passage.finish()
    assert it.read(it.peer, 1) == b""
    assert it.read(it.pod, 1) == b""
    assert it.ended == [it.passage]
