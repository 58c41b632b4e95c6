"""Which unix sockets are the pod's."""

from __future__ import annotations

import pytest
from mirrord_trace.syscalls.actions import Decision, Reason, Route
from mirrord_trace.syscalls.path_rules import PatternError
from mirrord_trace.syscalls.unix_rules import UnixRules, shown

_REMOTE = Decision(Route.REMOTE, Reason.UNIX_STREAMS)
_LOCAL = Decision(Route.LOCAL, Reason.NOT_INTERNET)


@pytest.mark.parametrize(
    ("path", "decision"),
    [
        (b"/run/postgresql/.s.PGSQL.5432", _REMOTE),
        (b"/srv/run/postgresql/x", _REMOTE),
        (b"/RUN/postgresql/x", _LOCAL),
        (b"/run/docker.sock", _LOCAL),
        (b"\0bus", _REMOTE),
        (b"\0a\0b", _REMOTE),
        (b"\0other", _LOCAL),
        (b"", _LOCAL),
        (b"run/postgresql/x", Decision(Route.LOCAL, Reason.RELATIVE_PATH)),
        (b"/run/postgresql/\xff", _REMOTE),
    ],
)
def test_patterns_are_searched_in_the_name(path: bytes, decision: Decision) -> None:
    assert UnixRules(["/run/postgresql/", "^@bus$", "^@a@b$"], dns=True).decide(path) == decision


def test_without_patterns_all_are_local() -> None:
    rules = UnixRules([], dns=True)
    assert [rules.decide(path) for path in (b"/run/x", b"\0x", b"x")] == [_LOCAL] * 3


def test_name_service_caches_look_absent_whatever_the_patterns_say() -> None:
    path = b"/var/run/nscd/socket"
    assert UnixRules([".*"], dns=True).decide(path) == Decision(Route.MISSING, Reason.LOCAL_RESOLVER_SOCKET)
    assert UnixRules([".*"], dns=False).decide(path) == Decision(Route.LOCAL, Reason.DNS_OFF)


def test_a_pattern_that_does_not_compile_is_named() -> None:
    with pytest.raises(PatternError, match="unix_streams"):
        UnixRules(["("], dns=True)


def test_shown() -> None:
    assert [shown(path) for path in (b"/run/x", b"\0x\0", b"/\xff")] == ["/run/x", "@x@", "/\udcff"]
