from __future__ import annotations

from typing import Any

import pytest
from mirrord_trace.supervisor.config import support
from mirrord_trace.supervisor.config.schema import all_keys
from mirrord_trace.supervisor.config.support import unsupported


@pytest.mark.parametrize(
    "tree",
    [
        {},
        {"operator": False, "telemetry": True, "use_proxy": True, "experimental": {}, "skip_processes": ["a"]},
        {"feature": {"copy_target": False, "magic": {"aws": True}, "fs": {"readonly_file_buffer": 5}}},
        {"feature": {"copy_target": {"enabled": False, "scale_down": True}}},
        {"agent": {"labels": {}, "nftables": True, "ttl": 30}, "internal_proxy": {"idle_timeout": 5}},
    ],
)
def test_nothing_to_say(tree: dict[str, Any]) -> None:
    assert unsupported(tree) == []


def test_what_is_said() -> None:
    tree = {
        "operator": True,
        "profile": "x",
        "use_proxy": False,
        "agent": {"labels": {"a": "b"}},
        "feature": {"copy_target": True},
    }
    assert unsupported(tree) == [
        "agent.labels is not supported yet",
        "feature.copy_target is not supported yet: the target itself is used",
        "operator: this tool works without one",
        "profile is a feature of mirrord's operator, not of this tool",
        "use_proxy is not supported yet: proxies set in the environment are used",
    ]


def test_only_known_keys_are_listed() -> None:
    assert {*support._LATER, *support._PAID} <= set(all_keys())
