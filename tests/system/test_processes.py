"""Threads, processes and signals are as without supervision; these programs judge themselves."""

from __future__ import annotations

import pytest
from build import FLAVOURS, c_program
from runs import Runner


@pytest.mark.parametrize("program", ["process", "signals"])
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_three_ways(runner: Runner, program: str, flavour: str) -> None:
    command = (c_program(program, flavour),)
    native = runner.native(*command)
    local = runner.local(*command)
    traced = runner.traced(*command)
    assert native.status == 0, native
    assert (local.status, local.out) == (native.status, native.out), local.err
    assert (traced.status, traced.out) == (native.status, native.out), traced.err
