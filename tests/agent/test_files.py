from __future__ import annotations

import errno
import os
import socket

import pytest
from mirrord_trace.agent import files
from mirrord_trace.agent.root import Root
from mirrord_trace.agent.wire.messages import Access, Done, OpenedDirectory, OpenFile, ReadLink, Stat

LIMIT = 1000

# open(2)'s flags on the wire: the numbers of x86-64.
WIRE_DIRECTORY = 0o200000
WIRE_NOFOLLOW = 0o400000
WIRE_PATH = 0o10000000


@pytest.fixture
def root(tmp_path):
    root = Root(os.open("/", os.O_PATH | os.O_DIRECTORY))
    yield root
    root.close()


@pytest.fixture
def at(tmp_path):
    return lambda name: os.path.join(os.fsencode(tmp_path), name)


def put(path, content=b"content"):
    with open(path, "wb") as file:
        file.write(content)


def open_file(root, path, flags=0):
    return files.open_file(root, OpenFile(path, flags, LIMIT, 1))


@pytest.mark.parametrize("size", [0, 1, LIMIT])
def test_a_small_file_comes_whole(root, at, size):
    put(at(b"file"), b"x" * size)
    reply, fd = open_file(root, at(b"file"))
    assert (reply.content, reply.follows, reply.stat.size, fd) == (b"x" * size, False, size, None)


def test_a_large_file_follows_from_its_start(root, at):
    put(at(b"file"), b"x" * (LIMIT + 1))
    reply, fd = open_file(root, at(b"file"))
    assert (reply.content, reply.follows, reply.stat.size) == (b"", True, LIMIT + 1)
    assert os.read(fd, LIMIT + 10) == b"x" * (LIMIT + 1)
    os.close(fd)


def test_a_file_that_says_it_is_empty_is_read_all_the_same(root):
    reply, fd = open_file(root, b"/proc/self/comm")
    assert (reply.stat.size, fd) == (0, None)
    with open("/proc/self/comm", "rb") as file:
        assert reply.content == file.read()
    reply, fd = open_file(root, b"/proc/kallsyms")  # larger than the limit, whatever it says
    assert (reply.stat.size, reply.follows) == (0, True)
    assert len(os.read(fd, 500)) == 500
    os.close(fd)


def test_a_directory_is_listed(root, at):
    os.mkdir(at(b"sub"))
    put(at(b"file"))
    reply, fd = open_file(root, at(b""), WIRE_DIRECTORY)
    assert fd is None
    assert isinstance(reply, OpenedDirectory)
    assert set(reply.names) == {b".", b"..", b"sub", b"file"}
    kinds = dict(zip(reply.names, reply.types, strict=True))
    inodes = dict(zip(reply.names, reply.inodes, strict=True))
    assert (kinds[b"sub"], kinds[b"file"]) == (4, 8)
    assert inodes[b"file"] == os.stat(at(b"file")).st_ino
    assert open_file(root, at(b"")).reply.names == reply.names


def test_o_path_reads_nothing(root, at):
    os.mkfifo(at(b"fifo"))
    put(at(b"file"))
    os.symlink(b"file", at(b"link"))
    for name in (b"fifo", b"file"):
        reply, fd = open_file(root, at(name), WIRE_PATH)
        assert (reply.content, reply.follows, fd) == (b"", False, None)
        assert reply.stat.ino == os.stat(at(name)).st_ino
    link = open_file(root, at(b"link"), WIRE_PATH | WIRE_NOFOLLOW).reply
    assert link.stat.ino == os.lstat(at(b"link")).st_ino
    assert open_file(root, at(b""), WIRE_PATH).reply.names == ()


def failure(call, *arguments):
    with pytest.raises(OSError) as caught:
        call(*arguments)
    return caught.value.errno


