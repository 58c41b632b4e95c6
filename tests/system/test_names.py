"""Names are resolved as in the pod by every resolver there is: glibc's, musl's and Go's."""

from __future__ import annotations

import json
import shutil
import sys
from typing import Any

import pytest
from build import c_program, go_program
from mirrord_trace.supervisor.targets.demo import cluster, network
from runs import Argument, Ran, Runner

_DOMAIN = "demo.svc.cluster.local"
_NAMES = ("greeter", f"4:greeter.{_DOMAIN}", "6:greeter", f"alias.{_DOMAIN}", "only-ipv4", "missing", "echo-from-hosts")


def test_musl_resolves_as_in_the_pod(runner: Runner) -> None:
    program = c_program("resolve", "musl")
    inside = runner.inside(program, *_NAMES)
    traced = runner.traced(program, *_NAMES)
    assert f"greeter: {network.GREETER[0]}" in inside.out, inside
    assert (traced.status, traced.out) == (inside.status, inside.out), traced.err


def test_glibc_resolves_as_the_zone_says(runner: Runner) -> None:
    ipv4, ipv6 = network.GREETER
    expected = [
        "greeter: 2 addresses", f"greeter: {ipv4}", f"greeter: {ipv6}",
        f"4:greeter.{_DOMAIN}: 1 addresses", f"4:greeter.{_DOMAIN}: {ipv4}",
        "6:greeter: 1 addresses", f"6:greeter: {ipv6}",
        f"alias.{_DOMAIN}: 2 addresses", f"alias.{_DOMAIN}: {ipv4}", f"alias.{_DOMAIN}: {ipv6}",
        "only-ipv4: 1 addresses", f"only-ipv4: {ipv4}",
        "missing: no such name",
        "echo-from-hosts: 1 addresses", f"echo-from-hosts: {network.ECHO[0]}",
        "OK", "",
    ]  # fmt: skip
    traced = runner.traced(c_program("resolve"), *_NAMES)
    assert (traced.status, traced.out.split("\n")) == (0, expected), traced.err


def test_glibc_asks_by_tcp_when_the_answer_is_long(runner: Runner) -> None:
    traced = runner.traced(c_program("resolve"), "4:long")
    assert "4:long: 100 addresses" in traced.out, traced


def test_go_resolves_as_in_the_pod(runner: Runner) -> None:
    program = go_program("client")
    names = ("greeter", f"greeter.{_DOMAIN}.", "alias", "only-ipv4", "demo-pod-0")
    urls = [f"http://{name}/" for name in names]
    inside = runner.inside(program, *urls)
    traced = runner.traced(program, *urls)
    assert inside.status == 0, inside
    assert (traced.status, traced.out) == (inside.status, inside.out), traced.err


@pytest.fixture(autouse=True)
def needs_dig() -> None:
    assert shutil.which("dig"), "dig is not installed (apt-get install bind9-dnsutils)"


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        (("SRV", f"_http._tcp.greeter.{_DOMAIN}"), [f"0 100 {network.HTTP_PORT} greeter.{_DOMAIN}."]),
        (("TXT", f"greeter.{_DOMAIN}"), ['"greets whoever asks"']),
        (("MX", f"mail.{_DOMAIN}"), [f"10 greeter.{_DOMAIN}."]),
        (("AAAA", f"greeter.{_DOMAIN}"), [network.GREETER[1]]),
        (("-x", network.GREETER[0]), [f"greeter.{_DOMAIN}."]),
        (("+tcp", "A", f"alias.{_DOMAIN}"), [f"greeter.{_DOMAIN}.", network.GREETER[0]]),
        (("A", f"missing.{_DOMAIN}"), []),
        (("+search", "A", "greeter"), [network.GREETER[0]]),
    ],
)
def test_dig_asks_for_any_type(runner: Runner, question: tuple[str, ...], expected: list[str]) -> None:
    traced = runner.traced("dig", "+short", *question)
    assert (traced.status, traced.out.splitlines()) == (0, expected), traced.err


def test_dig_comes_again_by_tcp(runner: Runner) -> None:
    traced = runner.traced("dig", "+short", "+bufsize=512", "TXT", f"long.{_DOMAIN}")
    assert (traced.status, len(traced.out.splitlines())) == (0, 40), traced.err


