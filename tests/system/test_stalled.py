"""A pod that does not answer: who wants to be rid of a program that waits for it need not wait for it as well.

The agent is stopped, the program makes one call that needs it, and signals come while it waits.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mirrord_trace.supervisor.descendants import descendants
from runs import Runner, until

_LIMIT_S = 3.0
_LOOKS = 10
_WAITS_IN = ("request_wait_answer", "folio_wait", "wait_on_page", "ptrace_stop", "seccomp_do_user_notification")
_CALLS = {
    "open": "open('/app/config.json')",
    "stat": "os.stat('/app/config.json')",
    "listdir": "os.listdir('/app')",
    "chdir": "os.chdir('/app')",
    "read": "os.read(big, 10)",
    "dns": "socket.gethostbyname('greeter.demo.svc.cluster.local')",
}
_PROGRAM = """
import os, signal, socket
handled = []
signal.signal(signal.SIGUSR1, lambda number, frame: handled.append(number))
big = os.open('/app/big.bin', os.O_RDONLY) if {reads} else -1
open('pid', 'w').write(str(os.getpid()))
print('ready', flush=True)
open('gate').close()
try:
    {call}
    print('done', len(handled))
except KeyboardInterrupt:
    print('interrupted')
"""

pytestmark = pytest.mark.usefixtures("both_engines")


class _Stalled:
    # `tool`: our process; `program`, `agent`: pids.
    def __init__(self, tool: subprocess.Popen[str], program: int) -> None:
        self.tool = tool
        self.program = program
        (self.agent,) = (pid for pid in descendants(tool.pid) if _name(pid) == "mirrord-agent")

    # Every stop of a traced program is one of these states for a moment.
    def waits(self) -> None:
        seen: list[str] = []

        def rests() -> bool:
            seen.append(_read(self.program, "status").partition("voluntary_ctxt_switches")[2])
            is_waiting = _read(self.program, "wchan").startswith(_WAITS_IN)
            return is_waiting and len(seen) > _LOOKS and len(set(seen[-_LOOKS:])) == 1

        until(rests, "the program waits for the pod")

    def go_on(self) -> None:
        os.kill(self.agent, signal.SIGCONT)

    def signal(self, number: int) -> None:
        os.kill(self.program, number)

    def ends_soon(self) -> None:
        until(lambda: _state(self.program) in ("", "Z", "X"), "the program has ended", _LIMIT_S)

    # The agent goes on, lest it be waited for to say goodbye.
    def result(self) -> tuple[int, str]:
        self.go_on()
        out, _ = self.tool.communicate(timeout=30)
        return self.tool.returncode, out


@contextlib.contextmanager
def _stalled(runner: Runner, call: str) -> Iterator[_Stalled]:
    gate = runner.folder / "gate"
    os.mkfifo(gate)
    script = _PROGRAM.format(call=_CALLS[call], reads=call == "read")
    with runner.serving("python3", "-c", script) as tool:
        stalled = _Stalled(tool, int((runner.folder / "pid").read_text()))
        os.kill(stalled.agent, signal.SIGSTOP)
        until(lambda: _state(stalled.agent) == "T", "the agent is stopped")
        try:
            with open(gate, "w"):  # the program is there: it opens it as well
                pass
            stalled.waits()
            yield stalled
        finally:
            with contextlib.suppress(ProcessLookupError):
                stalled.go_on()


def _name(pid: int) -> str:
    return _read(pid, "comm").strip()


def _state(pid: int) -> str:
    return _read(pid, "stat").rpartition(")")[2][1:2]


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace")
    except OSError:
        return ""


@pytest.mark.parametrize("call", ["open", "listdir", "read", "chdir"])
def test_sigkill_ends_the_program(runner: Runner, call: str) -> None:
    with _stalled(runner, call) as stalled:
        stalled.signal(signal.SIGKILL)
        stalled.ends_soon()
        assert stalled.result() == (-signal.SIGKILL, "")


@pytest.mark.parametrize("call", ["open", "stat", "read", "chdir"])
def test_sigterm_to_the_tool_ends_the_program(runner: Runner, call: str) -> None:
    with _stalled(runner, call) as stalled:
        stalled.tool.terminate()
        stalled.ends_soon()
        assert stalled.result() == (-signal.SIGTERM, "")


@pytest.mark.parametrize("call", _CALLS)
def test_a_handler_for_sigint_runs_and_the_call_has_failed(runner: Runner, call: str) -> None:
    if call == "read" and os.geteuid() and _scope() not in ("", "0"):
        pytest.skip("whether it is in read(2) or in a page fault is not to be seen (Yama ptrace_scope)")
    with _stalled(runner, call) as stalled:
        stalled.signal(signal.SIGINT)
        stalled.ends_soon()
        assert stalled.result() == (0, "interrupted\n")


def _scope() -> str:
    try:
        return Path("/proc/sys/kernel/yama/ptrace_scope").read_text().strip()
    except OSError:
        return ""


@pytest.mark.parametrize("call", ["open", "stat", "read", "chdir"])
def test_other_signals_do_not_make_a_call_fail(runner: Runner, call: str) -> None:
    with _stalled(runner, call) as stalled:
        began_s = time.monotonic()
        stalled.signal(signal.SIGUSR1)
        # By then it would have been given up; nothing tells that it has not been.
        until(lambda: time.monotonic() - began_s > 1.6, "it has been looked at")
        status, out = stalled.result()
        assert (status, out) == (0, "done 1\n")


def test_sigkill_of_the_tool_ends_the_program(runner: Runner) -> None:
    with _stalled(runner, "chdir") as stalled:
        stalled.tool.kill()
        stalled.ends_soon()


def test_the_tool_waits_only_some_seconds_for_the_agent_to_end(runner: Runner) -> None:
    with _stalled(runner, "open") as stalled:
        stalled.signal(signal.SIGKILL)
        assert stalled.tool.wait(12) == -signal.SIGKILL
