"""The pod's resolver files, for what names mean in filters: its search domains, and what its hosts file says."""

from __future__ import annotations

from collections.abc import Callable

from ...agent.pump.session import Session
from ...agent.wire.messages import Message, Opened, OpenFile

_PATHS = (b"/etc/resolv.conf", b"/etc/hosts")
_LIMIT_BYTES = 65536
_DEADLINE_S = 10.0


def read_pod_files(session: Session, done: Callable[[bytes, bytes], None]) -> None:
    """Call `done(resolv.conf, hosts)` once: empty for what is not there, too large or too late. 1 round trip."""
    contents: dict[bytes, bytes] = {}

    def take(path: bytes, stream: int, message: Message) -> None:
        session.reset(stream, 0)
        contents[path] = message.content if isinstance(message, Opened) else b""
        if len(contents) == len(_PATHS):
            done(*(contents[each] for each in _PATHS))

    for path in _PATHS:
        _ask(session, path, take)


def _ask(session: Session, path: bytes, take: Callable[[bytes, int, Message], None]) -> None:
    stream = session.new_stream()
    session.request(OpenFile(path, 0, _LIMIT_BYTES, stream), lambda message: take(path, stream, message), _DEADLINE_S)
