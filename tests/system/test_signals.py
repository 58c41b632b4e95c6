"""Signals under supervision: calls that they interrupt, storms of them, and those that are sent to the tool."""

from __future__ import annotations

import pytest
from build import FLAVOURS, c_program
from runs import Runner


@pytest.mark.parametrize("what", ["calls", "stops"])
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_interrupted_calls_fail_or_go_on_as_natively(runner: Runner, flavour: str, what: str) -> None:
    command = (c_program("restarts", flavour), what)
    native, local, traced = runner.native(*command), runner.local(*command), runner.traced(*command)
    assert native.status == 0, native
    assert (local.status, local.out) == (native.status, native.out), local.err
    assert (traced.status, traced.out) == (native.status, native.out), traced.err
