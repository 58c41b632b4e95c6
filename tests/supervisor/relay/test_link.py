from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from mirrord_trace.agent.pump.loop import Loop
from mirrord_trace.agent.wire.messages import Address, Done, FileStat, GetPod, LinkTarget, Message, OpenedDirectory
from mirrord_trace.supervisor.relay.link import ASK, REPLY, TELL, Packet, RelayEnd, RelayLink, make_link
from mirrord_trace.syscalls.requests import Lost, Ready, UdpPeer

STAT = FileStat(*range(14))


class Link:
    """Both ends; the relay's one on a loop that the test turns."""

    def __init__(self) -> None:
        ours, theirs = make_link()
        self.tracer = RelayLink(ours)
        self.loop = Loop()
        self.packets: list[Packet] = []
        self.ends = 0
        self.relay = RelayEnd(self.loop, theirs, self.packets.append, self._on_end)

    def _on_end(self) -> None:
        self.ends += 1

    def turn(self, times: int = 3) -> None:
        """Let the relay do what it can."""
        for _ in range(times):
            self.loop.call_later(0, self.loop.stop)
            self.loop.run()

    def close(self) -> None:
        self.tracer.close()
        self.relay.close()
        self.loop.close()


@pytest.fixture
def link() -> Iterator[Link]:
    link = Link()
    yield link
    link.close()


def test_ask_reply_and_tell(link: Link) -> None:
    link.tracer.ask(GetPod(), 77)
    link.tracer.tell(Lost("x"))
    link.turn()
    assert link.packets == [Packet(ASK, 77, GetPod(), -1), Packet(TELL, 0, Lost("x"), -1)]
    assert not link.tracer.wait(0)
    link.relay.reply(77, LinkTarget(b"/there"))
    link.relay.tell(Ready(1, 2))
    assert link.tracer.wait(1)
    assert link.tracer.drain() == [Packet(REPLY, 77, LinkTarget(b"/there"), -1), Packet(TELL, 0, Ready(1, 2), -1)]
    assert link.tracer.drain() == []


def test_descriptors_travel_both_ways(link: Link, tmp_path: os.PathLike[str]) -> None:
    path = os.path.join(tmp_path, "file")
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.write(fd, b"content")
    message = UdpPeer(1, 4, Address(bytes(4), 53))
    link.tracer.tell(message, (fd,))
    os.close(fd)
    link.turn()
    kind, _, told, received = link.packets[0]
    assert (kind, told) == (TELL, message)
    assert os.pread(received, 100, 0) == b"content"
    assert not os.get_inheritable(received)
    link.relay.reply(5, Done(), received)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(received)  # the relay's own was closed
    packet = link.tracer.drain()[0]
    assert os.pread(packet.fd, 100, 0) == b"content"
    assert not os.get_inheritable(packet.fd)
    os.close(packet.fd)


@pytest.mark.parametrize("size", [1, 32 * 1024, 32 * 1024 + 1, 5 * 1024 * 1024])
def test_messages_of_any_size(link: Link, size: int) -> None:
    before = len(os.listdir("/proc/self/fd"))
    listing = OpenedDirectory(STAT, (b"n" * size,), (1,), (8,))
    link.relay.reply(1, listing)
    link.tracer.ask(LinkTarget(b"n" * size), 2)
    link.turn()
    assert link.tracer.drain() == [Packet(REPLY, 1, listing, -1)]
    assert link.packets == [Packet(ASK, 2, LinkTarget(b"n" * size), -1)]
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_large_message_with_a_descriptor(link: Link) -> None:
    reading, writing = os.pipe()
    link.relay.reply(1, LinkTarget(b"n" * 100_000), writing)
    packet = link.tracer.drain()[0]
    assert packet.message == LinkTarget(b"n" * 100_000)
    os.write(packet.fd, b"x")
    assert os.read(reading, 1) == b"x"
    os.close(packet.fd)
    os.close(reading)


