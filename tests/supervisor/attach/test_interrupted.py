"""What the registers of a thread at its first stop say of the call that it was in."""

from __future__ import annotations

import errno

import pytest
from mirrord_trace.supervisor.attach.interrupted import call_in_progress, may_go_on
from mirrord_trace.supervisor.tracer.arch import native
from mirrord_trace.supervisor.tracer.arch.x86_64 import ORIG_RAX, RAX

_X86_64, _AARCH64 = native("x86_64"), native("aarch64")
_EPOLL_WAIT, _READ, _CLOSE, _NANOSLEEP = 232, 0, 3, 35


def _words(sysno: int, result: int) -> list[int]:
    words = [0] * 27
    words[ORIG_RAX], words[RAX] = sysno & (1 << 64) - 1, result & (1 << 64) - 1
    return words


@pytest.mark.parametrize(
    ("sysno", "result", "by_us", "expected"),
    [
        (_READ, -512, True, (_READ, False)),
        (_READ, -512, False, (_READ, False)),
        (_NANOSLEEP, -516, True, (_NANOSLEEP, False)),
        (_EPOLL_WAIT, -errno.EINTR, True, (_EPOLL_WAIT, True)),
        # A stop by SIGSTOP has this result without us, too.
        (_EPOLL_WAIT, -errno.EINTR, False, (-1, False)),
        # Closed it is, whatever it says.
        (_CLOSE, -errno.EINTR, True, (-1, False)),
        (_READ, -errno.EAGAIN, True, (-1, False)),
        (_READ, 5, True, (-1, False)),
        # Its own code: what the register holds is its own business.
        (-1, -512, True, (-1, False)),
        (-1, -errno.EINTR, True, (-1, False)),
    ],
)
def test_what_is_to_be_made_again(sysno: int, result: int, by_us: bool, expected: tuple[int, bool]) -> None:
    assert call_in_progress(_X86_64, _words(sysno, result), by_us=by_us) == expected


def test_aarch64_does_not_tell() -> None:
    assert call_in_progress(_AARCH64, [0] * 34, by_us=True) == (-1, False)
    assert not may_go_on(_AARCH64, _READ)


def test_calls_that_have_done_nothing_when_they_say_eintr() -> None:
    assert may_go_on(_X86_64, _EPOLL_WAIT)
    assert not may_go_on(_X86_64, _CLOSE)
