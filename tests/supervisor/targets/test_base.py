from __future__ import annotations

import os

from mirrord_trace.supervisor.targets.base import Progress, Target
from mirrord_trace.supervisor.targets.process import ProcessTarget


def test_a_process_is_a_target() -> None:
    target: Target = ProcessTarget(os.getpid())
    said: list[str] = []
    progress: Progress = said.append
    target.start(progress)
    target.stop()
    assert len(said) == 1
