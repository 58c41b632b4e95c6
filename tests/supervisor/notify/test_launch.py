"""The first process, its filter and its listener."""

from __future__ import annotations

import os

import pytest
from mirrord_trace.supervisor.errors import UsageError
from mirrord_trace.supervisor.notify.launch import launch
from mirrord_trace.supervisor.tracer.launch import Inherited, Start
from notified import code
from rig import CALL, apart


@apart
def test_it_waits_for_its_supervisor_and_executes() -> None:
    launched = launch(Start(["sh", "-c", "exit 4"], os.environb, [code([CALL])]), Inherited.now())
    with os.fdopen(launched.events) as events:
        statuses = [int(line) for line in events]
    assert [os.waitstatus_to_exitcode(status) for status in statuses] == [4]
    assert launched.failure("sh") is None


@apart
def test_a_program_that_is_not_there() -> None:
    launched = launch(Start(["/nowhere/at/all"], os.environb, [code([CALL])]), Inherited.now())
    failure = launched.failure("/nowhere/at/all")
    assert failure is not None
    assert failure.exit_status == 127


@apart
def test_a_filter_that_the_kernel_refuses() -> None:
    with pytest.raises(UsageError, match="cannot put the seccomp filter"):
        launch(Start(["true"], os.environb, [b"\xff" * 8]), Inherited.now())
