"""How long somebody has waited: about right, never too long, and only for the calls that need it."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from mirrord_trace.supervisor.attach import waiting
from mirrord_trace.supervisor.attach.waiting import Wait, limited_wait, wait_of, waited_ms
from rig import ARCH


@pytest.mark.parametrize(
    ("sysno", "timeout", "machine", "expected"),
    [(232, 500, "x86_64", 500), (281, 0, "x86_64", 0), (232, (1 << 64) - 1, "x86_64", -1), (232, 0xFFFFFFFF, "x86_64", -1),
     (7, 500, "x86_64", -1), (232, 500, "aarch64", -1)],
)  # fmt: skip
def test_time_outs(sysno: int, timeout: int, machine: str, expected: int) -> None:
    assert limited_wait(sysno, [1, 2, 3, timeout, 0, 0], machine) == expected


@pytest.mark.skipif(ARCH.name != "x86_64", reason="this needs an x86-64 machine")
def test_a_thread_that_waits() -> None:
    text = "import select\npoll = select.epoll()\nprint(flush=True)\npoll.poll(1000)"
    with subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        began = time.monotonic()
        while (wait := wait_of(process.pid, "x86_64")) is None or wait.waited_ms < 200:
            time.sleep(0.01)
        assert wait.waited_ms <= (time.monotonic() - began) * 1000 + 100
        # It has not run since then: once it has been stopped it will have left the processor once more.
        assert waited_ms(process.pid, wait) == 0
        assert waited_ms(process.pid, Wait(wait.waited_ms, wait.switches - 1)) == wait.waited_ms
        process.kill()


def test_nothing_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(["sleep", "1000"]) as process:
        assert wait_of(process.pid, ARCH.name) is None
        process.kill()
    assert wait_of(process.pid, ARCH.name) is None
    assert waited_ms(process.pid, Wait(5, 5)) == 0
    assert waited_ms(process.pid, None) == 0
    monkeypatch.setattr(waiting, "_SWITCHES", b"not kept")
    assert waited_ms(1, Wait(5, 5)) == 0
