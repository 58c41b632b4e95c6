from __future__ import annotations

import os

import pytest
from mirrord_trace.supervisor.errors import EXIT_USAGE, UsageError
from mirrord_trace.supervisor.targets.demo.pod import DemoPod
from mirrord_trace.supervisor.targets.demo.target import PID_VARIABLE, DemoTarget


def test_a_session_has_a_pod_of_its_own() -> None:
    target = DemoTarget({})
    said: list[str] = []
    try:
        target.start(said.append)
        pid = target.agent_target()["pid"]
        assert said[0] == "starting the demo pod"
        assert os.path.exists(f"/proc/{pid}/root/app/config.json")
        assert len(target.boot_secret) >= 16
    finally:
        target.stop()
    assert not os.path.exists(f"/proc/{pid}/root/app/config.json")


def test_a_running_pod_is_shared_and_outlives_the_session(pod: DemoPod) -> None:
    target = DemoTarget({PID_VARIABLE: str(pod.pid)})
    try:
        target.start(lambda news: None)
        assert target.agent_target() == {"pid": pod.pid}
    finally:
        target.stop()
    assert pod.visit()


def test_a_bad_number_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match=PID_VARIABLE) as failure:
        DemoTarget({PID_VARIABLE: "x"})
    assert failure.value.exit_status == EXIT_USAGE


def test_it_describes_itself() -> None:
    assert DemoTarget({}).describe() == "the demo pod"
