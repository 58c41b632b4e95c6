"""How a call ends of a program that the tool cannot look at."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest
from mirrord_trace.supervisor.tracer.reach import outcome
from mirrord_trace.syscalls.actions import Continue, OutOfReach, Reason, Return

sys.path.insert(0, str(Path(__file__).parents[2] / "syscalls"))
from script import session


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_who_may_not_be_looked_at_runs_on_here(number: int) -> None:
    notices: list[str] = []
    final = outcome(session(notices=notices), os.getpid(), OutOfReach(number))
    assert isinstance(final, Continue)
    assert final.decision.reason is Reason.UNREADABLE
    assert notices[0].startswith(Path("/proc/self/comm").read_text().strip() + " does not let")


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_without_descriptors_calls_fail(number: int) -> None:
    notices: list[str] = []
    final = outcome(session(notices=notices), os.getpid(), OutOfReach(number))
    assert isinstance(final, Return)
    assert final.value == -number
    assert "ulimit -n" in notices[0]
    assert errno.errorcode[number] in notices[0]


def test_who_has_ended_has_a_number() -> None:
    notices: list[str] = []
    outcome(session(notices=notices), 1 << 30, OutOfReach(errno.EACCES))
    assert notices[0].startswith("process 1073741824 does not let")
