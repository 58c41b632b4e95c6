"""From the table of traps to seccomp rules, and onto a process that already runs."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace

from ...syscalls.actions import Scratch
from ...syscalls.table import ArgumentTest, Row
from ...syscalls.table import rows as table
from .arch import Arch
from .arch.x86_64 import X32_BIT
from .call import ActiveCall, Engine, Replaced
from .filter import (
    RET_TRACE,
    RET_USER_NOTIF,
    SECCOMP_FILTER_FLAG_TSYNC,
    SECCOMP_SET_MODE_FILTER,
    NonZero,
    OneOf,
    Rule,
    Test,
    program,
)
from .scratch import place
from .tracee import Tracee

_PR_SET_NO_NEW_PRIVS = 38


def first_filter(arch: Arch, *, unix_streams: bool = False, mounted: bool = False) -> bytes:
    """The program that every supervised process starts with: all rows but the `later` ones.

    `unix_streams`: unix sockets of the pod are configured. `mounted`: see `table.rows`.
    """
    rows = [row for row in table(mounted) if not row.later]
    if unix_streams:
        rows = [replace(row, alternatives=row.alternatives + row.with_unix_streams) for row in rows]
    return _program(arch, rows)


def notify_filter(arch: Arch, *, unix_streams: bool = False, mounted: bool = False) -> bytes:
    """The one program of the engine over seccomp_unotify(2): no other can be added later, so it has all rows.

    But for ptrace(2), which is refused to those only who have a tracer. execve(2), of which no event tells, is always there.
    """
    merged = {name: Row(name, None, "") for name in ("execve", "execveat")}
    for row in table(mounted):
        if row.name == "ptrace":
            continue
        ways = (row.tests, *row.alternatives, *(row.with_unix_streams if unix_streams else ()))
        before = merged.get(row.name)
        if before is not None:
            ways = (before.tests, *before.alternatives, *ways)
        merged[row.name] = replace(row, tests=() if () in ways else ways[0], alternatives=() if () in ways else ways[1:])
    return _program(arch, list(merged.values()), RET_USER_NOTIF)


def later_filter(arch: Arch, names: frozenset[str]) -> bytes:
    """A further program, for the `later` rows among `names`."""
    return _program(arch, [row for row in table(True) if row.later and row.name in names])


def _program(arch: Arch, rows: list[Row], stop: int = RET_TRACE) -> bytes:
    numbers = arch.syscall_numbers
    rules = [
        Rule(
            numbers[row.name],
            tuple(_test(test) for test in row.tests),
            row.errno,
            tuple(tuple(_test(test) for test in tests) for tests in row.alternatives),
        )
        for row in rows
        if row.name in numbers
    ]
    return program(rules, arch.audit, X32_BIT if arch.name == "x86_64" else 0, stop)


def _test(test: ArgumentTest) -> Test:
    if not test.values:
        return NonZero(test.argument)
    return OneOf(test.argument, test.values, test.mask)


def install_later(
    engine: Engine,
    tracee: Tracee,
    call: ActiveCall,
    names: frozenset[str],
    build: Callable[[frozenset[str]], bytes],
) -> None:
    """Carry out `Trap`: the tracee puts a further filter on all its threads; the handler gets 0 or -errno."""
    missing = names - tracee.process.traps
    if not missing:
        engine.step(tracee, call, 0)
        return
    code = build(missing)
    slot = place(engine, tracee, call, Scratch(code), lambda: install_later(engine, tracee, call, names, build))
    if slot is None:
        return
    header = (len(code) // 8).to_bytes(8, "little") + slot.to_bytes(8, "little")

    def installed(result: int) -> None:
        if result == -errno.EACCES:
            engine.release(tracee, call)
            engine.rewind(tracee, call, lambda: _without_new_privileges(engine, tracee, call, names, build))
            return
        if result == 0:
            tracee.process.traps |= missing
        # A positive result is a thread that has a filter of its own and cannot follow.
        outcome = -errno.EPERM if result > 0 else result
        engine.release(tracee, call)
        engine.rewind(tracee, call, lambda: engine.step(tracee, call, outcome))

    args: Replaced = {0: SECCOMP_SET_MODE_FILTER, 1: SECCOMP_FILTER_FLAG_TSYNC, 2: Scratch(header)}
    engine.run(tracee, call, "seccomp", args, installed)


# A filter takes CAP_SYS_ADMIN or no_new_privs. A program of root's that has dropped the one (ping) gets the other.
def _without_new_privileges(
    engine: Engine,
    tracee: Tracee,
    call: ActiveCall,
    names: frozenset[str],
    build: Callable[[frozenset[str]], bytes],
) -> None:
    def switched(result: int) -> None:
        if result == 0:
            engine.rewind(tracee, call, lambda: install_later(engine, tracee, call, names, build))
        else:
            engine.rewind(tracee, call, lambda: engine.step(tracee, call, result))

    engine.run(tracee, call, "prctl", {0: _PR_SET_NO_NEW_PRIVS, 1: 1, 2: 0, 3: 0, 4: 0}, switched)
