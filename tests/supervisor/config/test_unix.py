"""`feature.network.outgoing.unix_streams` in the file and in the environment."""

from __future__ import annotations

import pytest
from mirrord_trace.supervisor.config.load import Machine, load
from mirrord_trace.supervisor.config.overlays import Flags
from mirrord_trace.supervisor.config.schema import Outgoing
from mirrord_trace.supervisor.config.unix import read_unix_streams
from mirrord_trace.supervisor.errors import UsageError


@pytest.mark.parametrize(("value", "patterns"), [(None, ()), ("^/run/x$", ("^/run/x$",)), (["a", "b"], ("a", "b")), ([], ())])
def test_a_pattern_or_a_list(value: str | list[str] | None, patterns: tuple[str, ...]) -> None:
    assert read_unix_streams(Outgoing(unix_streams=value)) == patterns


def test_a_pattern_that_does_not_compile() -> None:
    with pytest.raises(UsageError, match=r"feature\.network\.outgoing\.unix_streams"):
        read_unix_streams(Outgoing(unix_streams="["))


def test_the_variable_has_patterns_with_semicolons_between() -> None:
    config = load(Flags(), Machine({"MIRRORD_OUTGOING_REMOTE_UNIX_STREAMS": "^/run/x$;^@bus$"}, b"/"))
    assert config.policy.unix_streams == ("^/run/x$", "^@bus$")
    assert not config.warnings
