"""Job control in a terminal: a shell that is supervised, and a shell that has the tool among its jobs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest
from runs import ENGINES, Argument, Runner
from terminal import Terminal, terminal

pytestmark = pytest.mark.own_engine

_SHELL = ("bash", "--noprofile", "--norc", "-i")
# What reads the terminal here is a child of the shell, not a grandchild: the shell does not wait for those to be stopped,
# and one that is late takes what is typed next, natively as well.
# Neither the prompt nor the answers are part of what is typed, which the terminal shows as well.
_PROMPT = r"<\d+>"


@pytest.fixture(params=["native", *ENGINES])
def shell(runner: Runner, request: pytest.FixtureRequest) -> Iterator[Terminal]:
    """An interactive shell at its prompt, for which everything has to be the same."""
    runner.engine = request.param
    command: list[Argument] = list(_SHELL) if request.param == "native" else runner.command(*_SHELL)
    with terminal(command, runner.folder, _environment(runner)) as user:
        user.shows(_PROMPT)
        yield user


def _environment(runner: Runner) -> dict[str, str]:
    # The tool's own words must not be taken for the shell's.
    return runner.environment_for({"PS1": "<$?>", "TERM": "dumb", "LC_ALL": "C", "HISTFILE": ""})


def test_keys_end_stop_and_continue_the_foreground(shell: Terminal) -> None:
    shell.says("sh -c 'echo $((20+22)); exec sleep 1000'", "42")
    shell.types("\x03")
    shell.shows("<130>")
    shell.says("sh -c 'echo $((20+22)); exec sleep 1000'", "42")
    shell.types("\x1c")
    assert "Quit" in shell.shows("<131>")
    shell.says("sh -c 'echo $((20+22)); read x; echo got $x; read x; echo $((21+22)); exec sleep 1000'", "42")
    shell.types("\x1a")
    assert "Stopped" in shell.shows("<148>")
    assert "Stopped" in shell.says("jobs", "<0>")
    shell.says("fg", r"sleep 1000'")
    # Once it answers, it has the terminal.
    shell.types("two\n")
    shell.shows("got two")
    shell.types("three\n")
    shell.shows("43")
    shell.types("\x1a")
    shell.shows("<148>")
    shell.says("bg", "<0>")
    assert "Running" in shell.says("jobs", "<0>")
    shell.says("kill %1; wait %1", "<143>")
    shell.types("exit 5\n")
    assert os.waitstatus_to_exitcode(shell.ends()) == 5


def test_pipelines_are_one_job(shell: Terminal) -> None:
    shell.says("sh -c 'echo $((20+22)) >&2; exec cat' | tr a-z A-Z", "42")
    shell.types("one\n")
    shell.shows("ONE")
    shell.types("\x1a")
    assert "Stopped" in shell.shows("<148>")
    shell.says("fg", r"tr a-z A-Z")
    shell.types("two\n")
    shell.shows("TWO")
    shell.types("\x04")
    shell.shows("<0>")
    shell.says("cat &", "<0>")
    # It wants to read from the terminal, which the background must not.
    assert "Stopped" in shell.says("until jobs %1 | grep Stopped; do :; done", "<0>")
    shell.says("kill -9 %1; while jobs %1 > /dev/null 2>&1; do :; done; echo $((20+22))", "42\r\n")


def test_the_window_size_and_traps(shell: Terminal) -> None:
    shell.resize(33, 77)
    shell.says("stty size", "33 77\r\n")
    shell.shows("<0>")
    shell.says("bash -c 'trap \"echo changed to \\$(stty size)\" WINCH; echo $((20+22)); while :; do read -t 1; done'", "42")
    shell.resize(44, 99)
    shell.shows("changed to 44 99")
    shell.types("\x03")
    shell.shows("<130>")
    shell.says("bash -c 'trap \"echo caught; exit 7\" INT; echo $((20+22)); while :; do read -t 1; done'", "42")
    shell.types("\x03")
    assert shell.shows("<7>").count("caught") == 1


# -- the tool as a job ------------------------------------------------------------------------------------------------


@pytest.fixture
def outer(runner: Runner, both_engines: None) -> Iterator[Terminal]:
    """An interactive shell that has the tool's command in `$t`."""
    tool = " ".join(map(str, runner.command()))
    with terminal(_SHELL, runner.folder, {**_environment(runner), "t": tool}) as user:
        user.shows(_PROMPT)
        yield user


def test_keys_for_the_tool_as_a_job(outer: Terminal) -> None:
    outer.says("$t sh -c 'echo $((20+22)); exec sleep 1000'", "42")
    outer.types("\x03")
    outer.shows("<130>")
    outer.says("$t sh -c 'echo $((20+22)); read x; echo got $x; read x; echo $((21+22)); exec sleep 1000'", "42")
    outer.types("\x1a")
    assert "Stopped" in outer.shows(r"<14[78]>")
    outer.says("fg", r"sleep 1000'")
    outer.types("two\n")
    outer.shows("got two")
    # What reads from the terminal would be stopped in the background.
    outer.types("three\n")
    outer.shows("43")
    outer.types("\x1a")
    outer.shows(r"<14[78]>")
    outer.says("bg; kill %1; wait %1", "<143>")
    outer.says("$t sh -c 'kill -STOP $$; echo $((20+22)); exit 6'", r"<14[78]>")
    assert "42" in outer.says("fg", "<6>")


def test_a_trap_of_the_program_is_called_once(outer: Terminal) -> None:
    program = "trap \"echo caught\" INT; echo $((20+22)); while read line; do echo got $line; done; echo end of file"
    outer.says(f"$t bash -c '{program}'", "42")
    outer.types("\x03")
    outer.shows("caught")
    outer.types("\x04")
    outer.shows("<[0-9]+>")
    assert len(re.findall("caught\r\n", outer.transcript)) == 1


def test_pipelines_with_the_tool_in_the_middle(outer: Terminal) -> None:
    assert "ONE" in outer.says("echo one | $t tr a-z A-Z | cat", "<0>")
    # Its end of the pipe is closed with the program's, and it ends by SIGPIPE as that does.
    outer.says("$t yes | head -n 1; echo ${PIPESTATUS[*]}", "141 0")
    outer.says("$t sh -c 'exec 1>&-; sleep 0; read x' | cat; echo $((20+22))", "")
    outer.types("x\n")
    outer.shows("42")


def test_nohup_and_the_end_of_the_terminal(runner: Runner, outer: Terminal) -> None:
    done = runner.folder / "done"
    program = f"echo $((20+22)) > /dev/tty; read x; echo goes on > {done}"
    os.mkfifo(runner.folder / "gate")
    outer.says(f"nohup $t sh -c '{program}' < gate > /dev/null 2>&1 & exec 9> gate", "42")
    outer.says("kill -HUP $!; echo >&9; wait $!; echo ended $?", "ended 0")
    assert done.read_text() == "goes on\n"