def test_what_is_not_a_file_is_not_touched(root, at):
    os.mkfifo(at(b"fifo"))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(at(b"socket"))
        for path in (at(b"fifo"), at(b"socket"), b"/dev/null"):
            assert failure(open_file, root, path) == errno.EOPNOTSUPP


def test_open_errors(root, at):
    put(at(b"file"))
    os.symlink(b"file", at(b"link"))
    assert failure(open_file, root, at(b"none")) == errno.ENOENT
    assert failure(open_file, root, at(b"file/x")) == errno.ENOTDIR
    assert failure(open_file, root, at(b"file"), WIRE_DIRECTORY) == errno.ENOTDIR
    assert failure(open_file, root, at(b"link"), WIRE_NOFOLLOW) == errno.ELOOP
    assert failure(open_file, root, at(b"link"), WIRE_NOFOLLOW | WIRE_DIRECTORY) == errno.ENOTDIR


def test_flags_are_those_of_x86_64_on_every_machine(at, monkeypatch):
    put(at(b"file"))
    asked = []

    class Recorder:
        """A root that records what it is asked."""

        def open_path(self, path, *, follow, directory):
            asked.append((follow, directory))
            return os.open(path, os.O_PATH | os.O_CLOEXEC)

    monkeypatch.setattr(os, "O_DIRECTORY", 0o40000)  # those of aarch64
    monkeypatch.setattr(os, "O_NOFOLLOW", 0o100000)
    for flags in (0o40000 | 0o100000, WIRE_DIRECTORY, WIRE_NOFOLLOW):
        assert open_file(Recorder(), at(b"file"), flags).reply.content == b"content"
    assert asked == [(True, False), (True, True), (False, False)]


def test_permissions_are_the_agents(root, at):
    if os.geteuid() == 0:
        pytest.skip("root may read everything: this needs an ordinary user")
    put(at(b"file"))
    os.chmod(at(b"file"), 0)
    assert failure(open_file, root, at(b"file")) == errno.EACCES
    assert failure(files.access, root, Access(at(b"file"), os.R_OK, True)) == errno.EACCES
    assert open_file(root, at(b"file"), WIRE_PATH).reply.stat.mode & 0o777 == 0


def test_stat_follows_or_not(root, at):
    put(at(b"file"))
    os.symlink(b"file", at(b"link"))
    assert files.stat_file(root, Stat(at(b"link"), True)).stat.ino == os.stat(at(b"file")).st_ino
    assert files.stat_file(root, Stat(at(b"link"), False)).stat.ino == os.lstat(at(b"link")).st_ino
    assert failure(files.stat_file, root, Stat(at(b"none"), True)) == errno.ENOENT


def test_access(root, at):
    put(at(b"file"))
    os.symlink(b"nowhere", at(b"link"))
    assert files.access(root, Access(at(b"file"), os.R_OK, True)) == Done()
    assert files.access(root, Access(at(b"link"), os.F_OK, False)) == Done()
    assert failure(files.access, root, Access(at(b"link"), os.F_OK, True)) == errno.ENOENT
    assert failure(files.access, root, Access(at(b"file"), os.X_OK, True)) == errno.EACCES


def test_read_link(root, at):
    put(at(b"file"))
    os.symlink(b"no \xff where", at(b"link"))
    assert files.read_link(root, ReadLink(at(b"link"))).target == b"no \xff where"
    assert failure(files.read_link, root, ReadLink(at(b"file"))) == errno.EINVAL
    assert failure(files.read_link, root, ReadLink(at(b""))) == errno.EINVAL
    assert failure(files.read_link, root, ReadLink(at(b"none"))) == errno.ENOENT


def test_no_descriptor_is_leaked(root, at):
    put(at(b"file"))
    os.mkfifo(at(b"fifo"))
    before = os.listdir("/proc/self/fd")
    open_file(root, at(b"file"))
    open_file(root, at(b""))
    for name in (b"none", b"fifo"):
        failure(open_file, root, at(name))
    assert os.listdir("/proc/self/fd") == before
