"""Lets every test below this directory say `from rig import ...`, and `both_loops`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mirrord_trace.supervisor.tracer import compiled

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(params=["python", "compiled"])
def both_loops(request: pytest.FixtureRequest) -> Iterator[None]:
    """The test runs twice: `rig.supervise` uses the loop in Python, and the compiled one."""
    import rig

    if request.param == "compiled" and compiled.library() is None:
        pytest.skip("the compiled loop was not built: install gcc, then make setup")
    rig.in_use[0] = request.param
    yield
    rig.in_use[0] = "python"
