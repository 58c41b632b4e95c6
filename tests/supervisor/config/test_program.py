from __future__ import annotations

import re
import stat
from typing import Any

import pytest
from mirrord_trace.agent.wire.messages import FileStat, Pod
from mirrord_trace.supervisor.config.load import Config, Machine, load
from mirrord_trace.supervisor.config.overlays import Flags
from mirrord_trace.supervisor.config.program import Program, find_program, program
from mirrord_trace.supervisor.environment import Dropped
from mirrord_trace.supervisor.errors import EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, EXIT_USAGE, UsageError

OWN = {b"PATH": b"/own/bin", b"HOME": b"/users/ann", b"TERM": b"xterm"}
ENVIRON = (b"PATH=/pod/sbin:/pod/bin", b"HOME=/root", b"DB=pod")
POD = Pod(ENVIRON, b"pod-7", (b"serve", b"--port", b"\xff"), b"/app", ())


def config(**flags: Any) -> Config:
    return load(Flags(**flags), Machine({}, b"/"))


def from_pod(command: tuple[str, ...] = (), pod: Pod = POD) -> Program:
    return program(command, pod, config(from_pod=True), OWN)


def file(mode: int) -> FileStat:
    return FileStat(0, 1, mode, 1, 0, 0, 0, 5, 4096, 8, 0, 0, 0, 0)


def test_a_program_of_this_machine() -> None:
    found = program(("ls", "-l"), POD, config(), OWN)
    assert found.arguments == ("ls", "-l")
    assert found.environment == {**OWN, b"DB": b"pod"}
    assert found.dropped == (Dropped(b"HOME", "excluded by default"), Dropped(b"PATH", "excluded by default"))
    assert (found.working_directory, found.candidates) == (b"", ())


def test_the_pods_own_program() -> None:
    assert from_pod() == Program(
        arguments=("serve", "--port", "\udcff"),
        environment={b"TERM": b"xterm", b"PATH": b"/pod/sbin:/pod/bin", b"HOME": b"/root", b"DB": b"pod"},
        working_directory=b"/app",
        candidates=(b"/pod/sbin/serve", b"/pod/bin/serve"),
    )


def test_another_program_of_the_pod() -> None:
    found = from_pod(("sh", "-c", "true"))
    assert found.arguments == ("sh", "-c", "true")
    assert found.candidates == (b"/pod/sbin/sh", b"/pod/bin/sh")


@pytest.mark.parametrize(
    ("name", "path", "candidates"),
    [
        ("/usr/bin/x", b"/bin", (b"/usr/bin/x",)),
        ("./x", b"/bin", (b"/app/./x",)),
        ("bin/x", b"/bin", (b"/app/bin/x",)),
        ("x", b":rel:/bin:/bin", (b"/app/x", b"/app/rel/x", b"/bin/x")),
        ("x", None, (b"/bin/x", b"/usr/bin/x")),
    ],
)
def test_where_it_may_be(name: str, path: bytes | None, candidates: tuple[bytes, ...]) -> None:
    environ = () if path is None else (b"PATH=" + path,)
    assert from_pod((name,), Pod(environ, b"", (), b"/app", ())).candidates == candidates


@pytest.mark.parametrize("arguments", [(), (b"",)])
def test_a_pod_without_a_command_line(arguments: tuple[bytes, ...]) -> None:
    with pytest.raises(UsageError, match="shows no command line: give -- CMD") as refused:
        from_pod(pod=Pod((), b"", arguments, b"/", ()))
    assert refused.value.exit_status == EXIT_USAGE


def test_the_first_that_can_be_executed_is_taken() -> None:
    there = {b"/1/x": file(stat.S_IFDIR | 0o755), b"/2/x": file(stat.S_IFREG | 0o644), b"/4/x": file(stat.S_IFREG | 0o755)}
    wanted = Program(("x",), {}, candidates=(b"/0/x", b"/1/x", b"/2/x", b"/4/x", b"/5/x"))
    assert find_program(wanted, there.get) == b"/4/x"


@pytest.mark.parametrize(
    ("there", "status", "text"),
    [
        ({}, EXIT_NOT_FOUND, "cannot execute x: there is no such program in the pod (looked in /1, /2); "),
        ({b"/1/x": file(stat.S_IFDIR | 0o755)}, EXIT_NOT_FOUND, "there is no such program"),
        ({b"/1/x": file(stat.S_IFREG | 0o644)}, EXIT_NOT_EXECUTABLE, "the pod's file is not executable"),
    ],
)
def test_none_can_be_executed(there: dict[bytes, FileStat], status: int, text: str) -> None:
    with pytest.raises(UsageError, match=re.escape(text)) as refused:
        find_program(Program(("x",), {}, candidates=(b"/1/x", b"/2/x")), there.get)
    assert refused.value.exit_status == status


def test_a_path_needs_no_hint_where_it_was_looked_for() -> None:
    with pytest.raises(UsageError, match=r"^cannot execute /a/x: there is no such program in the pod; "):
        find_program(Program(("/a/x",), {}, candidates=(b"/a/x",)), lambda path: None)
