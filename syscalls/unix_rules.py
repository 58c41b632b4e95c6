"""`feature.network.outgoing.unix_streams`: which unix sockets are the pod's. Pure."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from .actions import Decision, Reason, Route
from .path_rules import compile_pattern

KEY = "feature.network.outgoing.unix_streams"

# Name services of this machine that a libc asks before or instead of DNS. What they know is this machine's view of
# names; the nss modules take a missing socket as "unavailable" and go on to DNS.
_RESOLVER_SOCKET = re.compile(
    rb"(?:/var)?/run/(?:nscd/socket|avahi-daemon/socket|systemd/resolve/io\.systemd\.Resolve[^/]*)\Z"
)


class UnixRules:
    """The decisions. Raises PatternError (path_rules) if one of `patterns` does not compile."""

    def __init__(self, patterns: Sequence[str], *, dns: bool) -> None:
        self._patterns = tuple(compile_pattern(KEY, pattern, ignore_case=False) for pattern in patterns)
        self._resolver = Decision(Route.MISSING, Reason.LOCAL_RESOLVER_SOCKET)
        if not dns:
            self._resolver = Decision(Route.LOCAL, Reason.DNS_OFF)
        self._remote = Decision(Route.REMOTE, Reason.UNIX_STREAMS)
        self._local = Decision(Route.LOCAL, Reason.NOT_INTERNET)
        self._relative = Decision(Route.LOCAL, Reason.RELATIVE_PATH)

    def decide(self, path: bytes) -> Decision:
        """`path` as in sun_path. The patterns are searched in it; they see an abstract name as `shown` gives it."""
        if _RESOLVER_SOCKET.match(path):
            return self._resolver
        if not self._patterns or not path:
            return self._local
        if path[0] not in b"/\0":
            return self._relative
        text = shown(path)
        return self._remote if any(pattern.search(text) for pattern in self._patterns) else self._local


def shown(path: bytes) -> str:
    """A socket's name for people: every NUL of an abstract name as "@", as in ss(8) and /proc/net/unix."""
    return os.fsdecode(path.replace(b"\0", b"@") if path[:1] == b"\0" else path)
