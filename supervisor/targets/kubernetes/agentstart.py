"""From the request to run the agent until it listens: two ways, one wait.

The wait asks two things in turn. The API says what goes wrong (no image, no python3, refused by the node), but says
late what goes right: the kubelet looks at its containers once a second. So the agent's port is tried as well, every
so often; the first connection on which the agent's loader speaks ends the wait and is kept.
"""

from __future__ import annotations

import time
from typing import Any

import urllib3

from ...channel.portforward import PortForwardChannel
from ...errors import UsageError
from ..base import Progress
from . import status
from .api import Api, ApiError
from .failures import explain
from .watch import PodWatch

_PROBE_TIMEOUT_S = 5.0
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 0.5


class AgentWait:
    """Waits until the agent in pod `pod` (container `ephemeral`, or the pod's only one) speaks on its port."""

    def __init__(self, api: Api, pod: dict[str, Any], ephemeral: str | None, progress: Progress) -> None:
        self._api = api
        self._pod = pod
        self._ephemeral = ephemeral
        self._progress = progress
        self._text = ""

    def until_ready(self, channel: PortForwardChannel, timeout_s: float) -> None:
        """Return when `channel` holds a connection to the agent; UsageError if that cannot be or at the timeout."""
        deadline = time.monotonic() + timeout_s
        pause_s = _FIRST_PAUSE_S
        changes = PodWatch(self._api, self._pod)
        try:
            self._look(self._pod)
            while not channel.probe(_PROBE_TIMEOUT_S):
                left = deadline - time.monotonic()
                if left <= 0:
                    raise UsageError(self._late(timeout_s))
                pod = changes.next(min(pause_s, left))
                if pod is not None and self._look(pod):
                    pause_s = _FIRST_PAUSE_S
                else:
                    pause_s = min(pause_s * 1.3, _LONGEST_PAUSE_S)
        except (ApiError, OSError) as error:
            raise explain(error, self._api.access, "reach the agent through the API server") from error
        finally:
            changes.close()

    def _look(self, pod: dict[str, Any]) -> bool:
        # True if there is news.
        if not pod:
            raise UsageError(f"pod {self._pod['metadata']['name']} was deleted while the agent started; try again")
        state = status.of_ephemeral(pod, self._ephemeral) if self._ephemeral else status.of_pod(pod)
        if state.failure:
            raise UsageError(state.failure)
        if state.text == self._text:
            return False
        self._text = state.text
        self._progress(f"agent: {state.text}")
        return True

    def _late(self, timeout_s: float) -> str:
        line = f"the agent was not ready within {timeout_s:g} s (last state: {self._text})"
        warning = self._last_warning()
        if warning:
            line += f"; the cluster says: {warning}"
        return line + "; raise agent.startup_timeout if the node is slow, or look at `kubectl describe pod`"

    def _last_warning(self) -> str:
        # Why a sandbox cannot be made is said in events only. Not everyone may list them.
        metadata = self._pod["metadata"]
        selector = f"involvedObject.name={metadata['name']},type=Warning"
        try:
            events = self._api.get(f"/api/v1/namespaces/{metadata['namespace']}/events", fieldSelector=selector)
        except (ApiError, urllib3.exceptions.HTTPError, OSError, UsageError):
            return ""
        items = events.get("items") or []
        return " ".join(str(items[-1].get("message") or "").split())[:400] if items else ""
