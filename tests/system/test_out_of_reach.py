"""Programs that the tool cannot look at, and a tool without descriptors: nothing goes to this machine without a word."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from build import c_program
from runs import Ran, Runner

pytestmark = pytest.mark.usefixtures("every_way")

NAME = "demo-pod-0"
_WORD = "does not let this user look into its memory"


def _crowd(runner: Runner, limit: int, number: int) -> tuple[dict[str, int], Ran]:
    command = runner.command(c_program("crowd"), str(number), "/etc/hostname")
    ran = runner.native("sh", "-c", f'ulimit -n {limit}; exec "$@"', "-", *command)
    assert ran.status == 0, ran
    counts = (line.partition(" ") for line in ran.out.splitlines())
    return {line: int(count) for count, _, line in counts}, ran


def test_more_processes_than_descriptors(runner: Runner) -> None:
    found, ran = _crowd(runner, 256, 300)
    assert found == {NAME: 600}, ran


def test_far_too_few_descriptors_are_an_error_and_a_line(runner: Runner) -> None:
    found, ran = _crowd(runner, 32, 60)
    assert set(found) <= {NAME, "Too many open files"}, ran
    assert found.get(NAME, 0) > 0, ran


@pytest.fixture
def unreadable(tmp_path: Path) -> Path:
    """A program that its user may execute and not read."""
    program = tmp_path / "closed"
    shutil.copy(c_program("closed", "musl"), program)
    program.chmod(0o111)
    return program


def test_a_program_that_may_not_be_read(runner: Runner, unreadable: Path) -> None:
    ran = runner.traced(unreadable)
    assert ran.status == 0, ran
    if os.geteuid() == 0:
        assert ran.out == f"at first: {NAME} {NAME}\nthen: {NAME} {NAME}\nchild: {NAME} {NAME}\n", ran
        assert _WORD not in ran.err
    else:
        assert ran.out == runner.native(unreadable).out, ran
        assert ran.err.count(_WORD) == 1, ran


def test_a_program_that_closes_itself(runner: Runner) -> None:
    ran = runner.traced(c_program("closed"), "undumpable")
    assert ran.status == 0, ran
    first, then, child = (line.partition(": ")[2] for line in ran.out.splitlines())
    assert first == f"{NAME} {NAME}", ran
    is_said = _WORD in ran.err
    if os.geteuid() == 0:
        assert {first, then, child} == {f"{NAME} {NAME}"}, ran
    here = runner.native(c_program("closed")).out.splitlines()[0].partition(": ")[2]
    # Whoever is not the pod's any more has been told so.
    assert {then, child} <= {first, here}, ran
    assert is_said is (here in (then, child)), ran
