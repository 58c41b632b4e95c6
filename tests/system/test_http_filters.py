"""`http_filter`: which requests come to the local program and which go on to the pod's container."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from build import go_program
from mirrord_trace.supervisor.targets.demo import container, network
from runs import Runner, until

_GO = "I am the local Go program"
_PORT = network.SECOND_HTTP_PORT


def _options(runner: Runner, http_filter: dict[str, Any], **incoming: Any) -> list[str | Path]:
    file = runner.folder / "filter.json"
    incoming = {"mode": "steal", "http_filter": http_filter, **incoming}
    file.write_text(json.dumps({"feature": {"network": {"incoming": incoming}}}))
    return ["-f", file]


def _ask(runner: Runner, *requests: tuple[str, dict[str, str], bytes]) -> list[str]:
    """Who answers each of these requests (path, headers, body), all on one connection that is kept alive."""
    answers = []
    with runner.pod.connect(_PORT) as connection:
        stream = connection.makefile("rb")
        for path, headers, body in requests:
            given = {"Host": "pod", "Content-Length": str(len(body)), **headers}
            lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
            connection.sendall(f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + body)
            length = 0
            while (line := stream.readline().strip()) != b"":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            answers.append("local" if _GO in stream.read(length).decode() else "pod")
    return answers


@pytest.mark.parametrize(
    ("http_filter", "wanted", "other"),
    [
        ({"header_filter": "^x-user: ann$"}, ("/", {"X-User": "Ann"}, b""), ("/", {"X-User": "annie"}, b"")),
        ({"path_filter": "^/api/(?!health)"}, ("/api/x", {}, b""), ("/api/health", {}, b"")),
        ({"path_filter": r"user=ann\b"}, ("/?user=ann", {}, b""), ("/?user=annie", {}, b"")),
        (
            {"body_filter": {"body": "json", "query": "$.user.name", "matches": "^ann$"}},
            ("/", {"Content-Type": "application/json"}, b'{"user": {"name": "ann"}}'),
            ("/", {"Content-Type": "application/json"}, b'{"user": {"name": "bob"}}'),
        ),
        (
            {"all_of": [{"path": "^/x"}, {"any_of": [{"header": "^a: 1"}, {"header": "^b: 2"}]}]},
            ("/x", {"B": "2"}, b""),
            ("/x", {"A": "2"}, b""),
        ),
    ],
)
def test_each_request_goes_where_the_filter_says(runner: Runner, http_filter: Any, wanted: Any, other: Any) -> None:
    with runner.serving(go_program("server"), f":{_PORT}", options=_options(runner, http_filter)):
        until(lambda: _ask(runner, wanted) == ["local"], "what the filter wants comes here")
        assert _ask(runner, wanted, other, other, wanted) == ["local", "pod", "pod", "local"]
    until(lambda: _ask(runner, wanted) == ["pod"], "the pod answers again")


def test_ports_without_the_filter_are_stolen_whole(runner: Runner) -> None:
    options = _options(runner, {"path_filter": "^/wanted", "ports": [1]})
    with runner.serving(go_program("server"), f":{_PORT}", options=options):
        until(lambda: _GO in runner.pod.visit(_PORT, "/other").decode(), "all comes here")


def test_probes_go_to_the_pod(runner: Runner) -> None:
    probe = ("/", {"User-Agent": "kube-probe/1.30"}, b"")
    for probes, answer in (("pass", "pod"), ("take", "local")):
        options = _options(runner, {"path_filter": "^/"}, probes=probes)
        with runner.serving(go_program("server"), f":{_PORT}", options=options):
            until(lambda: _ask(runner, ("/", {}, b"")) == ["local"], "all else comes here")
            assert _ask(runner, probe) == [answer]


def test_a_filter_that_makes_no_sense_ends_nothing_but_is_said(runner: Runner) -> None:
    ran = runner.traced("true", options=_options(runner, {"path_filter": "("}))
    assert ran.status == 2
    assert "feature.network.incoming.http_filter.path_filter: the pattern '(' does not work" in ran.err
    assert container.NAME in runner.pod.visit(_PORT).decode()


def test_answers_say_who_gave_them_where_that_is_wanted(runner: Runner) -> None:
    incoming = {"mode": "steal", "http_filter": {"path_filter": "^/wanted"}}
    file = runner.folder / "marked.json"
    file.write_text(json.dumps({"agent": {"inject_headers": True}, "feature": {"network": {"incoming": incoming}}}))

    def marker(path: str) -> str:
        with runner.pod.connect(_PORT) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n".encode())
            head = connection.makefile("rb").read().partition(b"\r\n\r\n")[0].decode().lower()
        return next((line.partition(": ")[2] for line in head.split("\r\n") if line.startswith("mirrord-agent:")), "")

    with runner.serving(go_program("server"), f":{_PORT}", options=["-f", file]):
        until(lambda: marker("/wanted") == "forwarded-to-client", "the local program's answer is marked")
        assert marker("/other") == "passed-through"
    until(lambda: marker("/wanted") == "", "the pod answers again")