def test_a_relay_that_does_not_read_stops_nobody(link: Link) -> None:
    messages: list[Message] = [LinkTarget(b"%06d" % number + b"x" * (number % 3000)) for number in range(5000)]
    for number, message in enumerate(messages):
        link.tracer.ask(message, number)
    while len(link.packets) < len(messages):
        link.turn()
        link.tracer.drain()
    assert [packet.message for packet in link.packets] == messages
    assert [packet.id for packet in link.packets] == list(range(5000))


def test_a_tracer_that_does_not_read_stops_nobody(link: Link) -> None:
    reading, writing = os.pipe()
    for number in range(3000):
        link.relay.reply(number, LinkTarget(b"x" * 500), os.dup(writing) if number % 500 == 0 else -1)
    os.close(writing)
    received: list[Packet] = []
    while len(received) < 3000:
        link.turn()
        received += link.tracer.drain()
    assert [packet.id for packet in received] == list(range(3000))
    assert [packet.id for packet in received if packet.fd >= 0] == [0, 500, 1000, 1500, 2000, 2500]
    for packet in received:
        if packet.fd >= 0:
            os.close(packet.fd)
    assert os.read(reading, 1) == b""  # every copy was closed
    os.close(reading)


def test_the_end_of_the_tracer(link: Link) -> None:
    link.tracer.tell(Done())
    link.tracer.close()
    link.turn()
    assert [packet.message for packet in link.packets] == [Done()]
    assert link.ends == 1
    link.relay.tell(Ready(1, 2))  # to nobody


def test_the_end_of_the_relay_is_a_loss(link: Link) -> None:
    link.relay.tell(Ready(1, 2))
    link.relay.close()
    assert link.tracer.wait(1)
    first, second = link.tracer.drain()
    assert first.message == Ready(1, 2)
    assert isinstance(second.message, Lost)
    assert link.tracer.closed
    assert link.tracer.drain() == []
    link.tracer.ask(GetPod(), 1)  # of nobody


def test_a_loss_is_told_once(link: Link) -> None:
    link.relay.tell(Lost("the pod is gone"))
    link.relay.close()
    assert [packet.message for packet in link.tracer.drain()] == [Lost("the pod is gone")]


class Rung:
    """A doorbell that counts: this process, with a handler. Several rings may be one signal."""

    def __init__(self) -> None:
        self.count = 0
        self._saved = signal.signal(signal.SIGUSR1, self._on_signal)

    def _on_signal(self, number: int, frame: object) -> None:
        self.count += 1

    def restore(self) -> None:
        signal.signal(signal.SIGUSR1, self._saved)


@pytest.fixture
def rung() -> Iterator[Rung]:
    rung = Rung()
    yield rung
    rung.restore()


def test_the_doorbell_rings_after_messages_and_once_for_many(link: Link, rung: Rung) -> None:
    link.tracer.set_doorbell(os.getpid())
    link.turn()
    before = rung.count
    link.turn()
    assert rung.count == before
    for _ in range(10):
        link.relay.tell(Done())
    link.turn()
    assert rung.count == before + 1
    assert len(link.tracer.drain()) == 10


def test_the_doorbell_rings_for_a_tracer_that_found_the_link_full(link: Link, rung: Rung) -> None:
    link.tracer.set_doorbell(os.getpid())
    link.turn()
    before = rung.count
    while not link.tracer._end.has_queue:
        link.tracer.ask(GetPod(), 1)
    link.turn()
    assert rung.count > before
    link.tracer.drain()
    assert not link.tracer._end.has_queue


def test_a_doorbell_that_has_gone(link: Link) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    link.tracer.set_doorbell(pid)
    link.turn()
    os.waitpid(pid, 0)
    link.relay.tell(Done())
    link.turn()
    assert [packet.message for packet in link.tracer.drain()] == [Done()]
