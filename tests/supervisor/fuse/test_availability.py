"""Machines and containers with something missing. They are told by files, since the tests may run as root."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest
from mirrord_trace.supervisor.fuse import availability
from mirrord_trace.supervisor.fuse.availability import Obstacle, find_obstacle, fuse_obstacle, fusermount

ALL = "000001ffffffffff"
NONE = "0000000000000000"
NOT_SYS_ADMIN = f"{(1 << 41) - 1 & ~(1 << 21):016x}"


class Machine:
    """A device, /proc and PATH of the test's making."""

    def __init__(self, folder: Path) -> None:
        self.device = folder / "fuse"
        self.device.touch()
        self.proc = folder / "proc"
        self.search = folder / "bin"
        self.search.mkdir()
        self.tell(NONE)

    def tell(self, effective: str, bounding: str = ALL, no_new_privs: int = 0) -> None:
        (self.proc / "self").mkdir(parents=True, exist_ok=True)
        text = f"Name:\tx\nCapEff:\t{effective}\nCapBnd:\t{bounding}\nNoNewPrivs:\t{no_new_privs}\n"
        (self.proc / "self/status").write_text(text)

    def install(self, name: str = "fusermount3") -> Path:
        program = self.search / name
        program.touch(0o755)
        return program

    def obstacle(self) -> Obstacle:
        found = find_obstacle(self.device, self.proc, str(self.search))
        assert found is not None
        return found


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Of an ordinary user with a device, and without fusermount3."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    return Machine(tmp_path)


def _always_setuid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(availability, "_is_setuid_root", lambda program: True)


def test_without_the_device(machine: Machine) -> None:
    machine.device.unlink()
    found = machine.obstacle()
    assert found.what == f"there is no {machine.device}"
    assert "modprobe fuse" in found.remedy
    assert "docker run --device /dev/fuse --cap-add SYS_ADMIN" in found.remedy


@pytest.mark.parametrize(
    ("number", "what", "remedy"),
    [
        (errno.EPERM, "may not be used in this container", "docker run --device /dev/fuse"),
        (errno.EACCES, "may not be opened by this user", "chmod 666"),
    ],
)
def test_the_device_may_not_be_used(
    machine: Machine, number: int, what: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object, flags: int) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    found = machine.obstacle()
    assert what in found.what
    assert remedy in found.remedy


def test_something_else_in_the_place_of_the_device(machine: Machine) -> None:
    machine.device.unlink()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(machine.device))
        assert "cannot be opened (No such device or address)" in machine.obstacle().what


def test_the_capability_is_enough(machine: Machine) -> None:
    machine.tell(ALL, no_new_privs=1)
    assert find_obstacle(machine.device, machine.proc, str(machine.search)) is None


def test_root_without_the_capability(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    machine.tell(NOT_SYS_ADMIN)
    machine.install()
    found = machine.obstacle()
    assert "CAP_SYS_ADMIN" in found.what
    assert "--cap-add SYS_ADMIN" in found.remedy


def test_without_fusermount(machine: Machine) -> None:
    assert machine.obstacle() == Obstacle("there is no fusermount3", "sudo apt-get install fuse3")


@pytest.mark.parametrize("name", ["fusermount3", "fusermount"])
def test_fusermount_is_found(machine: Machine, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = machine.install(name)
    assert fusermount(str(machine.search)) == str(program)
    _always_setuid(monkeypatch)
    assert find_obstacle(machine.device, machine.proc, str(machine.search)) is None


@pytest.mark.parametrize(
    ("bounding", "no_new_privs", "what"),
    [(ALL, 1, "no_new_privs is set"), (NOT_SYS_ADMIN, 0, "capability bounding set"), (NONE, 0, "capability bounding set")],
)
def test_fusermount_may_gain_nothing(
    machine: Machine, bounding: str, no_new_privs: int, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.install()
    _always_setuid(monkeypatch)
    machine.tell(NONE, bounding, no_new_privs)
    assert what in machine.obstacle().what


def test_fusermount_without_its_bit(machine: Machine) -> None:
    program = machine.install()
    assert machine.obstacle().what == f"{program} is not set-user-ID root"
    program.unlink()
    program.symlink_to("nowhere")
    assert not availability._is_setuid_root(str(program))


def test_one_line_for_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(availability, "find_obstacle", lambda: Obstacle("it is missing", "get it"))
    assert fuse_obstacle() == "it is missing: get it"
    monkeypatch.setattr(availability, "find_obstacle", lambda: None)
    assert fuse_obstacle() == ""


def test_without_proc_there_are_no_rights(machine: Machine, tmp_path: Path) -> None:
    machine.install()
    assert find_obstacle(machine.device, tmp_path / "nowhere", str(machine.search)) is not None