def test_answers_come_from_the_cache_unless_it_is_off(runner: Runner) -> None:
    count = "import socket\nfor _ in range(5): socket.gethostbyname('greeter')"
    sent = []
    for cache in (True, False):
        file = runner.folder / f"cache-{cache}.json"
        file.write_text(json.dumps({"feature": {"network": {"dns": {"cache": cache}}}}))
        statistics = runner.folder / "stats.json"
        traced = runner.traced(sys.executable, "-c", count, options=["-f", file, "--stats-file", statistics])
        assert traced.status == 0, traced
        sent.append(json.loads(statistics.read_text())["bytes_sent"])
    assert sent[0] < sent[1]


def _filtered(runner: Runner, network_keys: dict[str, Any], *command: Argument) -> Ran:
    file = runner.folder / "filter.json"
    file.write_text(json.dumps({"feature": {"network": network_keys}}))
    return runner.traced(*command, options=["-f", file])


@pytest.mark.parametrize("rule", ["greeter", f"greeter.{_DOMAIN}", f"*.{_DOMAIN}", f"tcp://Greeter.demo:{network.HTTP_PORT}"])
def test_a_filter_by_name_holds_for_a_static_go_program(runner: Runner, rule: str) -> None:
    url = "http://greeter/"
    remote = _filtered(runner, {"outgoing": {"filter": {"remote": [rule]}}}, go_program("client"), url)
    assert (remote.status, remote.out) == (0, f"{url}: 200 {cluster.GREETER_NAME}: GET / from {network.POD[0]}\n"), remote.err


@pytest.mark.parametrize("rule", ["greet", "eeter", "*.greeter", f"tcp://greeter:{network.HTTP_PORT + 1}", "udp://greeter"])
def test_a_filter_by_another_name_does_not(runner: Runner, rule: str) -> None:
    program = (sys.executable, "-c", _WHERE, "greeter", str(network.HTTP_PORT))
    local = _filtered(runner, {"outgoing": {"filter": {"remote": [rule]}}}, *program)
    assert (local.status, local.out) == (0, "local\n"), local.err


# Nothing but the pod reaches the services. What stays here finds no route, nobody, or a proxy that takes anything.
_WHERE = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=1) as sock:
        print("pod" if sock.getsockname()[0] in ("10.244.0.7", "fd00:10:244::7") else "local")
except OSError as error:
    print("local")
"""


def test_names_of_the_pods_hosts_file(runner: Runner) -> None:
    program = (sys.executable, "-c", _WHERE, "echo-from-hosts", str(network.ECHO_PORT))
    for rule, expected in (("echo-from-hosts", "pod\n"), ("greeter", "local\n")):
        traced = _filtered(runner, {"outgoing": {"filter": {"remote": [rule]}}}, *program)
        assert (traced.status, traced.out) == (0, expected), traced.err


def test_names_over_tcp_are_learnt(runner: Runner) -> None:
    # An answer too long for UDP: the addresses come by TCP.
    program = "import socket; print(len(socket.getaddrinfo('long', 80, socket.AF_INET, socket.SOCK_STREAM)))\n" + _FIRST
    traced = _filtered(runner, {"outgoing": {"filter": {"remote": ["long"]}}}, sys.executable, "-c", program)
    assert (traced.status, traced.out) == (0, "100\npod\n"), traced.err


# The pod's network has no such host and says so, or says nothing; this machine would have another answer.
_FIRST = """
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.connect(("10.96.7.1", 9))
print("pod" if sock.getsockname()[0] == "10.244.0.7" else "local")
"""


def test_a_name_of_this_machine(runner: Runner) -> None:
    # localhost is in the hosts file of every machine; the pod's resolver is asked for it with its search domains first.
    question = ("dig", "+short", "A", "localhost.")
    here = _filtered(runner, {"dns": {"filter": {"local": ["localhost"]}}}, *question)
    assert (here.status, here.out) == (0, "127.0.0.1\n"), here.err
    there = _filtered(runner, {"dns": {"filter": {"remote": ["localhost"]}}}, *question)
    assert (there.status, there.out) == (0, ""), there.err
    by_tcp = _filtered(runner, {"dns": {"filter": {"remote": ["greeter"]}}}, "dig", "+short", "+tcp", "localhost.")
    assert (by_tcp.status, by_tcp.out) == (0, "127.0.0.1\n"), by_tcp.err
