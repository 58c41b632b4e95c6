from __future__ import annotations

from typing import Any

import pytest
from mirrord_trace.supervisor.config.incoming import read_incoming
from mirrord_trace.supervisor.config.schema import lengthen, validate
from mirrord_trace.supervisor.errors import EXIT_USAGE, UsageError
from mirrord_trace.syscalls.incoming_rules import IncomingConfig, IncomingMode


def read(incoming: object) -> tuple[IncomingConfig, list[str]]:
    tree = lengthen("m.json", {"feature": {"network": {"incoming": incoming}}})
    warnings: list[str] = []
    return read_incoming(validate("m.json", tree).feature.network.incoming, warnings), warnings


def test_the_defaults() -> None:
    assert read({}) == (IncomingConfig(), [])


def test_ports() -> None:
    config, warnings = read({"mode": "steal", "ports": [80], "ignore_localhost": True, "port_mapping": [[8080, 80]]})
    assert config == IncomingConfig(ports=frozenset({80}), ignore_localhost=True, port_mapping=((8080, 80),))
    assert warnings == []


def test_mirror_never_steals() -> None:
    config, warnings = read("mirror")
    assert config.mode is IncomingMode.OFF
    assert warnings == [
        "feature.network.incoming.mode mirror is not supported yet: no traffic of the pod comes here (steal does)",
    ]


def test_an_http_filter_never_steals_what_it_would_not() -> None:
    incoming: dict[str, Any] = {"mode": "steal", "http_filter": {"header_filter": "x"}}
    assert read(incoming)[0].mode is IncomingMode.OFF
    incoming["http_filter"]["ports"] = [80, 8080]
    config, warnings = read(incoming)
    assert config == IncomingConfig(ignore_ports=frozenset({80, 8080}))
    assert warnings == ["feature.network.incoming.http_filter is not supported yet: ports 80, 8080 are not stolen"]
    assert read({"http_filter": {"ports": [80]}})[1] == []


@pytest.mark.parametrize(
    ("mapping", "said"),
    [([[1, 2], [1, 3]], "the local port 1 is given twice"), ([[1, 2], [3, 2]], "the pod port 2 is given twice")],
)
def test_a_port_mapping_is_one_to_one(mapping: list[list[int]], said: str) -> None:
    with pytest.raises(UsageError, match=rf"feature\.network\.incoming\.port_mapping: {said}") as refused:
        read({"port_mapping": mapping})
    assert refused.value.exit_status == EXIT_USAGE
