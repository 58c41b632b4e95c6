from __future__ import annotations

import errno
import os
import signal
import stat

import pytest
from mirrord_trace.agent import kernel


def test_file_stat_agrees_with_fstat(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    os.utime(path, ns=(1_000_000_001, 2_000_000_002))
    for target in (path, tmp_path, "/dev/null", "/proc/self/status"):
        fd = os.open(target, os.O_PATH)
        found, expected = kernel.file_stat(fd), os.fstat(fd)
        os.close(fd)
        for field in ("dev", "ino", "mode", "nlink", "uid", "gid", "rdev", "size", "blksize", "blocks"):
            assert getattr(found, field) == getattr(expected, "st_" + field), field
        assert (found.mtime_ns, found.ctime_ns) == (expected.st_mtime_ns, expected.st_ctime_ns)
        assert found.btime_ns == -1 or found.btime_ns > 0


def test_without_statx_there_is_no_birth_time(tmp_path, monkeypatch):
    def refused(*arguments):
        raise OSError(errno.ENOSYS, "no statx")

    monkeypatch.setattr(kernel, "_syscall", refused)
    fd = os.open(tmp_path, os.O_PATH)
    found = kernel.file_stat(fd)
    os.close(fd)
    assert (found.btime_ns, found.ino) == (-1, os.stat(tmp_path).st_ino)


def test_directory_entries_are_the_kernels(tmp_path):
    (tmp_path / "directory").mkdir()
    (tmp_path / os.fsdecode(b"not utf-8 \xff")).write_bytes(b"")
    os.symlink("nowhere", tmp_path / "link")
    os.mkfifo(tmp_path / "fifo")
    fd = os.open(tmp_path, os.O_RDONLY)
    entries = {entry.name: entry for entry in kernel.directory_entries(fd)}
    os.close(fd)
    assert set(entries) == {b".", b"..", b"directory", b"not utf-8 \xff", b"link", b"fifo"}
    for name, entry in entries.items():
        expected = os.lstat(os.path.join(os.fsencode(tmp_path), name))
        assert entry.inode == expected.st_ino
        assert entry.type == stat.S_IFMT(expected.st_mode) >> 12


def test_many_directory_entries_take_several_calls(tmp_path):
    names = {b"%0200d" % number for number in range(1000)}
    for name in names:
        os.close(os.open(os.path.join(os.fsencode(tmp_path), name), os.O_CREAT | os.O_WRONLY))
    fd = os.open(tmp_path, os.O_RDONLY)
    assert {entry.name for entry in kernel.directory_entries(fd)} == names | {b".", b".."}
    os.close(fd)


def test_openat2_refuses_a_nul_and_reports_the_errno():
    with pytest.raises(OSError) as caught:
        kernel.openat2(-100, b"a\0b", os.O_PATH, 0)
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(FileNotFoundError):
        kernel.openat2(kernel.AT_FDCWD, b"/no/such", os.O_PATH, 0)


def test_access_has_an_errno(tmp_path):
    kernel.access(os.fsencode(tmp_path), os.R_OK)
    with pytest.raises(FileNotFoundError):
        kernel.access(b"/no/such", os.F_OK)
    path = tmp_path / "plain"
    path.write_bytes(b"")
    path.chmod(0o600)
    with pytest.raises(PermissionError):
        kernel.access(os.fsencode(path), os.X_OK)


def test_setns_reports_the_errno():
    with open("/dev/null") as file, pytest.raises(OSError) as caught:
        kernel.setns(file.fileno(), kernel.CLONE_NEWNET)
    assert caught.value.errno == errno.EINVAL


def test_a_child_dies_with_its_parent():
    reader, writer = os.pipe()
    parent = os.fork()
    if parent == 0:
        child = os.fork()
        if child == 0:
            kernel.set_process_name(b"dies-with-parent")
            kernel.set_parent_death_signal(signal.SIGKILL)
            os.write(writer, b"%d" % os.getpid())
            while True:
                signal.pause()
        while True:
            signal.pause()
    pid = int(os.read(reader, 20))
    with open(f"/proc/{pid}/comm") as comm:
        assert comm.read() == "dies-with-paren\n"
    os.close(writer)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    assert os.read(reader, 1) == b""  # the last writer is gone
    os.close(reader)
