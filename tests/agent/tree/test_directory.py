from __future__ import annotations

import os
import socket
import struct
import time

import pytest
from mirrord_trace.agent.root import Root
from mirrord_trace.agent.tree.directory import read_directory
from mirrord_trace.agent.wire.file_messages import ReadDirectory
from mirrord_trace.agent.wire.stats import GONE, pack_stat, unpack_stats


@pytest.fixture
def listed(root, same_fds):
    def read(path, stat_limit=1000):
        entries = read_directory(root, ReadDirectory(path, stat_limit))
        names = entries.names.split(b"\0") if entries.names else []
        assert len(names) == len(entries.types) == len(entries.inodes) // 8
        return names, entries

    return read


def test_entries_with_kinds_attributes_and_targets(listed, at, put, monkeypatch):
    put(b"/file")
    os.mkdir(at(b"/sub"))
    os.mkfifo(at(b"/fifo"))
    os.symlink(b"no\xff where", at(b"/link"))
    os.symlink(b"file", at(b"/other"))
    with socket.socket(socket.AF_UNIX) as sock:
        monkeypatch.chdir(os.fsdecode(at(b"/")))
        sock.bind("socket")
        names, entries = listed(b"/")
    assert sorted(names) == [b"fifo", b"file", b"link", b"other", b"socket", b"sub"]
    kinds = dict(zip(names, entries.types, strict=True))
    assert [kinds[name] for name in sorted(names)] == [1, 8, 10, 10, 12, 4]
    stats = dict(zip(names, unpack_stats(entries.stats), strict=True))
    for name, inode in zip(names, struct.unpack(f"<{len(names)}Q", entries.inodes), strict=True):
        assert stats[name].ino == inode == os.lstat(at(b"/" + name)).st_ino
        assert stats[name].mode == os.lstat(at(b"/" + name)).st_mode
    links = [name for name in names if kinds[name] == 10]
    assert entries.targets.split(b"\0") == [os.readlink(at(b"/" + name)) for name in links]


def test_as_many_attributes_as_asked_for(listed, at, put):
    for number in range(5):
        put(b"/%d" % number)
    for limit, count in ((0, 0), (3, 3), (5, 5), (99, 5), (-1, 0)):
        assert len(unpack_stats(listed(b"/", limit)[1].stats)) == count


def test_no_more_entries_than_asked_for_on_a_guess(root, at, put, code_of, same_fds):
    os.mkdir(at(b"/d"))
    for number in range(3):
        put(b"/d/%d" % number)
    assert len(read_directory(root, ReadDirectory(b"/d", 9, 3)).types) == 3
    assert code_of(read_directory, root, ReadDirectory(b"/d", 9, 2)) == "E2BIG"


def test_an_empty_one(listed, at):
    os.mkdir(at(b"/empty"))
    names, entries = listed(b"/empty")
    assert (names, entries.types, entries.inodes, entries.stats, entries.targets) == ([], b"", b"", b"", b"")


def test_the_directory_itself_and_its_parent(listed, at):
    os.makedirs(at(b"/a/b"))
    for path, parent in ((b"/a/b", b"/a"), (b"/a", b"/"), (b"/", b"/")):
        own = unpack_stats(listed(path)[1].own)
        assert [entry.ino for entry in own] == [os.stat(at(path)).st_ino, os.stat(at(parent)).st_ino]


def test_what_is_no_directory(root, at, put, code_of, same_fds):
    put(b"/file")
    os.symlink(b"/", at(b"/link"))
    for path, code in ((b"/file", "ENOTDIR"), (b"/link", "ENOTDIR"), (b"/none", "ENOENT"), (b"/file/x", "ENOTDIR")):
        assert code_of(read_directory, root, ReadDirectory(path, 0)) == code


def test_one_that_may_be_listed_but_not_searched(listed, at, put):
    if os.geteuid() == 0:
        pytest.skip("root may search everything: this needs an ordinary user")
    os.mkdir(at(b"/sub"))
    put(b"/sub/file")
    os.chmod(at(b"/sub"), 0o400)
    names, entries = listed(b"/sub")
    os.chmod(at(b"/sub"), 0o700)
    assert (names, entries.stats) == ([b"file"], GONE)


def test_what_proc_tells_of_the_network(same_fds):
    root = Root(os.open("/", os.O_PATH))
    entries = read_directory(root, ReadDirectory(b"/proc/self/net", 0))
    root.close()
    assert b"tcp" in entries.names.split(b"\0")
    assert pack_stat(unpack_stats(entries.own)[0]) != GONE


def test_ten_thousand_entries_in_little_time(listed, at):
    for number in range(10000):
        os.mknod(at(b"/%d" % number))
    times = []
    for _ in range(3):
        start = time.perf_counter()
        listed(b"/", 10000)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.2
