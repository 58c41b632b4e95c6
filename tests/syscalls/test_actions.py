"""The typed forms of the actions; and the scripting kit, which must notice whatever differs."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest
from mirrord_trace.agent.wire.messages import Done, Failed, GetPod, LinkTarget, ReadLink
from mirrord_trace.syscalls.actions import (
    Continue,
    Decision,
    Handling,
    Keep,
    Reason,
    Return,
    Route,
    SyscallError,
    ask,
    ask_for_file,
    give_file,
    run,
    trap,
)
from mirrord_trace.syscalls.context import Args, Context
from mirrord_trace.syscalls.task import Task
from script import UNFINISHED, Script, memfd

DECISION = Decision(Route.REMOTE, Reason.NOT_OURS)
REQUEST = ReadLink(b"/l")


def asking(context: Context, task: Task, args: Args) -> Handling:
    """Asks once and returns the length of the answer."""
    reply = yield from ask(REQUEST, LinkTarget)
    return Return(len(reply.target), DECISION, ((args[0], reply.target),))


def giving(context: Context, task: Task, args: Args) -> Handling:
    """Gives the file of an answer."""
    answer = yield from ask_for_file(REQUEST)
    given = yield from give_file(answer.fd, os.O_CLOEXEC)
    assert given.result == 5
    return Keep(DECISION)


def running(context: Context, task: Task, args: Args) -> Handling:
    """Traps, runs, and lets the result stand."""
    outcome = yield from trap(frozenset({"sendmsg"}))
    result = yield from run({1: outcome}, 42)
    return Return(result + 1, DECISION)


def continuing(context: Context, task: Task, args: Args) -> Handling:
    """Looks at memory and goes on."""
    yield from ()
    task.read(args[0], 4)
    return Continue(DECISION)


def test_each_action_gets_its_outcome() -> None:
    Script(asking, (-1,)).asks(REQUEST).replies(LinkTarget(b"abc")).returns(3, {2**64 - 1: b"abc"}, Route.REMOTE)
    Script(asking).asks(REQUEST).fails(errno.EIO).raises(errno.EIO)
    Script(giving).asks(REQUEST).replies(Done(), memfd(b"x")).gives(b"x", os.O_CLOEXEC).given(5).keeps(Reason.NOT_OURS)
    Script(running).traps("sendmsg").gets(-1).runs({1: -1}, 42).gets(6).returns(7)
    Script(continuing, (8,), memory={8: b"1234"}).continues()
    Script(continuing, (9,), memory={8: b"1234"}).raises(errno.EFAULT)


def test_a_reply_of_another_type_is_a_protocol_error() -> None:
    Script(asking).asks(REQUEST).replies(Done()).raises(errno.EPROTO)


def test_errors_are_named() -> None:
    assert str(SyscallError(errno.ENOENT)) == "ENOENT"
    assert str(SyscallError(99999)) == "99999"


DIFFERENT: list[Callable[[], object]] = [
    lambda: Script(asking).asks(GetPod()),
    lambda: Script(asking).runs(),
    lambda: Script(asking).returns(0),
    lambda: Script(asking).asks(REQUEST).asks(REQUEST),
    lambda: Script(asking).asks(REQUEST).returns(3),
    lambda: Script(asking).asks(REQUEST).replies(LinkTarget(b"abc")).returns(3),
    lambda: Script(asking).asks(REQUEST).replies(LinkTarget(b"")).returns(0, {0: b""}, Route.LOCAL),
    lambda: Script(asking).asks(REQUEST).fails(errno.EIO).raises(errno.EPERM),
    lambda: Script(asking).asks(REQUEST).replies(Failed(1)).keeps(),
    lambda: Script(running).traps("recvmsg"),
    lambda: Script(continuing, (8,), memory={8: b"1234"}).keeps(),
    lambda: Script(continuing, (8,), memory={8: b"1234"}).continues(Reason.DNS),
    lambda: Script(asking).gives(b"", 0),
]


@pytest.mark.parametrize("script", DIFFERENT)
def test_scripts_fail_when_the_handler_does_something_else(script: Callable[[], object]) -> None:
    with pytest.raises(AssertionError):
        script()
    assert not UNFINISHED


def test_answers_without_a_question_fail() -> None:
    script = Script(asking)
    with pytest.raises(AssertionError):
        script.replies(Done())
    with pytest.raises(AssertionError):
        script.fails(errno.EIO)
    with pytest.raises(AssertionError):
        script.given(3)
    assert UNFINISHED.count(script) == 1, "a script without an end is remembered"
    UNFINISHED.clear()


def test_a_mismatch_shows_the_steps_and_the_difference() -> None:
    with pytest.raises(AssertionError) as caught:
        Script(asking).asks(REQUEST).replies(LinkTarget(b"abc")).returns(4, {0: b"abc"})
    text = str(caught.value)
    assert "asks Ask(request=ReadLink(path=b'/l'))" in text
    assert "Return(value=3" in text
