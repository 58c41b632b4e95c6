"""Little room: descriptors, processes. The program gets what it natively gets, or one line says what the tool lacks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from build import c_program
from runs import Ran, Runner

_PIDS = Path("/sys/fs/cgroup/pids")
_SCRIPT = "echo hello; (echo sub); echo end"


def _is_told(ran: Ran) -> bool:
    # Of the agent, which in the demo shares the limit, there may be a line more.
    lines = ran.err.splitlines()
    return ran.status == 125 and ran.out == "" and lines != [] and all(line.startswith("mirrord-trace: ") for line in lines)


@pytest.mark.parametrize("limit", ["-Sn 32", "-n 32"])
def test_thirty_two_descriptors(runner: Runner, limit: str) -> None:
    program = c_program("family")
    command = (program, "20", "40", "/app/config.json")
    script = f'ulimit {limit}; exec "$@"'
    native = runner.native("sh", "-c", script, "-", *command)
    traced = runner.native("sh", "-c", script, "-", *runner.command(*command))
    assert native.status == 0, native
    assert (traced.status, traced.out) == (native.status, native.out), traced.err
    of_program = ("sh", "-c", "ulimit -Sn; ulimit -Hn")
    seen = runner.native("sh", "-c", script, "-", *runner.command(*of_program))
    assert seen.out == runner.native("sh", "-c", script, "-", *of_program).out


@pytest.fixture
def pids() -> Iterator[Path]:
    """A cgroup of its own with a limit of processes, to be set."""
    if not (_PIDS / "cgroup.procs").exists() or not os.access(_PIDS, os.W_OK) or os.geteuid() != 0:
        pytest.skip("no cgroup of processes can be made: this needs root")
    group = _PIDS / f"mirrord-trace-test-{os.getpid()}"
    group.mkdir()
    try:
        yield group
    finally:
        group.rmdir()


def test_few_processes_in_a_cgroup(runner: Runner, pids: Path) -> None:
    outcomes = []
    for room in range(2, 29, 3):
        (pids / "pids.max").write_text(str(room))
        script = f'echo $$ > {pids}/cgroup.procs; exec "$@"'
        ran = runner.native("sh", "-c", script, "-", *runner.command("sh", "-c", _SCRIPT))
        works = (ran.status, ran.out) == (0, "hello\nsub\nend\n")
        # The program's own fork(2) failed, as it does natively.
        program_is_told = ran.status == 2 and "annot fork" in ran.err and ran.out == "hello\n"
        assert works or program_is_told or _is_told(ran), (room, ran)
        assert (pids / "cgroup.procs").read_text() == "", room
        outcomes.append(works)
    assert outcomes[-1]
    assert not outcomes[0]


def test_few_processes_of_a_user(runner: Runner) -> None:
    if os.geteuid() == 0:
        pytest.skip("RLIMIT_NPROC does not hold for root: this needs an ordinary user")
    outcomes = []
    for room in range(0, 28, 3):
        script = 'n=$(ps -L -u $(id -u) -o lwp= | wc -l); ulimit -u $((n + $0)); exec "$@"'
        ran = runner.native("bash", "-c", script, str(room), *runner.command("sh", "-c", _SCRIPT))
        works = (ran.status, ran.out) == (0, "hello\nsub\nend\n")
        program_is_told = ran.status == 2 and "annot fork" in ran.err and ran.out == "hello\n"
        assert works or program_is_told or _is_told(ran), (room, ran)
        outcomes.append(works)
    assert outcomes[-1]
