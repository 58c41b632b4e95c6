"""Files and datagrams on streams."""

from __future__ import annotations

import os
import threading
from errno import ECONNREFUSED, EISDIR, ENOENT
from pathlib import Path
from typing import Any, Dict, List

import pytest
from mirrord_trace.agent.pump import contents
from mirrord_trace.agent.wire.frames import WINDOW_BYTES


class Received:
    """A consumer's side of a stream."""

    def __init__(self, session: Any, stream: int) -> None:
        self.content = bytearray()
        self.ends: List[int] = []
        session.consume(stream, self.content.extend, self.ends.append)


@pytest.mark.parametrize("size", [0, 1, 5 * WINDOW_BYTES + 17])
def test_a_file_whole(world: Any, tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    stream = world.stream()
    received = Received(world.client.session, stream)
    world.agent.session.produce(stream, os.open(tmp_path / "file", os.O_RDONLY))
    world.until(lambda: received.ends == [0])
    assert received.content == content
    world.round_trip()
    assert world.client.session.connection.open_streams == world.agent.session.connection.open_streams == 0


def test_from_the_offset_on_and_the_fd_is_closed(world: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    os.lseek(fd, 4, os.SEEK_SET)
    stream = world.stream()
    received = Received(world.client.session, stream)
    world.agent.session.produce(stream, fd)
    world.until(lambda: received.ends == [0])
    assert received.content == b"456789"
    with pytest.raises(OSError):
        os.fstat(fd)


def test_reading_that_blocks_does_not_block_the_loop(world: Any) -> None:
    # A pipe stands for a slow disk: its reader waits in the kernel until there is something.
    slow, writer = os.pipe()
    stream = world.stream()
    received = Received(world.client.session, stream)
    world.agent.session.produce(stream, slow)
    world.round_trip()
    assert received.content == b""
    os.write(writer, b"at last")
    world.until(lambda: received.content == b"at last")
    os.close(writer)
    world.until(lambda: received.ends == [0])
    assert all(thread is threading.main_thread() or not thread.is_alive() for thread in threading.enumerate()[:1])


def test_a_stream_reset_while_a_thread_reads(world: Any) -> None:
    slow, writer = os.pipe()
    stream = world.stream()
    world.agent.session.produce(stream, slow)
    world.agent.session.reset(stream, 0)
    os.write(writer, b"x")

    def closed() -> bool:
        try:
            os.fstat(slow)
        except OSError:
            return True
        return False

    world.until(closed)
    os.close(writer)


def test_a_read_error_resets_the_stream(world: Any, tmp_path: Path) -> None:
    stream = world.stream()
    received = Received(world.client.session, stream)
    world.agent.session.produce(stream, os.open(tmp_path, os.O_RDONLY))
    world.until(lambda: received.ends == [EISDIR])


def test_a_reader_that_loses_interest_stops_the_file(world: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(20 * WINDOW_BYTES))
    stream = world.stream()
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    taken: List[int] = []
    ends: List[int] = []

    def on_data(data: memoryview) -> None:
        taken.append(len(data))
        if len(taken) == 3:
            world.client.session.reset(stream, ENOENT)

    world.client.session.consume(stream, on_data, ends.append)
    world.agent.session.produce(stream, fd)
    world.until(lambda: bool(ends))
    world.round_trip()
    assert ends == [ENOENT]
    assert len(taken) == 3
    with pytest.raises(OSError):
        os.fstat(fd)


def test_files_share_the_channel_with_messages(world: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(30 * WINDOW_BYTES))
    received: Dict[int, Received] = {}
    for _ in range(3):
        stream = world.stream()
        received[stream] = Received(world.client.session, stream)
        world.agent.session.produce(stream, os.open(tmp_path / "file", os.O_RDONLY))
    world.round_trip()
    assert not any(each.ends for each in received.values())  # the answer did not wait for the bulk
    world.until(lambda: all(each.ends == [0] for each in received.values()))


def test_datagrams_keep_their_boundaries(world: Any) -> None:
    stream = world.stream()
    at_client: List[bytes] = []
    at_agent: List[bytes] = []
    ends: List[int] = []
    world.client.session.datagrams(stream, at_client.append, ends.append)
    assert world.client.session.send_datagram(stream, b"before the agent listens")
    world.round_trip()
    world.agent.session.datagrams(stream, at_agent.append, ends.append)
    sizes = [1, 1400, 65535, 3]
    for size in sizes:
        assert world.agent.session.send_datagram(stream, bytes(size))
        assert world.client.session.send_datagram(stream, bytes(size))
    world.until(lambda: len(at_client) == 4 and len(at_agent) == 5)
    assert [len(each) for each in at_client] == sizes
    assert [len(each) for each in at_agent] == [24, *sizes]
    world.client.session.reset(stream, 0)
    world.until(lambda: ends == [0, 0])
    assert not world.agent.session.send_datagram(stream, b"x")


def test_datagrams_without_credit_are_dropped_and_flow_again(world: Any) -> None:
    stream = world.stream()
    got: List[bytes] = []
    world.agent.session.datagrams(stream, lambda datagram: None, lambda errno: None)
    world.client.session.datagrams(stream, got.append, lambda errno: None)
    sent = [world.agent.session.send_datagram(stream, bytes(60_000)) for _ in range(40)]
    assert not all(sent)
    assert sent[0]
    world.until(lambda: len(got) == sum(sent))
    world.round_trip()
    assert world.agent.session.send_datagram(stream, bytes(60_000))


def test_the_end_of_a_datagram_stream(world: Any) -> None:
    stream = world.stream()
    ends: List[int] = []
    world.client.session.datagrams(stream, lambda datagram: None, ends.append)
    world.agent.session.reset(stream, ECONNREFUSED)
    world.until(lambda: ends == [ECONNREFUSED])


def test_chunks_are_smaller_than_a_frame() -> None:
    assert contents.READ_BYTES <= WINDOW_BYTES // 4
