from __future__ import annotations

import os
import select
import stat

import pytest
from mirrord_trace.agent.tree import transfer
from mirrord_trace.agent.tree.handles import Handle
from mirrord_trace.agent.wire import file_messages as wire
from mirrord_trace.agent.wire.messages import Done

pytestmark = pytest.mark.usefixtures("same_fds")


@pytest.fixture
def handle_of():
    made = []

    def make(fd):
        handle = Handle(1, True)
        handle.fd, handle.mode = fd, os.fstat(fd).st_mode
        made.append(handle)
        return handle

    yield make
    for handle in made:
        os.close(handle.fd)


@pytest.fixture
def file(handle_of, put):
    return lambda content=b"0123456789", flags=os.O_RDWR: handle_of(os.open(put(b"/file", content), flags))


@pytest.fixture
def fifo(handle_of):
    reader, writer = os.pipe2(os.O_NONBLOCK)
    return handle_of(reader), handle_of(writer)


def read(handle, offset, size):
    return transfer.read(handle, wire.ReadHandle(1, offset, size)).content


def write(handle, offset, content):
    return transfer.Writing(handle, wire.WriteHandle(1, offset, content)).attempt()


def test_reading_at_an_offset(file):
    handle = file()
    assert [read(handle, *span) for span in ((0, 4), (4, 100), (10, 5), (99, 5), (0, 0))] == [
        b"0123",
        b"456789",
        b"",
        b"",
        b"",
    ]


def polled(handle, events, *, wait=False):
    return transfer.poll(handle, wire.PollHandle(1, events, wait)).number


def test_readiness_of_a_pipe(fifo):
    reader, writer = fifo
    assert [polled(reader, select.POLLIN), polled(writer, select.POLLOUT)] == [0, select.POLLOUT]
    with pytest.raises(BlockingIOError):
        polled(reader, select.POLLIN, wait=True)
    os.write(writer.fd, b"x")
    assert polled(reader, select.POLLIN | select.POLLOUT, wait=True) == select.POLLIN
    assert polled(reader, 0) == 0
    assert polled(reader, -1 & 0xFFFF_FFFF) & select.POLLIN
    os.read(reader.fd, 1)
    reader.early = b"x"  # which the opening has read
    assert polled(reader, select.POLLIN) == select.POLLIN
    with pytest.raises(OSError, match="Bad file descriptor"):
        polled(Handle(2, True), select.POLLIN)


def test_a_file_of_proc_is_read_to_what_was_asked(handle_of):
    handle = handle_of(os.open("/proc/self/smaps", os.O_RDONLY))
    assert len(read(handle, 0, 10000)) == 10000  # the kernel gives one page at a time


def test_writing_at_an_offset_or_the_end(file, at):
    handle = file()
    assert write(handle, 2, b"ab") == Done()
    assert write(handle, 12, b"") == Done()
    assert read(handle, 0, 100) == b"01ab456789"
    write(file(flags=os.O_RDWR | os.O_APPEND), 0, b"!")
    with open(at(b"/file"), "rb") as content:
        assert content.read() == b"0123456789!"


def test_a_fifo_gives_what_is_there(fifo, code_of):
    reader, writer = fifo
    assert code_of(read, reader, 0, 10) == "EAGAIN"
    write(writer, 77, b"abcdef")
    assert read(reader, 500, 4) == b"abcd"
    assert read(reader, 0, 100) == b"ef"


def test_what_was_read_early_comes_first(fifo):
    reader, writer = fifo
    reader.early = b"a"
    assert read(reader, 0, 5) == b"a"
    reader.early = b"b"
    write(writer, 0, b"cd")
    assert read(reader, 0, 2) == b"bc"
    reader.early = b"e"
    assert read(reader, 0, 1) == b"e"
    assert read(reader, 0, 1) == b"d"


def test_writing_goes_on_where_it_stopped(fifo, code_of):
    reader, writer = fifo
    content = os.urandom(300000)
    writing = transfer.Writing(writer, wire.WriteHandle(1, 0, content))
    got = b""
    while code_of(writing.attempt) == "EAGAIN":
        got += read(reader, 0, 65536)
    while len(got) < len(content):
        got += read(reader, 0, 65536)
    assert got == content


def test_devices_are_read_where_they_stand(handle_of):
    handle = handle_of(os.open("/dev/zero", os.O_RDWR | os.O_NONBLOCK))
    assert stat.S_ISCHR(handle.mode)
    assert read(handle, 0, 5) == bytes(5)
    assert write(handle, 0, b"x") == Done()


def test_the_rest(file, handle_of, put, code_of):
    handle = file(b"x" * 10)
    for data_only in (False, True):
        assert transfer.sync(handle, wire.SyncHandle(1, data_only)) == Done()
    transfer.allocate(handle, wire.AllocateHandle(1, 0, 0, 1 << 20))
    assert transfer.stat_handle(handle).stat.size == 1 << 20
    os.ftruncate(handle.fd, 0)
    os.ftruncate(handle.fd, 2 << 20)
    write(handle, 1 << 20, b"x")
    assert transfer.seek(handle, wire.SeekHandle(1, 0, 3)).number == 1 << 20
    assert transfer.seek(handle, wire.SeekHandle(1, 0, 4)).number == 0
    assert code_of(transfer.seek, handle, wire.SeekHandle(1, 0, os.SEEK_SET)) == "EINVAL"
    assert code_of(transfer.seek, handle, wire.SeekHandle(1, 3 << 20, 3)) == "ENXIO"
    target = handle_of(os.open(put(b"/other", b""), os.O_RDWR))
    assert transfer.copy_range(handle, target, wire.CopyRange(1, 1 << 20, 2, 3, 1)).number == 1
    assert read(target, 0, 10) == b"\0\0\0x"


def test_a_directory(handle_of, at, code_of):
    handle = handle_of(os.open(at(b"/"), os.O_RDONLY))
    assert code_of(read, handle, 0, 10) == "EISDIR"
    assert code_of(write, handle, 0, b"x") == "EBADF"
    assert transfer.sync(handle, wire.SyncHandle(1, False)) == Done()


def test_without_a_file(code_of):
    handle = Handle(1, True)
    for call in (lambda: read(handle, 0, 1), lambda: write(handle, 0, b"x"), lambda: transfer.stat_handle(handle)):
        assert code_of(call) == "EBADF"
