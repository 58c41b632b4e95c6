"""From the table of traps to seccomp rules, and onto a process that already runs."""

from __future__ import annotations

import errno
from collections.abc import Callable

from ...syscalls.actions import Scratch
from ...syscalls.table import ROWS, ArgumentTest, Row
from .arch import Arch
from .arch.x86_64 import X32_BIT
from .call import ActiveCall, Engine, Replaced
from .filter import SECCOMP_FILTER_FLAG_TSYNC, SECCOMP_SET_MODE_FILTER, NonZero, OneOf, Rule, Test, program
from .scratch import place
from .tracee import Tracee


def first_filter(arch: Arch) -> bytes:
    """The program that every supervised process starts with: all rows but the `later` ones."""
    return _program(arch, [row for row in ROWS if not row.later])


def later_filter(arch: Arch, names: frozenset[str]) -> bytes:
    """A further program, for the `later` rows among `names`."""
    return _program(arch, [row for row in ROWS if row.later and row.name in names])


def _program(arch: Arch, rows: list[Row]) -> bytes:
    numbers = arch.syscall_numbers
    rules = [
        Rule(numbers[row.name], tuple(_test(test) for test in row.tests), row.errno) for row in rows if row.name in numbers
    ]
    return program(rules, arch.audit, X32_BIT if arch.name == "x86_64" else 0)


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
        if result == 0:
            tracee.process.traps |= missing
        # A positive result is a thread that has a filter of its own and cannot follow.
        outcome = -errno.EPERM if result > 0 else result
        engine.release(tracee, call)
        engine.rewind(tracee, call, lambda: engine.step(tracee, call, outcome))

    args: Replaced = {0: SECCOMP_SET_MODE_FILTER, 1: SECCOMP_FILTER_FLAG_TSYNC, 2: Scratch(header)}
    engine.run(tracee, call, "seccomp", args, installed)
