"""A session's context begins empty, and two sessions share nothing."""

from __future__ import annotations

from callers import address
from script import session


def test_sessions_share_nothing() -> None:
    one, two = session(), session()
    one.sockets.begin(1, address("10.0.0.1", 80))
    one.local_reads[b"/x"] = one.local_writes[b"/x"] = None  # type: ignore[assignment]
    assert one.sockets
    assert not two.sockets
    assert not two.local_reads
    assert not two.local_writes
    assert one.local_reads is not one.local_writes
