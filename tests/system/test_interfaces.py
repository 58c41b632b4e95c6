"""Interfaces, addresses and routes are the pod's, whichever way a program asks; the oracle is the same program in the pod."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from build import FLAVOURS, c_program, go_program
from mirrord_trace.supervisor.targets.demo import network
from runs import Runner

_ADDRESSES = """
import socket
print(socket.if_nameindex(), socket.if_nametoindex("eth0"))
try:
    socket.if_nametoindex("nothing")
except OSError as error:
    print(error)
for _ in range(3):
    found = socket.getaddrinfo("greeter.demo.svc.cluster.local", 80, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    print(sorted({entry[4][0] for entry in found}))
"""


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_every_way_to_ask(runner: Runner, flavour: str) -> None:
    oracle = c_program("interfaces", "musl" if flavour == "musl" else "static")
    inside = runner.inside(oracle)
    traced = runner.traced(c_program("interfaces", flavour))
    assert f"address eth0 is {network.POD[0]} mask 255.255.255.0" in inside.out, inside
    assert " 0 strange" in inside.out
    assert (traced.status, traced.out) == (inside.status, inside.out), traced.err


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_nothing_can_be_changed(runner: Runner, flavour: str) -> None:
    traced = runner.traced(c_program("interfaces", flavour), ORDINARY="1")
    assert "change: 1 messages, 0 strange, error -1" in traced.out, traced


def test_go(runner: Runner) -> None:
    inside = runner.inside(go_program("interfaces"))
    traced = runner.traced(go_program("interfaces"))
    assert network.POD[0] in inside.out, inside
    assert (traced.status, traced.out) == (inside.status, inside.out), traced.err


def test_python(runner: Runner) -> None:
    traced = runner.traced(sys.executable, "-c", _ADDRESSES)
    assert traced.status == 0, traced
    assert "(2, 'eth0')] 2" in traced.out
    assert traced.out.count(network.GREETER[0]) == 3, traced


@pytest.mark.parametrize("words", ["ip -4 addr show eth0", "ip route get 10.96.0.20", "ip link show lo", "ip route"])
def test_busybox(runner: Runner, words: str) -> None:
    """One static program, in the pod and here."""
    program = _busybox()
    inside = runner.inside(program, *words.split())
    traced = runner.traced(program, *words.split())
    assert (traced.status, traced.out) == (inside.status, inside.out), (traced, inside)


@pytest.mark.parametrize(
    ("words", "line"), [("route -n", "0.0.0.0 +10.244.0.1 +0.0.0.0"), ("ifconfig eth0", "inet addr:10.244.0.7 ")]
)
def test_busybox_with_proc(runner: Runner, words: str, line: str) -> None:
    """The pod has no /proc, so what it would say is known."""
    traced = runner.traced(_busybox(), *words.split())
    assert re.search(line, traced.out), traced


@pytest.mark.parametrize("path", ["/proc/net", "/proc/self/net", "/proc/thread-self/net", "/proc/$$/net"])
def test_files_of_the_kernel(runner: Runner, path: str) -> None:
    pod = f"/proc/{runner.pod.pid}/net"
    for name in ("route", "if_inet6", "fib_trie", "ipv6_route"):
        traced = runner.traced("sh", "-c", f"exec cat {path}/{name}")
        assert traced.out == Path(pod, name).read_text(), traced
    listed = runner.traced("sh", "-c", f"exec ls {path}")
    assert listed.out.split() == sorted(os.listdir(pod)), listed
    if "$$" in path:
        return  # another process of the program asks from here on
    missing = runner.traced("sh", "-c", f"cat {path}/nothing; cat {path}/../net/route; readlink {path}")
    assert "No such file" in missing.err
    assert missing.out == Path(pod, "route").read_text() + ("self/net\n" if path == "/proc/net" else ""), missing


def _busybox() -> Path:
    found = shutil.which("busybox")
    if found is None:
        pytest.skip("no busybox")
    return Path(found)


@pytest.mark.parametrize("words", ["addr", "link", "-4 route", "-6 route", "route get 10.96.0.20", "neigh", "rule"])
def test_ip(runner: Runner, words: str) -> None:
    if shutil.which("ip") is None:
        pytest.skip("no ip (iproute2)")
    traced = runner.traced("ip", *words.split())
    native = runner.native("ip", *words.split())
    assert (traced.status, traced.err) == (0, ""), traced
    if words != "rule":
        assert traced.out != native.out
    if "addr" in words or "get" in words:
        assert network.POD[0] in traced.out


def test_the_pods_network_can_be_left_alone(runner: Runner) -> None:
    config = runner.folder / "config.json"
    program = c_program("interfaces", "static")
    native = runner.native(program)
    config.write_text(json.dumps({"feature": {"network": {"interfaces": False}}}))
    traced = runner.traced(program, options=["-f", config])
    assert (traced.status, traced.out) == (native.status, native.out), traced.err
    config.write_text(json.dumps({"feature": {"fs": {"local": ["^/proc/net/route$"]}}}))
    traced = runner.traced("cat", "/proc/net/route", options=["-f", config])
    assert traced.out == Path("/proc/net/route").read_text(), traced
