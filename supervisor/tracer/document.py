"""docs/syscalls.md, made from the table of traps: python -m mirrord_trace.supervisor.tracer.document > docs/syscalls.md

It is not below syscalls/ because the numbers of the calls are a machine's business.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Mapping, Sequence

from ...syscalls.table import COPIED_ROWS, MOUNTED_ROWS, OTHER_ROWS, Row
from .arch.aarch64 import NUMBERS as AARCH64
from .arch.x86_64 import NUMBERS as X86_64

_HEAD = """# Supervised system calls

<!-- Made by `python -m mirrord_trace.supervisor.tracer.document`; do not edit. -->

These are the calls that mirrord-trace looks at, with their numbers. All others run in the kernel without any notice. Even
of these a call stops only under the condition named, and configuration decides whether it is then about the pod: the call
runs untouched if not. A call through another ABI is refused: one of x32 with ENOSYS, one of i386 by SIGKILL.

The pod's files come in one of two ways: mounted on this machine, so that everything on an open file is the kernel's, or,
where that is not possible, copied when they are opened.
"""

SECTIONS: tuple[tuple[str, Sequence[Row]], ...] = (
    ("Files, mounted", MOUNTED_ROWS),
    ("Files, copied", COPIED_ROWS),
    ("Everything else", OTHER_ROWS),
)

_COLUMNS = ("call", "x86-64", "aarch64", "stops", "what happens")


def document(
    sections: Sequence[tuple[str, Sequence[Row]]] = SECTIONS,
    x86_64: Mapping[str, int] = X86_64,
    aarch64: Mapping[str, int] = AARCH64,
) -> str:
    """The page: each section in the order of the names."""
    lines = [_HEAD]
    for title, rows in sections:
        lines += [f"## {title}", "", _line(_COLUMNS), _line(["---"] * len(_COLUMNS))]
        for row in sorted(rows, key=lambda row: row.name):
            numbers = (str(machine.get(row.name, "-")) for machine in (x86_64, aarch64))
            lines.append(_line([f"`{row.name}`", *numbers, _when(row), row.note]))
        lines.append("")
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _when(row: Row) -> str:
    if row.errno is not None:
        return f"never: the filter answers {errno.errorcode[row.errno]}"
    if row.later:
        return f"once {row.later}"
    ways = (row.tests, *row.alternatives, *row.with_unix_streams)
    return "if " + ", or ".join(" and ".join(test.words for test in tests) for tests in ways) if row.tests else "always"


if __name__ == "__main__":
    sys.stdout.write(document())
