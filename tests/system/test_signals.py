"""Signals under supervision: calls that they interrupt, storms of them, and those that are sent to the tool."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from build import FLAVOURS, c_program, go_program
from mirrord_trace.supervisor.targets.demo import network, services
from runs import Runner

pytestmark = pytest.mark.usefixtures("every_way")


@pytest.mark.parametrize("what", ["calls", "stops"])
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_interrupted_calls_fail_or_go_on_as_natively(runner: Runner, flavour: str, what: str) -> None:
    command = (c_program("restarts", flavour), what)
    native, local, traced = runner.native(*command), runner.local(*command), runner.traced(*command)
    assert native.status == 0, native
    assert (local.status, local.out) == (native.status, native.out), local.err
    assert (traced.status, traced.out) == (native.status, native.out), traced.err


def _told(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


@pytest.mark.parametrize("where", ["here", "apart"])
def test_a_signal_to_the_tool_or_to_its_whole_group_reaches_the_program_once(runner: Runner, where: str) -> None:
    with runner.serving(c_program("signalled"), where) as process:
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGWINCH):
            # The second is there to be later than anything that may come of the first.
            for send, sent in ((os.killpg, number), (os.kill, signal.SIGUSR2), (os.kill, number), (os.killpg, signal.SIGUSR2)):
                send(process.pid, sent)
                assert _told(process) == sent
        os.kill(_pid_of_program(process), signal.SIGRTMIN + 1)
        assert process.wait(20) == 0


def _pid_of_program(process: subprocess.Popen[str]) -> int:
    # The tool's children: the relay, the doorbell, and this one; with the other engine a process lies between.
    ahead = [process.pid]
    while ahead:
        pid = ahead.pop()
        with open(f"/proc/{pid}/comm", encoding="ascii") as comm:
            if comm.read().startswith("signalled"):
                return pid
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as children:
            ahead += [int(child) for child in children.read().split()]
    raise AssertionError("the program has gone")


@pytest.mark.parametrize(("trap", "status"), [("''", 1), ("-", 141)])
def test_sigpipe_that_a_shell_ignores(runner: Runner, trap: str, status: int) -> None:
    script = f'trap {trap} PIPE; {{ "$@"; echo $? >&2; }} | true; exit ${{PIPESTATUS[0]}}'
    command = ("sh", "-c", "until ! echo; do :; done; exit 1")
    native = runner.native("bash", "-c", script, "-", *command)
    traced = runner.native("bash", "-c", script, "-", *runner.command(*command))
    assert native.err.splitlines()[-1] == str(status), native
    assert traced.err.splitlines()[-1] == str(status), traced


# Of all but the two that Python overwrites (see docs/invisible.md).
_IGNORABLE = [f"+{number}" for number in range(1, 65) if number not in (signal.SIGPIPE, signal.SIGXFSZ)]


@pytest.mark.parametrize("what", [[], ["+17"], ["-17"], _IGNORABLE, ["-all"], [*_IGNORABLE, "-all"], ["subreaper"]])
def test_what_the_caller_hands_on(runner: Runner, what: list[str]) -> None:
    program = c_program("handed")
    native = runner.native(program, *what, "--", program)
    assert native.status == 0, native
    traced = runner.native(program, *what, "--", *runner.command(program))
    assert (traced.status, traced.out, traced.err) == (0, native.out, ""), traced


def test_statuses_are_the_programs_where_the_caller_ignores_sigchld(runner: Runner) -> None:
    """The tool itself needs SIGCHLD: without it, nothing tells of a child's end, and its status is lost."""
    command = ("sh", "-c", "(exit 3); echo $?; exit 7")
    program = c_program("handed")
    native = runner.native(program, "+17", "--", *command)
    traced = runner.native(program, "+17", "--", *runner.command(*command))
    assert (traced.status, traced.out, traced.err) == (native.status, native.out, ""), (native, traced)


@pytest.mark.parametrize("restart", ["", "restart"])
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_storm_of_timer_signals_during_opens_and_connects(
    request: pytest.FixtureRequest, runner: Runner, flavour: str, restart: str
) -> None:
    if runner.engine == "notify" and not restart:
        limit = "a signal in the moment before the notification is received is EINTR without SA_RESTART (docs/debugging.md)"
        request.applymarker(pytest.mark.xfail(reason=limit, strict=False))
    arguments = (network.GREETER[0], str(network.HTTP_PORT), "/app/config.json", "100", *filter(None, [restart]))
    inside = runner.inside(c_program("storm", "static" if flavour == "glibc" else flavour), *arguments)
    traced = runner.traced(c_program("storm", flavour), *arguments)
    assert inside.status == 0, inside
    assert (traced.status, traced.out) == (inside.status, inside.out), traced.err


def test_a_storm_of_go_preemptions_during_opens_and_dials(runner: Runner, tree: Path) -> None:
    listener = services.listen("127.0.0.1", 0)
    services.serve_tcp(listener, services.echo)
    here = (f"127.0.0.1:{listener.getsockname()[1]}", tree / "app/config.json", "300")
    native = runner.native(go_program("storm"), *here, GOGC="1")
    local = runner.local(go_program("storm"), *here, GOGC="1")
    there = (f"{network.ECHO[0]}:{network.ECHO_PORT}", "/app/config.json", "300")
    traced = runner.traced(go_program("storm"), *there, GOGC="1")
    assert (native.status, native.out) == (0, "300 of 300\n"), native
    assert (local.status, local.out) == (native.status, native.out), local
    assert (traced.status, traced.out) == (native.status, native.out), traced
