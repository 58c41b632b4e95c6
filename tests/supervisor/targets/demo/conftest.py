"""One demo pod for the tests of this folder; it needs user namespaces or root, like the demo itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mirrord_trace.supervisor.targets.demo.pod import DemoPod


@pytest.fixture(scope="session")
def pod() -> Iterator[DemoPod]:
    with DemoPod() as running:
        yield running
