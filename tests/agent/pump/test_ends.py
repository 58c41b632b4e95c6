"""The seam between session and ends: everything that claims to fit, fits."""

from __future__ import annotations

import inspect

import pytest
from mirrord_trace.agent.pump.bridge import Bridge
from mirrord_trace.agent.pump.contents import Consumer, Datagrams, Producer
from mirrord_trace.agent.pump.ends import End, Host
from mirrord_trace.agent.pump.session import Session


def members(protocol: type) -> set:  # type: ignore[type-arg]
    return {name for name in vars(protocol) if not name.startswith("_") and callable(getattr(protocol, name))}


@pytest.mark.parametrize("end", [Bridge, Consumer, Producer, Datagrams])
def test_ends(end: type) -> None:
    for name in members(End):
        expected = list(inspect.signature(getattr(End, name)).parameters)
        assert list(inspect.signature(getattr(end, name)).parameters) == expected


def test_the_session_hosts_them() -> None:
    assert members(Host) <= members(Session)
