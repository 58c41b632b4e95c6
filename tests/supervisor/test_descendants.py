"""Processes by /proc."""

from __future__ import annotations

import os
import subprocess

from mirrord_trace.supervisor.descendants import descendants, parent_of, started_at, tasks_of


def test_children_and_their_children() -> None:
    with subprocess.Popen(["sh", "-c", "sleep 100 & echo $!; wait"], stdout=subprocess.PIPE) as shell:
        assert shell.stdout is not None
        sleeper = int(shell.stdout.readline())
        assert {shell.pid, sleeper} <= set(descendants(os.getpid()))
        assert descendants(shell.pid) == [sleeper]
        assert parent_of(sleeper) == shell.pid
        assert tasks_of(sleeper) == [sleeper]
        os.kill(sleeper, 9)
        shell.wait()
    assert descendants(shell.pid) == []
    assert (parent_of(shell.pid), tasks_of(shell.pid)) == (0, [])


def test_when_something_was_started() -> None:
    own = started_at(os.getpid())
    assert 0 < own == started_at(os.getpid())
    with subprocess.Popen(["sleep", "100"]) as child:
        assert started_at(child.pid) >= own
        child.kill()
    assert started_at(child.pid) == 0
