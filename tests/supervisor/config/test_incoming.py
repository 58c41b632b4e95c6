from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mirrord_trace.agent.http.rules import parse_rules
from mirrord_trace.supervisor.config.incoming import read_incoming
from mirrord_trace.supervisor.config.schema import lengthen, validate
from mirrord_trace.supervisor.errors import EXIT_USAGE, UsageError
from mirrord_trace.syscalls.incoming_rules import IncomingConfig, IncomingMode, subscription

FILTER = {"filter": {"header": "^x-user: ann$"}}
ROOT = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


def read(incoming: object, agent: object = None, folder: Path = Path()) -> tuple[IncomingConfig, list[str]]:
    tree = lengthen("m.json", {"feature": {"network": {"incoming": incoming}}, "agent": agent or {}})
    warnings: list[str] = []
    root = validate("m.json", tree)
    return read_incoming(root.feature.network.incoming, root.agent, warnings, lambda path: str(folder / path)), warnings


def rules(incoming: dict[str, Any], agent: object = None, folder: Path = Path()) -> Any:
    config, warnings = read(incoming, agent, folder)
    assert warnings == []
    parse_rules(config.rules)  # the agent takes them
    return json.loads(config.rules) if config.rules else {}


def refused(said: str, incoming: object, folder: Path = Path()) -> None:
    with pytest.raises(UsageError, match=said) as error:
        read(incoming, None, folder)
    assert error.value.exit_status == EXIT_USAGE
    assert "\n" not in error.value.text


def test_the_defaults() -> None:
    assert read({}) == (IncomingConfig(), [])
    assert read("steal")[0].flush
    assert not read("steal", {"flush_connections": False})[0].flush


@pytest.mark.parametrize("mode", ["mirror", "steal", "off"])
def test_the_modes(mode: str) -> None:
    assert read(mode) == (IncomingConfig(mode=IncomingMode(mode)), [])


def test_ports() -> None:
    given = {
        "mode": "steal", "ports": [80], "ignore_localhost": True, "port_mapping": [[8080, 80]], "listen_ports": [[80, 4480]],
    }  # fmt: skip
    config, warnings = read(given)
    assert config == IncomingConfig(
        mode=IncomingMode.STEAL,
        ports=frozenset({80}),
        ignore_localhost=True,
        port_mapping=((8080, 80),),
        listen_ports=((80, 4480),),
    )
    assert warnings == []


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({"port_mapping": [[1, 2], [1, 3]]}, "port_mapping: the local port 1 is given twice"),
        ({"port_mapping": [[1, 2], [3, 2]]}, "port_mapping: the pod port 2 is given twice"),
        ({"listen_ports": [[1, 2], [1, 3]]}, "listen_ports: the program's port 1 is given twice"),
        ({"listen_ports": [[1, 2], [3, 2]]}, "listen_ports: the local port 2 is given twice"),
        ({"listen_ports": [[1, 0]]}, "listen_ports: 0 is no port"),
    ],
)
def test_mappings_are_one_to_one(mapping: dict[str, Any], said: str) -> None:
    refused(rf"feature\.network\.incoming\.{said}", mapping)


def test_a_filter_is_for_its_ports() -> None:
    filtered = {"header_filter": "^x-user: ann$"}
    assert rules({"http_filter": filtered}) == FILTER
    config, _ = read({"mode": "mirror", "http_filter": {**filtered, "ports": [80, 8080]}}, {"inject_headers": True})
    assert config.filter_ports == frozenset({80, 8080})
    assert json.loads(subscription(config, 80).rules) == {**FILTER, "marker": True}
    assert json.loads(subscription(config, 81).rules) == {"marker": True}
    assert read({"http_filter": {**filtered, "ports": 80}})[0].filter_ports == frozenset({80})
    assert read({"http_filter": {"ports": [80]}})[0].rules == ""


def test_other_rules() -> None:
    assert rules({"probes": "take"}, {"inject_headers": True}) == {"probes": "take", "marker": True}
    sample = {"percent": 10, "per_second": 5}
    assert rules({"mode": "mirror", "sample": sample}) == {"sample": sample}
    config, (warning,) = read({"mode": "steal", "sample": sample})
    assert (config.rules, warning) == ("", "feature.network.incoming.sample applies to mirrored traffic only")
    refused(r"sample\.percent: expected 0 to 100", {"sample": {"percent": 101}})
    refused(r"sample\.per_second: expected a number above 0", {"sample": {"per_second": 0}})


def test_ports_that_another_session_has() -> None:
    assert read({})[0].fail_if_taken
    assert read({"on_concurrent_steal": "abort"})[0].fail_if_taken
    assert not read({"on_concurrent_steal": "continue"})[0].fail_if_taken
    config, (warning,) = read({"on_concurrent_steal": "override"})
    assert config.fail_if_taken
    assert "another session keeps its port" in warning


@pytest.mark.parametrize("name", ["tls_delivery", "https_delivery"])
def test_tls(name: str, tmp_path: Path) -> None:
    (tmp_path / "roots").mkdir()
    (tmp_path / "roots" / "a.pem").write_text(ROOT)
    (tmp_path / "b.pem").write_text(f"-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n{ROOT}{ROOT}")
    assert rules({name: {}}) == {"tls": {}}
    given = {
        "protocol": "tcp", "trust_roots": ["roots", "b.pem"], "server_name": "web",
        "pod_certificate": "/c.pem", "pod_key": "/k.pem",
    }  # fmt: skip
    tls = {"delivery": "tcp", "trust_roots": ROOT * 3, "server_name": "web", "certificate": "/c.pem", "key": "/k.pem"}
    assert rules({name: given}, None, tmp_path) == {"tls": tls}
    assert rules({name: {"server_cert": "b.pem"}}, None, tmp_path) == {"tls": {"trust_roots": ROOT * 2}}
    # Ports without the filter get TLS as it comes.
    config, _ = read({name: {}, "http_filter": {"path_filter": "/", "ports": [443]}})
    assert (json.loads(config.rules), config.plain_rules) == ({"filter": {"path": "/"}, "tls": {}}, "")


def test_certificates_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    key = r"feature\.network\.incoming\.tls_delivery"
    refused(rf"{key}\.trust_roots: cannot read .*/none: No such file", {"tls_delivery": {"trust_roots": "none"}}, tmp_path)
    refused(rf"{key}\.server_cert: .* no PEM certificate", {"tls_delivery": {"server_cert": "empty.pem"}}, tmp_path)
    refused(f"{key}: .* cannot both be set", {"tls_delivery": {"server_cert": "a", "trust_roots": "b"}})
    refused("Object contains unknown field `x`", {"tls_delivery": {"x": 1}})
