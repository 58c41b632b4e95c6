"""The kubelet's probes: they ask how the pod's container is, so the container answers, whoever has its port.

Only what comes from the node itself is looked at, and only for a moment: HTTP probes say who they are ("User-Agent:
kube-probe/1.30") in the first packet. A TCP probe connects and goes away without a word. Connections of all others are not
delayed at all, whoever speaks first in their protocol. gRPC probes say it too late for this; routers see them (agent/http).
"""

from __future__ import annotations

import re
import socket
from typing import Callable, Optional

from ..pump.loop import READ, Loop, Timer

WAIT_S = 0.3
"""For so long a node may say nothing decisive."""

_MOST_HEAD_BYTES = 4096
# While there is something unread, epoll would report it again and again: the rest of a head is looked for by the clock.
_AGAIN_S = 0.01
_START = b"GET /"
_PREFACE = b"PRI * HTTP/2.0\r\n"
_AGENT = re.compile(rb"\r?\nuser-agent:[ \t]*kube-probe/", re.IGNORECASE)
_HEAD_END = re.compile(rb"\r?\n\r?\n")


PROBE, HTTP2, OTHER = "probe", "HTTP/2", "other"


def judge(said: bytes, ended: bool) -> Optional[str]:
    """PROBE, HTTP2 (it may be one) or OTHER, of a connection that began like this; None: not to be told yet."""
    if ended and not said:
        return PROBE
    if not said.startswith(_START[: len(said)]):
        if not said.startswith(_PREFACE[: len(said)]) or ended:
            return OTHER
        return HTTP2 if len(said) >= len(_PREFACE) else None
    end = _HEAD_END.search(said)
    if _AGENT.search(said, 0, end.start() if end is not None else len(said)):
        return PROBE
    return OTHER if end is not None or ended or len(said) >= _MOST_HEAD_BYTES else None


class ProbeWatch:
    """Looks at what `sock` (non-blocking, not owned) has to say, without taking it; `on_verdict` once, never at once."""

    def __init__(self, loop: Loop, sock: socket.socket, on_verdict: Callable[[str], None]) -> None:
        self._loop = loop
        self._sock = sock
        self._on_verdict = on_verdict
        self._again: Optional[Timer] = None
        self._deadline = loop.call_later(WAIT_S, lambda: self._end(OTHER))
        self._watch()

    def cancel(self) -> None:
        """There will be no verdict."""
        self._loop.unwatch(self._sock.fileno())
        self._deadline.cancel()
        if self._again is not None:
            self._again.cancel()

    def _watch(self) -> None:
        self._loop.watch(self._sock.fileno(), READ, lambda mask: self._look())

    def _look(self) -> None:
        try:
            said = self._sock.recv(_MOST_HEAD_BYTES, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            self._end(OTHER)  # whoever gets it finds it broken
            return
        verdict = judge(said, not said)
        if verdict is None:
            self._loop.unwatch(self._sock.fileno())
            self._again = self._loop.call_later(_AGAIN_S, self._watch)
        else:
            self._end(verdict)

    def _end(self, verdict: str) -> None:
        self.cancel()
        self._on_verdict(verdict)
