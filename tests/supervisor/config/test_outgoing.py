from __future__ import annotations

from typing import Any

import pytest
from mirrord_trace.supervisor.config.outgoing import read_outgoing
from mirrord_trace.supervisor.config.schema import lengthen, validate
from mirrord_trace.supervisor.errors import EXIT_USAGE, UsageError
from mirrord_trace.syscalls.network_rules import OutgoingConfig, parse_rule


def read(outgoing: dict[str, Any]) -> OutgoingConfig:
    tree = lengthen("m.json", {"feature": {"network": {"outgoing": outgoing}}})
    return read_outgoing(validate("m.json", tree).feature.network.outgoing)


def test_the_defaults() -> None:
    assert read({}) == OutgoingConfig()


def test_switches_and_a_filter() -> None:
    config = read({"udp": False, "ignore_localhost": True, "filter": {"local": ["10.0.0.0/8", ":25", "*.db.example:5432"]}})
    rules = tuple(parse_rule(text) for text in ("10.0.0.0/8", ":25", "*.db.example:5432"))
    assert config == OutgoingConfig(udp=False, ignore_localhost=True, only_local=rules)
    assert config.wants_names


def test_a_rule_that_is_refused() -> None:
    with pytest.raises(UsageError, match=r"outgoing\.filter\.local: .*protocol must be tcp, udp or any") as refused:
        read({"filter": {"local": ["x://y"]}})
    assert refused.value.exit_status == EXIT_USAGE
