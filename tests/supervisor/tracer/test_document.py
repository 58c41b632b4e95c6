"""The page about supervised calls says what the table says, and the committed one is current."""

from __future__ import annotations

import errno
from pathlib import Path

from mirrord_trace.supervisor.tracer.document import SECTIONS, document
from mirrord_trace.syscalls.table import ArgumentTest, Row, rows

PAGE = Path(__file__).parents[3] / "docs" / "syscalls.md"
COMMAND = "python -m mirrord_trace.supervisor.tracer.document > docs/syscalls.md"


def test_the_committed_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == document(), f"run {COMMAND}"


def test_each_row_has_a_line() -> None:
    page = document()
    listed = [row for _, section in SECTIONS for row in section]
    for row in listed:
        assert page.count(f"| `{row.name}` |") == sum(other.name == row.name for other in listed)
    assert {row.name for row in listed} == {row.name for mounted in (False, True) for row in rows(mounted)}


def test_conditions_are_put_in_words() -> None:
    shown = (
        Row("plain", None, "does this"),
        Row("tested", None, "does that", (ArgumentTest(0, "it is warm"), ArgumentTest(1, "it is late", (3,)))),
        Row("refused", None, "goes another way", errno=errno.ENOSYS),
        Row("later", None, "counts", later="it has begun"),
    )
    lines = document([("All", shown)], {"plain": 1, "tested": 2, "refused": 3, "later": 4}, {"plain": 5}).splitlines()[-4:]
    assert lines == [
        "| `later` | 4 | - | once it has begun | counts |",
        "| `plain` | 1 | 5 | always | does this |",
        "| `refused` | 3 | - | never: the filter answers ENOSYS | goes another way |",
        "| `tested` | 2 | - | if it is warm and it is late | does that |",
    ]
