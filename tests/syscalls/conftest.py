"""Lets every test below this directory say `from script import Script`, and fails tests that leave a script unfinished."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from script import TASKS, UNFINISHED


@pytest.fixture(autouse=True)
def every_script_is_finished() -> Iterator[None]:
    """A script without its end has not shown what it says it shows."""
    UNFINISHED.clear()
    yield
    unfinished = [str(script) for script in UNFINISHED]
    UNFINISHED.clear()
    while TASKS:
        TASKS.pop().close()
    assert not unfinished, "scripts without an end:\n" + "\n".join(unfinished)
