from __future__ import annotations

from typing import Any

import pytest
from mirrord_trace.supervisor.config.schema import all_keys, lengthen, validate
from mirrord_trace.supervisor.errors import EXIT_USAGE, UsageError


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ({"target": "pod/x"}, {"target": {"path": "pod/x"}}),
        ({"target": {"pod": "x"}}, {"target": {"path": "pod/x"}}),
        ({"target": {"path": {"pod": "x", "container": "c"}}}, {"target": {"path": "pod/x/container/c"}}),
        ({"target": {"path": {"deployment": "x"}, "namespace": "n"}}, {"target": {"path": "deployment/x", "namespace": "n"}}),
        ({"target": {"namespace": "n"}}, {"target": {"namespace": "n"}}),
        ({"target": None, "agent": {"image": None}}, {"agent": {}}),
        ({"agent": {"image": {"registry": "r/x", "tag": "1"}}}, {"agent": {"image": "r/x:1"}}),
        ({"agent": {"image": {"registry": "r/x"}}}, {"agent": {"image": "r/x"}}),
        ({"feature": {"env": True}}, {"feature": {"env": {}}}),
        ({"feature": {"env": False}}, {"feature": {"env": {"exclude": "*"}}}),
        ({"feature": {"fs": "localwithoverrides"}}, {"feature": {"fs": {"mode": "localwithoverrides"}}}),
        ({"feature": {"fs": True}}, {"feature": {"fs": {"mode": "read"}}}),
        ({"feature": {"fs": False}}, {"feature": {"fs": {"mode": "local"}}}),
        ({"feature": {"fs": {"fuse": True}}}, {"feature": {"fs": {"fuse": "on"}}}),
        ({"feature": {"fs": {"fuse": False}}}, {"feature": {"fs": {"fuse": "off"}}}),
        ({"feature": {"network": True}}, {"feature": {"network": {}}}),
        (
            {"feature": {"network": False}},
            {
                "feature": {
                    "network": {
                        "incoming": {"mode": "off"},
                        "outgoing": {"tcp": False, "udp": False},
                        "dns": {"enabled": False},
                        "interfaces": False,
                    }
                }
            },
        ),
        (
            {"feature": {"network": {"incoming": "steal", "outgoing": True, "dns": True}}},
            {"feature": {"network": {"incoming": {"mode": "steal"}, "outgoing": {}, "dns": {"enabled": True}}}},
        ),
    ],
)
def test_short_forms(short: dict[str, Any], long: dict[str, Any]) -> None:
    assert lengthen("m.json", short) == long
    assert lengthen("m.json", long) == long
    validate("m.json", long)


def test_the_source_is_not_changed() -> None:
    raw = {"feature": {"fs": "read"}}
    lengthen("m.json", raw)
    assert raw == {"feature": {"fs": "read"}}


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"targt": "x"}, "unknown key targt; did you mean target?"),
        ({"feature": {"fs": {"mod": "read"}}}, "unknown key feature.fs.mod; did you mean feature.fs.mode?"),
        ({"http_filter": {}}, "unknown key http_filter; did you mean feature.network.incoming.http_filter?"),
        ({"feature": {"network": {"outgoing": {"filter": {"xyz": 1}}}}}, "unknown key feature.network.outgoing.filter.xyz"),
        ({"zzzz": 1}, "unknown key zzzz"),
        ({"z\n": 1}, r"unknown key 'z\n'"),
        ({"feature": {"hostname": "yes"}}, "feature.hostname: Expected `bool | null`, got `str`"),
        ({"feature": 3}, "feature: Expected a table, got `int`"),
        ({"feature": {"fs": {"mode": "rad"}}}, "feature.fs.mode: Invalid enum value 'rad'"),
        ({"feature": {"fs": {"local": [1]}}}, "feature.fs.local[0]: Expected `str`, got `int`"),
        (
            {"feature": {"network": {"incoming": {"ports": [65536]}}}},
            "feature.network.incoming.ports[0]: Expected `int` <= 65535",
        ),
        ({"agent": {"image": {"tag": "x"}}}, "agent.image: Expected `str | null`, got a table"),
        ({"target": {"path": "x", "pod": "y"}}, "unknown key target.pod"),
    ],
)
def test_what_is_refused(tree: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as refused:
        validate("m.json", lengthen("m.json", tree))
    assert refused.value.exit_status == EXIT_USAGE
    assert refused.value.text.startswith(f"m.json: {said}")


def test_text_can_stand_for_other_values() -> None:
    tree = {"agent": {"ephemeral": "true", "startup_timeout": "8"}, "kube_context": "123"}
    root = validate("environment", tree, strict=False)
    assert (root.agent.ephemeral, root.agent.startup_timeout, root.kube_context) == (True, 8, "123")
    with pytest.raises(UsageError):
        validate("m.json", tree)


def test_keys_that_say_nothing_to_us_are_known() -> None:
    validate("m.json", {"$schema": "x", "telemetry": False, "internal_proxy": {"anything": 1}, "experimental": {"x": 1}})


# Every key of the compatibility table in the design notes.
KNOWN = """
accept_invalid_certificates use_proxy kubeconfig kube_context telemetry api key traceparent baggage operator profile
multi_cluster startup_retry skip_processes skip_build_tools skip_extra_build_tools skip_sip sip_binaries ci
feature.env.include feature.env.exclude feature.env.override feature.env.env_file feature.env.mapping feature.env.unset
feature.env.load_from_process feature.fs.mode feature.fs.read_write feature.fs.read_only feature.fs.local
feature.fs.not_found feature.fs.mapping feature.fs.readonly_file_buffer feature.magic feature.hostname
feature.copy_target feature.split_queues feature.db_branches feature.preview feature.network.ipv6
feature.network.incoming.mode feature.network.incoming.port_mapping feature.network.incoming.listen_ports
feature.network.incoming.ignore_ports feature.network.incoming.ports feature.network.incoming.ignore_localhost
feature.network.incoming.http_filter feature.network.incoming.tls_delivery feature.network.incoming.on_concurrent_steal
feature.network.outgoing.tcp feature.network.outgoing.udp feature.network.outgoing.ignore_localhost
feature.network.outgoing.filter.remote feature.network.outgoing.filter.local feature.network.outgoing.unix_streams
feature.network.dns.enabled feature.network.dns.filter
agent.namespace agent.image agent.image_pull_policy agent.image_pull_secrets agent.labels agent.annotations
agent.node_selector agent.tolerations agent.resources agent.service_account agent.priority_class agent.log_level
agent.json_log agent.metrics agent.ephemeral agent.privileged agent.disabled_capabilities agent.security_context
agent.ttl agent.startup_timeout agent.communication_timeout agent.flush_connections agent.nftables
agent.clean_iptables_on_start agent.external_ip_fix agent.exclude_from_mesh agent.disable_mesh_sidecar_injection
agent.check_out_of_pods agent.dns agent.inject_headers agent.override_cache_control agent.http_detection_timeout
agent.max_body_buffer_size agent.max_body_buffer_timeout agent.jaq_time_limit internal_proxy external_proxy container
experimental
"""


@pytest.mark.parametrize("key", KNOWN.split())
def test_mirrords_keys_are_known(key: str) -> None:
    assert key in all_keys()
