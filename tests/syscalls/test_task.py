"""The fakes of the scripts, and the tracer's own, are what handlers are told a task and a relay are."""

from __future__ import annotations

import inspect

import pytest
from mirrord_trace.supervisor.relay.link import RelayLink
from mirrord_trace.supervisor.tracer.tracee import Tracee
from mirrord_trace.syscalls.task import RelayPort, Task
from script import FakeRelay, FakeTask


def _methods(protocol: type) -> list[str]:
    return [name for name, value in vars(protocol).items() if inspect.isfunction(value) and not name.startswith("_")]


@pytest.mark.parametrize(
    ("protocol", "kind"),
    [(Task, FakeTask), (Task, Tracee), (RelayPort, FakeRelay), (RelayPort, RelayLink)],
)
def test_every_method_is_there_with_its_parameters(protocol: type, kind: type) -> None:
    assert _methods(protocol)
    for name in _methods(protocol):
        wanted = [one for one in inspect.signature(getattr(protocol, name)).parameters.values() if one.name != "self"]
        given = inspect.signature(getattr(kind, name)).parameters
        for parameter in wanted:
            assert parameter.name in given, f"{kind.__name__}.{name} has no {parameter.name}"
            assert parameter.default == given[parameter.name].default
