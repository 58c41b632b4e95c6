from __future__ import annotations

import os
import stat

import pytest
from mirrord_trace.agent.tree.handles import Handle
from mirrord_trace.agent.tree.opening import Opening
from mirrord_trace.agent.wire.file_messages import OpenHandle

# open(2)'s flags on the wire: the numbers of x86-64.
RDONLY, WRONLY, RDWR, CREAT, EXCL, TRUNC, APPEND, NONBLOCK = 0, 1, 2, 0o100, 0o200, 0o1000, 0o2000, 0o4000
DIRECTORY, NOATIME, PATH, TMPFILE = 0o200000, 0o1000000, 0o10000000, 0o20200000

pytestmark = pytest.mark.usefixtures("same_fds")


@pytest.fixture
def opener(root):
    """`opener(path, flags, ...)`: the handle, and the opening that has not been tried yet."""
    made = []

    def make(path, flags=RDONLY, mode=0, source=None):
        handle = Handle(1, not flags & NONBLOCK)
        opening = Opening(root, OpenHandle(1, path, flags, mode, 0), handle, source)
        made.append((handle, opening))
        return handle, opening

    yield make
    for handle, opening in made:
        opening.abandon()
        if handle.fd >= 0:
            os.close(handle.fd)


@pytest.fixture
def opened(opener):
    def do(*arguments, **options):
        handle, opening = opener(*arguments, **options)
        found = opening.attempt().stat
        assert (found.mode, found.ino) == (handle.mode, os.fstat(handle.fd).st_ino)
        return handle

    return do


def test_a_file_that_is_there(opened, put):
    put(b"/file")
    assert os.read(opened(b"/file").fd, 100) == b"content"
    handle = opened(b"/file", RDWR | APPEND)
    assert handle.flags == RDWR | APPEND
    assert handle.is_writable
    assert os.write(handle.fd, b"!") == 1
    assert os.fstat(opened(b"/file", WRONLY | TRUNC).fd).st_size == 0


def test_a_file_that_is_made(opened, opener, at, code_of):
    before = os.umask(0)
    handle = opened(b"/file", RDWR | CREAT | EXCL, 0o666)
    os.umask(before)
    assert stat.S_IMODE(os.stat(at(b"/file")).st_mode) == 0o666
    assert os.write(handle.fd, b"x") == 1
    assert code_of(opener(b"/file", RDWR | CREAT | EXCL, 0o666)[1].attempt) == "EEXIST"
    assert os.read(opened(b"/file", RDONLY | CREAT, 0o666).fd, 10) == b"x"
    assert opened(b"/read-only", RDWR | CREAT, 0o400).fd >= 0


def test_errors_are_the_kernels(opener, at, put, code_of):
    put(b"/file")
    os.mkdir(at(b"/directory"))
    os.symlink(b"file", at(b"/link"))
    os.symlink(b"none", at(b"/dangling"))
    os.mknod(at(b"/socket"), stat.S_IFSOCK | 0o600)
    for path, flags, code in (
        (b"/none", RDONLY, "ENOENT"),
        (b"/file/x", RDONLY, "ENOTDIR"),
        (b"/link", RDONLY, "ELOOP"),
        (b"/link", RDWR | CREAT, "ELOOP"),
        (b"/dangling", RDWR | CREAT, "ELOOP"),
        (b"/directory", RDWR, "EISDIR"),
        (b"/directory", RDWR | CREAT, "EISDIR"),
        (b"/..", RDWR | CREAT, "EISDIR"),
        (b"/", RDWR | CREAT, "EISDIR"),
        (b"/file", DIRECTORY, "ENOTDIR"),
        (b"/file", DIRECTORY | PATH, "ENOTDIR"),
        (b"/socket", RDONLY, "ENXIO"),
        (b"/socket", WRONLY | CREAT, "ENXIO"),
        (b"/file", TMPFILE | RDWR, "ENOTDIR"),
    ):
        assert code_of(opener(path, flags)[1].attempt) == code, (path, flags)


