"""What stays different under supervision is as docs/invisible.md says, and no worse; what might be, but is not."""

from __future__ import annotations

import errno

import pytest
from build import FLAVOURS, c_program
from runs import Argument, Runner

pytestmark = pytest.mark.usefixtures("every_way")

_POD_FILE = "/app/config.json"
_UNUSED_PORT = "9"


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_not_different_are_vsock_kcmp_and_the_state_of_local_connections(runner: Runner, flavour: str) -> None:
    program = c_program("alike", flavour)
    native, traced = runner.native(program), runner.traced(program)
    assert native.status == 0, native
    assert (traced.status, traced.out) == (0, native.out), traced


def _seen(runner: Runner, *arguments: Argument) -> tuple[list[int], list[int]]:
    # Numbers of errors: natively, and supervised.
    program = c_program("narrow")
    native, traced = runner.native(program, *arguments), runner.traced(program, *arguments)
    assert (native.status, traced.status) == (0, 0), (native, traced)
    return _numbers(native.out), _numbers(traced.out)


def _numbers(said: str) -> list[int]:
    return [int(line.split()[-1]) for line in said.splitlines() if line != "OK"]


def test_strict_mode_is_refused(runner: Runner) -> None:
    """The kernel grants it to whom has no filter."""
    assert _seen(runner, "strict") == ([0], [errno.EINVAL])


@pytest.mark.parametrize("room_kib", ["64", "512"])
def test_little_address_space(runner: Runner, room_kib: str) -> None:
    native, traced = _seen(runner, "memory", room_kib, _POD_FILE, _UNUSED_PORT)
    assert native == [errno.ENOENT, errno.ECONNREFUSED]
    has_room = room_kib == "512" or runner.engine == "notify"
    assert traced == ([0, errno.ECONNREFUSED] if has_room else [errno.ENOMEM, errno.ENOMEM])


def test_a_path_that_runs_into_memory_without_access(runner: Runner) -> None:
    assert _seen(runner, "unreadable", _POD_FILE) == ([errno.EFAULT], [errno.EFAULT if runner.engine == "notify" else 0])
