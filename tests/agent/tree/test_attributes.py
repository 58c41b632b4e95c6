from __future__ import annotations

import os
import stat

import pytest
from mirrord_trace.agent.tree import attributes
from mirrord_trace.agent.tree.paths import open_object
from mirrord_trace.agent.wire import file_messages as wire
from mirrord_trace.agent.wire.messages import Done

MODE, UID, GID, SIZE = wire.SET_MODE, wire.SET_UID, wire.SET_GID, wire.SET_SIZE
TIMES, ATIME_NOW, MTIME_NOW = wire.SET_ATIME | wire.SET_MTIME, wire.SET_ATIME_NOW, wire.SET_MTIME_NOW

pytestmark = pytest.mark.usefixtures("same_fds")


def asked(what, mode=0, uid=0, gid=0, size=0, atime_ns=0, mtime_ns=0):
    return wire.SetAttributes(b"", 0, what, mode, uid, gid, size, atime_ns, mtime_ns)


@pytest.fixture
def change(root):
    def by_path(path, *arguments, **values):
        with open_object(root, path) as fd:
            return attributes.set_attributes(fd, asked(*arguments, **values)).stat

    return by_path


def test_only_what_is_asked_for(change, put, at):
    put(b"/file", b"content", 0o640)
    before = os.stat(at(b"/file"))
    after = change(b"/file", 0, mode=0o777, uid=7, size=1, mtime_ns=1)
    assert (after.mode, after.uid, after.size, after.mtime_ns) == (
        before.st_mode, before.st_uid, before.st_size, before.st_mtime_ns,
    )  # fmt: skip
    assert change(b"/file", MODE, mode=stat.S_IFDIR | 0o4711).mode == stat.S_IFREG | 0o4711
    assert change(b"/file", SIZE, size=3).size == 3
    assert change(b"/file", SIZE, size=30).size == 30


def test_times(change, put):
    put(b"/file")
    after = change(b"/file", TIMES, atime_ns=1234567890123456789, mtime_ns=-5)
    assert (after.atime_ns, after.mtime_ns) == (1234567890123456789, -5)
    after = change(b"/file", wire.SET_MTIME, mtime_ns=7)
    assert (after.atime_ns, after.mtime_ns) == (1234567890123456789, 7)
    after = change(b"/file", wire.SET_ATIME | ATIME_NOW, atime_ns=9)
    assert after.mtime_ns == 7
    assert after.atime_ns > 1600000000 * 10**9
    assert change(b"/file", TIMES | MTIME_NOW, atime_ns=3).mtime_ns > 10**18


def test_size_then_times(change, put):
    put(b"/file")
    after = change(b"/file", SIZE | TIMES | MODE, size=1, mode=0o600, atime_ns=1, mtime_ns=2)
    assert (after.size, after.mode & 0o777, after.atime_ns, after.mtime_ns) == (1, 0o600, 1, 2)


def test_the_owner_then_the_mode(change, put):
    if os.geteuid() != 0:
        pytest.skip("giving files away: this needs root")
    put(b"/file", mode=0o755)
    after = change(b"/file", UID | GID | MODE, uid=1234, gid=99, mode=0o4755)
    assert (after.uid, after.gid, after.mode & 0o7777) == (1234, 99, 0o4755)
    after = change(b"/file", GID, uid=1, gid=98)
    assert (after.uid, after.gid) == (1234, 98)


def test_a_link_itself(change, put, at, code_of):
    put(b"/file", mode=0o600)
    os.symlink(b"file", at(b"/link"))
    assert change(b"/link", wire.SET_MTIME, mtime_ns=77).mtime_ns == 77
    assert os.lstat(at(b"/link")).st_mtime_ns == 77 != os.stat(at(b"/file")).st_mtime_ns
    assert code_of(lambda: change(b"/link", MODE, mode=0o777)) == "ENOTSUP"
    assert code_of(lambda: change(b"/link", SIZE, size=1)) in ("ELOOP", "EINVAL")
    if os.geteuid() == 0:
        assert change(b"/link", UID, uid=1234).uid == 1234
        assert os.stat(at(b"/file")).st_uid == 0


def test_an_open_file_is_cut_without_asking_again(put, at):
    fd = os.open(put(b"/file", mode=0o600), os.O_RDWR)
    os.chmod(at(b"/file"), 0)
    os.unlink(at(b"/file"))
    after = attributes.set_attributes(fd, asked(SIZE | MODE, size=2, mode=0o644), is_writable=True).stat
    os.close(fd)
    assert (after.size, after.mode & 0o777, after.nlink) == (2, 0o644, 0)


def test_extended_attributes(root, put, at, code_of):
    put(b"/file")
    with open_object(root, b"/file") as fd:
        try:
            assert attributes.set_xattr(fd, wire.SetXattr(b"", 0, b"user.one", b"a\0b", 0)) == Done()
        except OSError as error:
            pytest.skip(f"the file system has no user attributes: {error}")
        attributes.set_xattr(fd, wire.SetXattr(b"", 0, b"user.\xff", b"", 1))
        assert code_of(attributes.set_xattr, fd, wire.SetXattr(b"", 0, b"user.one", b"c", 1)) == "EEXIST"
        assert code_of(attributes.set_xattr, fd, wire.SetXattr(b"", 0, b"user.two", b"c", 2)) == "ENODATA"
        assert attributes.get_xattr(fd, wire.GetXattr(b"", 0, b"user.one")) == wire.Content(b"a\0b")
        listed = attributes.list_xattr(fd, wire.ListXattr(b"", 0)).content
        assert {b"user.one", b"user.\xff"} <= set(listed[:-1].split(b"\0"))
        attributes.remove_xattr(fd, wire.RemoveXattr(b"", 0, b"user.one"))
        assert code_of(attributes.get_xattr, fd, wire.GetXattr(b"", 0, b"user.one")) == "ENODATA"


def test_extended_attributes_of_a_link_itself(root, put, at, code_of):
    put(b"/file")
    os.symlink(b"file", at(b"/link"))
    with open_object(root, b"/link") as fd:
        assert code_of(attributes.set_xattr, fd, wire.SetXattr(b"", 0, b"user.one", b"x", 0)) == "EPERM"
        if os.geteuid() != 0:
            pytest.skip("attributes of links: this needs root")
        attributes.set_xattr(fd, wire.SetXattr(b"", 0, b"trusted.one", b"x", 0))
    assert os.getxattr(at(b"/link"), b"trusted.one", follow_symlinks=False) == b"x"
    assert b"trusted.one" not in map(os.fsencode, os.listxattr(at(b"/file")))


def test_the_file_systems_numbers(root, at):
    os.symlink(b"/proc", at(b"/link"))
    found = os.statvfs(at(b"/"))
    for path in (b"/", b"/link"):
        with open_object(root, path) as fd:
            told = attributes.stat_fs(fd)
        assert (told.blocks, told.files, told.block_size, told.fragment_size, told.name_length) == (
            found.f_blocks, found.f_files, found.f_bsize, found.f_frsize, found.f_namemax,
        )  # fmt: skip
