"""The two errors are told apart: one is our bug, the other the peer's."""

from __future__ import annotations

from mirrord_trace.agent.wire.errors import LocalProtocolError, RemoteProtocolError


def test_neither_is_the_other_nor_an_os_error() -> None:
    assert not issubclass(LocalProtocolError, (RemoteProtocolError, OSError))
    assert not issubclass(RemoteProtocolError, (LocalProtocolError, OSError))
