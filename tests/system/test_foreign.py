"""Calls that would slip by a filter of this machine's numbers are refused, and the user is told."""

from __future__ import annotations

import os
import signal

import pytest
from build import c_program, i386_program
from runs import Runner

pytestmark = pytest.mark.usefixtures("every_way")

x86_64_only = pytest.mark.skipif(os.uname().machine != "x86_64", reason="i386 and x32 calls exist on x86-64 only")


def test_io_uring_is_answered_with_enosys(runner: Runner) -> None:
    traced = runner.traced(c_program("foreign"), "io_uring")
    assert traced.out == "io_uring_setup: errno 38 (Function not implemented)\nOK\n", traced


@x86_64_only
def test_an_x32_call_is_answered_with_enosys(runner: Runner) -> None:
    traced = runner.traced(c_program("foreign"), "x32")
    assert (traced.status, traced.out) == (0, "getpid by x32: errno 38 (Function not implemented)\nOK\n"), traced


@x86_64_only
def test_an_i386_call_does_not_pass_unseen(runner: Runner) -> None:
    traced = runner.traced(c_program("foreign"), "int80")
    assert ": the pid" not in traced.out, traced
    assert "i386" in traced.err, traced


@x86_64_only
def test_a_program_of_32_bits_is_refused(runner: Runner) -> None:
    program = i386_program()
    native = runner.native(program)
    assert (native.status, native.out) == (5, "hello from i386\n"), native
    traced = runner.traced(program)
    assert traced.status not in (0, 5), traced
    assert "i386" in traced.err, traced
    assert traced.status != -signal.SIGSEGV, traced
