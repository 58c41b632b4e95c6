"""Who is told that a set-user-ID program has lost its privileges."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mirrord_trace.supervisor.tracer import privileges
from rig import apart, libc

_PR_SET_NO_NEW_PRIVS = 38


@contextmanager
def _running(program: Path, no_new_privs: bool = True) -> Iterator[int]:
    def restrict() -> None:
        if no_new_privs:
            libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)

    with subprocess.Popen([program], stdin=subprocess.PIPE, preexec_fn=restrict) as process:  # noqa: PLW1509
        try:
            yield process.pid
        finally:
            process.kill()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A program that waits, for the tests to give it bits."""
    return Path(shutil.copy("/bin/cat", tmp_path / "program"))


@apart
def test_a_plain_program_has_nothing_to_lose(copy: Path) -> None:
    with _running(copy) as pid:
        assert privileges.lost(pid) == ""


@apart
def test_its_owners_own_set_user_id_program_loses_nothing(copy: Path) -> None:
    copy.chmod(0o6755)
    with _running(copy) as pid:
        assert privileges.lost(pid) == ""


@apart
@pytest.mark.parametrize("mode", [0o4755, 0o2755])
def test_another_users_or_groups_program_does(copy: Path, mode: int) -> None:
    if os.geteuid() != 0:
        return _with_a_program_of_the_system()
    os.chown(copy, 65534, 65534)
    copy.chmod(mode)
    with _running(copy) as pid:
        text = privileges.lost(pid)
        assert str(copy) in text
        assert "no_new_privs" in text
    with _running(copy, no_new_privs=False) as pid:
        assert privileges.lost(pid) == ""
    return None


# An ordinary user cannot make one.
def _with_a_program_of_the_system() -> None:
    with _running(Path("/bin/su")) as pid:
        assert "no_new_privs" in privileges.lost(pid)


@apart
def test_capabilities_of_a_file_count_as_well(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getxattr", lambda path, name: b"\1")
    with _running(copy) as pid:
        assert "no_new_privs" in privileges.lost(pid)


@apart
def test_who_has_no_new_privileges_anyway_is_not_told(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getxattr", lambda path, name: b"\1")
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    with _running(copy) as pid:
        assert privileges.lost(pid) == ""


def test_of_a_program_that_has_gone_nothing_is_said() -> None:
    assert privileges.lost(2**22 + 1) == ""
