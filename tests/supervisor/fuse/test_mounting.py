from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mirrord_trace.supervisor.fuse import mounting
from mirrord_trace.supervisor.fuse.availability import fuse_obstacle
from mirrord_trace.supervisor.fuse.mounting import MountedTree, MountError, device_number, mount


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where mount points are made."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def keep() -> Iterator[Callable[[MountedTree], MountedTree]]:
    """What is given here is closed at the end."""
    fds: list[int] = []

    def kept(mounted: MountedTree) -> MountedTree:
        fds.extend(mounted)
        return mounted

    yield kept
    for fd in fds:
        os.close(fd)


def ways() -> list[Callable[[], MountedTree]]:
    """Those that this user has: root may use the helper too."""
    if fuse_obstacle():
        pytest.skip(fuse_obstacle())
    return [mount, mounting._by_fusermount] if os.geteuid() == 0 else [mount]


def mounts() -> list[str]:
    return Path("/proc/self/mountinfo").read_text().splitlines()


def test_what_is_mounted_is_attached_nowhere(temporary: Path, keep: Callable[[MountedTree], MountedTree]) -> None:
    before = mounts()
    for way in ways():
        mounted = keep(way())
        assert mounts() == before
        assert list(temporary.iterdir()) == []
        assert os.readlink(f"/proc/self/fd/{mounted.device}") == "/dev/fuse"
        for fd in mounted:
            assert not os.get_inheritable(fd)
        with pytest.raises(OSError) as caught:  # O_PATH
            os.read(mounted.root, 1)
        assert caught.value.errno == errno.EBADF


def test_device_numbers_are_each_mounts_own(temporary: Path, keep: Callable[[MountedTree], MountedTree]) -> None:
    """Found without asking who serves it: nobody does."""
    numbers = [device_number(keep(way()).root) for way in ways() * 2]
    assert len(set(numbers)) == len(numbers)
    assert 0 not in numbers


def test_the_end_of_the_server_is_the_end_of_the_file_system(temporary: Path) -> None:
    for way in ways():
        mounted = way()
        os.close(mounted.device)
        with pytest.raises(OSError) as caught:
            os.listdir(f"/proc/self/fd/{mounted.root}")
        assert caught.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
        os.close(mounted.root)


def test_root_needs_no_helper(monkeypatch: pytest.MonkeyPatch, keep: Callable[[MountedTree], MountedTree]) -> None:
    if os.geteuid():
        pytest.skip("this needs root")
    ways()
    monkeypatch.setenv("PATH", "/nowhere")
    keep(mount())


def test_an_ordinary_user_needs_the_helper(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not os.geteuid():
        pytest.skip("root needs no helper: this needs an ordinary user")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MountError, match="fuse3"):
        mount()


# -- what goes wrong ----------------------------------------------------------------------------------------------------


def open_fds() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_without_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounting, "_DEVICE", str(tmp_path / "none"))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(MountError, match="none: No such file"):
        mount()


def test_where_root_may_not_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container without CAP_SYS_ADMIN, say; here the system call does not exist."""
    (tmp_path / "fuse").touch()
    monkeypatch.setattr(mounting, "_DEVICE", str(tmp_path / "fuse"))
    monkeypatch.setattr(mounting, "_FSOPEN", 0xFFFF)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    before = open_fds()
    with pytest.raises(MountError, match="not implemented"):
        mount()
    assert open_fds() == before


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temporary: Path) -> Callable[[str], None]:
    """A fusermount3 of the test's making, and nothing else on the way to it."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    def write(script: str) -> None:
        program = tmp_path / "bin/fusermount3"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    return write


def test_without_the_helper(helper: Callable[[str], None]) -> None:
    with pytest.raises(MountError, match="there is no fusermount3: install the package fuse3"):
        mount()


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("echo 'fusermount3: mount failed: Operation not permitted' >&2; exit 1", "mount failed: Operation not permitted"),
        ("exit 3", "fusermount3 ended with status 3"),
        ("exit 0", "fusermount3 ended with status 0"),
    ],
)
def test_what_the_helper_says(helper: Callable[[str], None], temporary: Path, script: str, text: str) -> None:
    helper(script)
    before = open_fds()
    with pytest.raises(MountError, match=text):
        mount()
    assert open_fds() == before
    assert list(temporary.iterdir()) == []


def test_a_helper_that_hangs(helper: Callable[[str], None], temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounting, "_HELPER_TIMEOUT_S", 0.1)
    helper("exec /bin/sleep 100")
    with pytest.raises(MountError, match="fusermount3: Connection timed out"):
        mount()
    assert list(temporary.iterdir()) == []


def test_how_the_helper_is_called(helper: Callable[[str], None], temporary: Path) -> None:
    helper(f'echo "$@" >> {temporary.parent}/calls')
    with pytest.raises(MountError):
        mount()
    (call,) = (temporary.parent / "calls").read_text().splitlines()
    assert call.startswith("-o rw,nosuid,nodev,fsname=mirrord-trace,subtype=mirrord-trace -- ")
