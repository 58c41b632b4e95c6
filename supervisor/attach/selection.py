"""Which calls of an attached process are looked at: what the seccomp filter says for programs that were started here.

A filter cannot be taken off a process again, and without a tracer its calls fail with ENOSYS. So an attached process has
none: it stops at every call, and the table's rows are gone through here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ...syscalls.context import Args
from ...syscalls.table import ArgumentTest, Row

_Ways = tuple[tuple[ArgumentTest, ...], ...]


@dataclass(frozen=True)
class _Condition:
    """One row. `later`: it only counts for processes that have asked for the call (`actions.Trap`), known by `name`."""

    name: str
    later: bool
    ways: _Ways

    def holds(self, args: Args, traps: frozenset[str]) -> bool:
        if self.later and self.name not in traps:
            return False
        return any(all(_holds(test, args) for test in tests) for tests in self.ways)


class Selection:
    """The rows of a session by number.

    `always`: numbers of calls that are wanted whatever their arguments. `refused`: those of them that do not exist, with
    their names and the errno that says so.
    """

    def __init__(self, rows: Iterable[Row], numbers: Mapping[str, int], *, unix_streams: bool = False) -> None:
        self.always: set[int] = set()
        self.refused: dict[int, tuple[str, int]] = {}
        self._conditions: dict[int, list[_Condition]] = {}
        for row in rows:
            if row.name not in numbers:
                continue
            number = numbers[row.name]
            ways = (row.tests, *row.alternatives, *(row.with_unix_streams if unix_streams else ()))
            if row.errno is not None:
                self.refused[number] = row.name, row.errno
                self.always.add(number)
            elif row.tests or row.later:
                condition = _Condition(row.name, bool(row.later), ways)
                self._conditions.setdefault(number, []).append(condition)
            else:
                self.always.add(number)

    def wants(self, sysno: int, args: Args, traps: frozenset[str]) -> bool:
        """Whether a process with these `traps` is to be stopped at such a call."""
        if sysno in self.always:
            return True
        conditions = self._conditions.get(sysno)
        return conditions is not None and any(condition.holds(args, traps) for condition in conditions)


# As the filter does it (tracer/filter.py): 64 bits for "not 0", else the low 32 bits.
def _holds(test: ArgumentTest, args: Args) -> bool:
    value = args[test.argument]
    return value & 0xFFFFFFFF & test.mask in test.values if test.values else value != 0
