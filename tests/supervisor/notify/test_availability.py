"""What the machine is found to offer."""

from __future__ import annotations

import errno
import os

import pytest
from mirrord_trace.supervisor.notify import availability
from mirrord_trace.supervisor.notify.availability import Support, install_with_listener, is_outranked, support
from notified import code
from rig import CALL, apart


@apart
def test_here() -> None:
    """All other tests of this engine need it, too."""
    assert support() is Support.KILLABLE
    assert not is_outranked()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@apart
def test_no_second_listener() -> None:
    listener, is_killable = install_with_listener(code([CALL]))
    assert is_killable
    assert support() is Support.TAKEN
    assert is_outranked()
    with pytest.raises(OSError) as refused:
        install_with_listener(code([CALL]))
    assert refused.value.errno == errno.EBUSY
    os.close(listener)


def test_descriptors_of_others_are_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, fd: int) -> int:
        raise PermissionError(errno.EPERM, "no")

    monkeypatch.setattr(availability, "duplicate_of", refuse)
    assert support() is Support.FORBIDDEN


def test_an_older_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    install = availability.seccomp.install

    def old(code: bytes, *, no_new_privs: bool, flags: int = 0) -> int:
        if flags & availability.seccomp.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV:
            raise OSError(errno.EINVAL, "unknown flag")
        return install(code, no_new_privs=no_new_privs, flags=flags)

    monkeypatch.setattr(availability.seccomp, "install", old)
    assert support() is Support.PLAIN
