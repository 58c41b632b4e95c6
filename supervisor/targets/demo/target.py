"""`demo`: the context of the embedded pod, one of its own for each session or a running one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ...channel.local import LocalChannel
from ...errors import EXIT_USAGE, UsageError
from ..base import Progress
from ..process import ProcessTarget
from .pod import DemoPod

PID_VARIABLE = "MIRRORD_TRACE_DEMO_PID"
"""Names the container process of a demo pod that runs already, so that several sessions and a visitor share it."""


class DemoTarget:
    """A demo pod and, as for any other local process, an agent that enters it."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        running = environ.get(PID_VARIABLE, "")
        if running and not (running.isascii() and running.isdigit()):
            raise UsageError(f"{PID_VARIABLE}={running}: must be the number of a process; unset it", EXIT_USAGE)
        self._pod: DemoPod | None = None
        self._process = ProcessTarget(int(running)) if running else None

    @property
    def boot_secret(self) -> bytes:
        """Of the agent for the pod's process."""
        return self._started().boot_secret

    def describe(self) -> str:
        """The demo pod."""
        return "the demo pod"

    def agent_target(self) -> dict[str, Any]:
        """The pod's process, for the agent."""
        return self._started().agent_target()

    def start(self, progress: Progress) -> LocalChannel:
        """Start the pod unless one runs, then the agent for its process. UsageError where namespaces are forbidden.

        The pod ends with the calling thread at the latest.
        """
        if self._process is None:
            progress("starting the demo pod")
            self._pod = DemoPod()
            self._process = ProcessTarget(self._pod.start())
        return self._process.start(progress)

    def stop(self) -> None:
        """End the agent, and the pod if it is this session's own."""
        if self._process is not None:
            self._process.stop()
        if self._pod is not None:
            self._pod.stop()

    def _started(self) -> ProcessTarget:
        assert self._process is not None, "start comes first"
        return self._process