def test_directories_and_paths(opened, at, put):
    os.mkdir(at(b"/directory"))
    put(b"/file", mode=0)
    os.symlink(b"file", at(b"/link"))
    os.mkfifo(at(b"/fifo"))
    os.fsync(opened(b"/directory").fd)
    opened(b"/", DIRECTORY)
    for path in (b"/file", b"/link", b"/fifo", b"/directory"):
        assert os.fstat(opened(path, PATH).fd).st_ino == os.lstat(at(path)).st_ino


def test_a_file_without_a_name(opener, at, code_of):
    handle, opening = opener(b"/", TMPFILE | RDWR, 0o640)
    if code_of(opening.attempt):
        pytest.skip("the file system has no O_TMPFILE")
    assert os.fstat(handle.fd).st_nlink == 0
    assert stat.S_IMODE(handle.mode) == 0o640
    assert os.listdir(at(b"/")) == []


def test_once_more_by_handle(opened, put, at):
    put(b"/file")
    source = opened(b"/file", PATH)
    os.unlink(at(b"/file"))
    again = opened(b"", RDWR | CREAT | EXCL, source=source)
    assert os.read(again.fd, 100) == b"content"
    third = opened(b"", PATH, source=again)
    assert os.path.samestat(os.fstat(third.fd), os.fstat(again.fd))


def test_flags_are_those_of_x86_64_on_every_machine(opener, put, monkeypatch):
    put(b"/file")
    asked = []
    real = os.open
    monkeypatch.setattr(os, "O_DIRECTORY", 0o40000)  # that of aarch64
    monkeypatch.setattr(os, "open", lambda path, flags, *rest, **options: asked.append(flags) or real(b"/", os.O_PATH))
    _, opening = opener(b"/file", DIRECTORY | NOATIME | 0o40000)
    opening.attempt()
    assert asked == [os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | 0o40000 | NOATIME]


def test_a_fifo_opened_for_writing_waits_for_a_reader(opener, at, code_of):
    os.mkfifo(at(b"/fifo"))
    for flags in (WRONLY, WRONLY | CREAT):
        handle, opening = opener(b"/fifo", flags)
        assert code_of(opening.attempt) == code_of(opening.attempt) == "EAGAIN"
        reader = os.open(at(b"/fifo"), os.O_RDONLY | os.O_NONBLOCK)
        opening.attempt()
        assert os.write(handle.fd, b"x") == 1
        os.close(reader)
    assert code_of(opener(b"/fifo", WRONLY | NONBLOCK)[1].attempt) == "ENXIO"


def test_a_fifo_opened_for_reading_waits_for_a_writer_and_lets_it_in(opener, at, code_of):
    os.mkfifo(at(b"/fifo"))
    handle, opening = opener(b"/fifo")
    assert code_of(opening.attempt) == code_of(opening.attempt) == "EAGAIN"
    writer = os.open(at(b"/fifo"), os.O_WRONLY | os.O_NONBLOCK)  # ENXIO if we were no reader yet
    opening.attempt()
    assert handle.early == b""
    os.close(writer)


def test_a_writer_that_has_come_and_gone_counts(opener, at, code_of):
    os.mkfifo(at(b"/fifo"))
    for content in (b"", b"content"):
        handle, opening = opener(b"/fifo")
        assert code_of(opening.attempt) == "EAGAIN"
        with open(at(b"/fifo"), "wb") as writer:
            writer.write(content)
        opening.attempt()
        assert os.read(handle.fd, 100) == content
        os.close(handle.fd)
        handle.fd = -1


def test_a_fifo_that_is_not_waited_for(opened, at):
    os.mkfifo(at(b"/fifo"))
    for flags in (RDONLY | NONBLOCK, RDWR):
        assert stat.S_ISFIFO(opened(b"/fifo", flags).mode)


def test_giving_up_leaves_nothing_open(opener, at, code_of):
    os.mkfifo(at(b"/fifo"))
    for flags in (RDONLY, WRONLY):
        _, opening = opener(b"/fifo", flags)
        assert code_of(opening.attempt) == "EAGAIN"
        opening.abandon()
