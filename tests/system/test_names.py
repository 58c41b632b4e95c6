"""Names are resolved as in the pod by every resolver there is: glibc's, musl's and Go's."""

from __future__ import annotations

from build import c_program, go_program
from mirrord_trace.supervisor.targets.demo import network
from runs import Runner

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
