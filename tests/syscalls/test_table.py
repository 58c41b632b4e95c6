"""The table of traps: complete, unambiguous, and in step with what the handlers ask for."""

from __future__ import annotations

import inspect
import socket

import pytest
from mirrord_trace.syscalls.files.rows import HANDLERS as FILE_HANDLERS
from mirrord_trace.syscalls.table import NETWORK_ROWS, ROWS, ArgumentTest, Row, checks, handlers, rows

TIERS = pytest.mark.parametrize("table", [rows(False), rows(True)], ids=["copied", "mounted"])


@TIERS
def test_each_call_has_one_row(table: tuple[Row, ...]) -> None:
    """And one more, with the same handler, if further stops of it come later."""
    names = [(row.name, bool(row.later)) for row in table]
    assert len(set(names)) == len(names)
    assert len({(row.name, row.handler) for row in table}) == len({row.name for row in table})


def test_the_tiers_differ_in_the_file_calls() -> None:
    assert rows(False) == ROWS
    copied, mounted = ({row.name for row in rows(which)} for which in (False, True))
    assert copied - mounted == {"fstat", "getdents", "getdents64"}
    assert set(FILE_HANDLERS) < copied
    assert {"chdir", "rename", "execve", "getcwd"} <= mounted - copied


@TIERS
def test_a_row_has_either_a_handler_or_an_errno(table: tuple[Row, ...]) -> None:
    for row in table:
        assert (row.handler is None) != (row.errno is None), row.name
        assert not (row.errno is not None and row.later), row.name


@TIERS
def test_notes_say_something(table: tuple[Row, ...]) -> None:
    for row in table:
        assert row.note, row.name
        assert "|" not in row.note + row.later
        assert all(test.words for test in row.tests)


def test_network_handlers_name_their_man_page() -> None:
    for row in NETWORK_ROWS:
        assert row.handler is not None
        assert inspect.isgeneratorfunction(row.handler), row.name
        assert row.handler.__name__ == row.name
        assert (inspect.getdoc(row.handler) or "").startswith(f"{row.name}(2)"), row.name


def test_file_calls_have_a_note_of_their_own() -> None:
    plain = {row.name for row in ROWS if row.name in FILE_HANDLERS and row.note == "pod files"}
    assert plain == {"stat", "lstat", "newfstatat", "statx", "access", "faccessat", "faccessat2", "readlink", "readlinkat"}


def test_argument_tests_hold_for_what_they_say() -> None:
    tests = {row.name: row.tests for row in ROWS if not row.later}

    def passes(test: ArgumentTest, value: int) -> bool:
        return value & test.mask in test.values if test.values else bool(value)

    family, kind = tests["socket"]
    for flags in (0, socket.SOCK_NONBLOCK, socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK):
        assert passes(kind, socket.SOCK_DGRAM | flags)
        assert not passes(kind, socket.SOCK_STREAM | flags)
    assert [passes(family, number) for number in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)] == [True, True, False]
    level, option = tests["getsockopt"]
    assert passes(level, socket.SOL_SOCKET)
    assert passes(option, socket.SO_ERROR)
    assert not passes(option, socket.SO_TYPE)
    for name, argument in (("accept", 1), ("accept4", 1), ("sendto", 4), ("recvfrom", 4)):
        (test,) = tests[name]
        assert test.argument == argument
        assert passes(test, 0x7000)
        assert not passes(test, 0)


def test_dispatch_leaves_out_what_the_machine_lacks() -> None:
    numbers = {"openat": 56, "connect": 203, "io_uring_setup": 425, "fork": 57, "getcwd": 17}
    found = handlers(numbers)
    assert {number: name for number, (name, _) in found.items()} == {56: "openat", 203: "connect"}
    assert set(checks(numbers)) == {56, 203}
    found = handlers(numbers, mounted=True)
    assert {number: name for number, (name, _) in found.items()} == {56: "openat", 203: "connect", 17: "getcwd"}
    assert set(checks(numbers, mounted=True)) == {56, 203, 17}


def test_later_calls_are_those_that_handlers_ask_for() -> None:
    sockets = {"sendmsg", "sendmmsg", "recvmsg", "recvmmsg", "recvfrom"}
    assert {row.name for row in ROWS if row.later} == sockets
    assert {row.name for row in rows(True) if row.later} == {*sockets, "getcwd"}
