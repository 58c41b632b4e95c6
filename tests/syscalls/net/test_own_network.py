"""What processes with a network namespace of their own begin."""

from __future__ import annotations

import socket as sockets_api

import pytest
from callers import inet
from mirrord_trace.syscalls.actions import Reason
from mirrord_trace.syscalls.context import Context
from mirrord_trace.syscalls.net.connecting import connect
from mirrord_trace.syscalls.net.creating import socket
from mirrord_trace.syscalls.net.datagrams import sendto
from mirrord_trace.syscalls.net.names import getpeername
from mirrord_trace.syscalls.net.own_network import before
from mirrord_trace.syscalls.views import View
from script import FakeTask, Script, session

AT = 0x3000
PEER = inet("10.96.0.20", 80)
RAW = (sockets_api.AF_INET, sockets_api.SOCK_RAW, 1)


def _session(notices: list[str] | None = None, *, has_views: bool = True) -> Context:
    context = session(notices=notices)
    context.has_views = has_views
    return context


def _task() -> FakeTask:
    task = FakeTask()
    task.views.add(View.NETWORK)
    return task


def test_a_socket_is_its_own() -> None:
    notices: list[str] = []
    Script(before("socket", socket), RAW, task=_task(), context=_session(notices)).continues(Reason.OWN_VIEW)
    assert not notices


@pytest.mark.parametrize(
    ("name", "args"), [("connect", (3, AT, len(PEER))), ("sendto", (3, 0x9000, 1, 0, AT, len(PEER)))]
)  # fmt: skip
def test_the_user_is_told_of_what_would_have_been_the_pods(name: str, args: tuple[int, ...]) -> None:
    notices: list[str] = []
    handler = before(name, connect if name == "connect" else sendto)
    Script(handler, args, memory={AT: PEER}, task=_task(), context=_session(notices)).continues(Reason.OWN_VIEW)
    assert [words for words in notices if "network namespace of its own" in words]


def test_bad_pointers_are_the_kernels_to_judge() -> None:
    Script(before("connect", connect), (3, AT, 16), task=_task(), context=_session()).continues(Reason.OWN_VIEW)


def test_who_only_asks_is_told_what_is_the_pods() -> None:
    assert before("getpeername", getpeername) is getpeername


def test_nobody_is_looked_at_before_one_can_have_been_made() -> None:
    script = Script(before("socket", socket), (2, 1, 0), task=_task(), context=_session(has_views=False))
    script.continues(Reason.OUTGOING)
    assert script.task.reads == 0
