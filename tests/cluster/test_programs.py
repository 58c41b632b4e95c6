"""Programs of every make in the context of a real pod, with each kind of agent: what they see and whom they reach.

Static ones above all (Go, musl, busybox): nothing could be preloaded into them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import time
from pathlib import Path

import build
import pytest

from . import manifests
from .access import Pod
from .product import Tool, busybox, tool

_REFUSED_PORT = 81
_MEGABYTE = bytes(range(256)) * 4096

# Everything is asked of Python at once, because a session takes seconds and a question none.
_PYTHON_ASKS = """
import hashlib, json, mmap, os, socket, sys, urllib.request
other, other6 = sys.argv[1:3]
def get(url):
    with urllib.request.urlopen(url, timeout=20) as reply:
        return reply.read().decode()
def mapped(path):
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        return hashlib.sha256(view[4096:] + view[:4096]).hexdigest()
def tcp_echo(address, sent):
    with socket.create_connection((address, 7), timeout=20) as connection:
        peer = connection.getpeername()[:2]
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        back = b"".join(iter(lambda: connection.recv(65536), b""))
        return [len(back), back == sent, peer]
def udp_echo(address):
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(20)
        sock.sendto(b"datagram", (address, 7))
        datagram, peer = sock.recvfrom(100)
        return [datagram.decode(), peer[:2]]
def failure(path):
    try:
        return open(path).read()
    except OSError as error:
        return type(error).__name__
print(json.dumps({
    "environ": {name: os.environ.get(name) for name in ("APP_GREETING", "APP_MODE", "APP_SECRET", "POD_NAME", "PATH")},
    "hostname": [socket.gethostname(), os.uname().nodename, open("/etc/hostname").read().strip()],
    "small": open("/etc/app-config/mode").read(),
    "settings": json.load(open("/config/settings.json")),
    "whole": [hashlib.sha256(open(f"/config/data-{part}.bin", "rb").read()).hexdigest() for part in range(4)],
    "mapped": mapped("/config/data-2.bin"),
    "size": os.stat("/config/data-0.bin").st_size,
    "listed": sorted(name for name in os.listdir("/config") if not name.startswith("..")),
    "missing": failure("/config/no-such-file"),
    "by name": get("http://other/"),
    "by IPv4": get(f"http://{other}/peer"),
    "by IPv6": get(f"http://[{other6}]/peer") if other6 else "",
    "addresses": sorted({entry[4][0] for entry in socket.getaddrinfo("other", 80)}),
    "alias": socket.gethostbyname("alias.test"),
    "tcp": tcp_echo(other, bytes(range(256)) * 1024),
    "tcp6": tcp_echo(other6, b"six") if other6 else [],
    "udp": udp_echo(other),
    "udp6": udp_echo(other6) if other6 else [],
}))
"""


def _part_hash(part: int) -> str:
    return hashlib.sha256(manifests.data_part(part)).hexdigest()


def test_python(each_tool: Tool, other_pod: Pod) -> None:
    own = each_tool.pod
    # /etc is the developer's own by default.
    config = each_tool.folder / "mirrord.json"
    config.write_text(json.dumps({"feature": {"fs": {"mode": "read", "read_only": ["^/etc/app-config/"]}}}))
    python = os.path.realpath(sys.executable)
    words = (python, "-IS", "-c", _PYTHON_ASKS, other_pod.ip, other_pod.ipv6 or "")
    seen = json.loads(each_tool.run(*words, options=["-f", config]).ok())
    assert seen["environ"] == {
        "APP_GREETING": "hello from the pod",
        "APP_MODE": "in-cluster",
        "APP_SECRET": "known-to-the-cluster-only",
        "POD_NAME": own.name,
        "PATH": os.environ["PATH"],
    }
    assert seen["hostname"] == [own.name] * 3
    assert seen["small"] == "in-cluster"
    assert seen["settings"] == {"origin": "cluster"}
    assert seen["whole"] == [_part_hash(part) for part in range(manifests.DATA_PARTS)]
    last = manifests.data_part(2)
    assert seen["mapped"] == hashlib.sha256(last[4096:] + last[:4096]).hexdigest()
    assert seen["size"] == manifests.DATA_PART_SIZE_BYTES
    assert seen["listed"] == [*(f"data-{part}.bin" for part in range(manifests.DATA_PARTS)), "settings.json"]
    assert seen["missing"] == "FileNotFoundError"
    assert seen["by name"] == "pod:other\n"
    assert seen["by IPv4"].rpartition(":")[0] == own.ip
    assert sorted(seen["addresses"]) == sorted(other_pod.ips)
    assert seen["alias"] == "203.0.113.20"
    assert seen["tcp"] == [256 * 1024, True, [other_pod.ip, manifests.ECHO_PORT]]
    assert seen["udp"] == ["datagram", [other_pod.ip, manifests.ECHO_PORT]]
    if other_pod.ipv6:
        assert seen["by IPv6"].rpartition(":")[0] == f"[{own.ipv6}]"
        assert seen["tcp6"] == [3, True, [other_pod.ipv6, manifests.ECHO_PORT]]
        assert seen["udp6"] == ["datagram", [other_pod.ipv6, manifests.ECHO_PORT]]


def test_static_go_client(each_tool: Tool, other_pod: Pod) -> None:
    own = each_tool.pod
    addresses = [other_pod.ip, *([f"[{other_pod.ipv6}]"] if other_pod.ipv6 else [])]
    urls = ["http://other/", "http://other.default.svc.cluster.local/", *(f"http://{ip}/" for ip in addresses)]
    told = each_tool.run(build.go_program("client"), *urls, "http://other/peer", f"http://{own.name}/env/APP_MODE").ok()
    lines = told.splitlines()
    assert lines[: len(urls)] == [f"{url}: 200 pod:other" for url in urls]
    assert lines[len(urls)].removeprefix("http://other/peer: 200 ").rpartition(":")[0].strip("[]") in own.ips
    # The target itself, by the name that only its own hosts file and the cluster's DNS have.
    assert lines[-1] == f"http://{own.name}/env/APP_MODE: 200 in-cluster"


def test_static_c(each_tool: Tool, other_pod: Pod) -> None:
    words = (manifests.HTTP_PORT, _REFUSED_PORT, other_pod.ip, manifests.ECHO_PORT)
    out = each_tool.run(build.c_program("connect", "musl"), other_pod.ip, *map(str, words)).ok()
    assert "answer: pod:other" in out
    assert re.search(rf"(?m)^getpeername: .*\b{re.escape(other_pod.ip)} port 80\b", out), out
    assert "refused connect: errno 111 " in out
    assert "PASS a megabyte came back as it was" in out
    assert "the end came back after SHUT_WR: ok 0" in out
    assert out.endswith("OK\n")


def test_busybox_and_what_it_starts(each_tool: Tool, other_pod: Pod) -> None:
    own, v4, v6 = each_tool.pod, other_pod.ip, other_pod.ipv6 or other_pod.ip
    script = f"""
        echo "== hostname"; hostname
        echo "== environment"; echo "$APP_GREETING, $APP_MODE, $APP_SECRET, $PATH"
        echo "== files"; sha256sum /config/data-3.bin; ls /config
        echo "== resolv.conf"; cat /etc/resolv.conf
        echo "== wget"; wget -qO- http://other/; wget -qO- http://{v4}/peer
        echo "== nslookup"; nslookup only-in-cluster.test. | tail -n +4
        echo "== resolve"; {build.c_program("resolve", "musl")} other 4:other alias.test no-such-name.test 6:dual.test
        echo "== udp"; {build.c_program("udp", "musl")} {v4} {manifests.ECHO_PORT} {_REFUSED_PORT}
        echo "== connect"; {build.c_program("connect", "musl")} {v6} 80 {_REFUSED_PORT} {v6} {manifests.ECHO_PORT}
        echo "== end"
    """
    ran = each_tool.run(busybox(), "sh", "-c", script)
    parts = dict(part.split("\n", 1) for part in ran.ok().split("== ")[1:])
    assert parts["hostname"] == f"{own.name}\n"
    assert parts["environment"] == f"hello from the pod, in-cluster, known-to-the-cluster-only, {os.environ['PATH']}\n"
    listed = "".join(f"data-{part}.bin\n" for part in range(manifests.DATA_PARTS)) + "settings.json\n"
    assert parts["files"] == f"{_part_hash(3)}  /config/data-3.bin\n{listed}"
    assert "search default.svc.cluster.local" in parts["resolv.conf"]
    assert parts["wget"].splitlines()[0] == "pod:other"
    assert parts["wget"].splitlines()[1].rpartition(":")[0] == own.ip
    assert "Address: 203.0.113.7" in parts["nslookup"]
    resolved = parts["resolve"].splitlines()
    assert resolved[0] == f"other: {len(other_pod.ips)} addresses"
    for line in (f"other: {v4}", f"4:other: {v4}", "alias.test: 203.0.113.20", "no-such-name.test: no such name"):
        assert line in resolved
    assert "6:dual.test: 2001:db8::9" in resolved
    assert parts["udp"].endswith("OK\n"), parts["udp"]
    assert "answer: pod:other" in parts["connect"]
    assert parts["connect"].endswith("OK\n"), parts["connect"]


def test_curl(each_tool: Tool, other_pod: Pod, tmp_path: Path) -> None:
    curl = shutil.which("curl")
    assert curl, "no curl: install it (apt-get install curl)"
    sent, back = tmp_path / "sent", tmp_path / "back"
    sent.write_bytes(_MEGABYTE)
    address = f"[{other_pod.ipv6}]" if other_pod.ipv6 else other_pod.ip
    urls = ["http://other/", f"http://{address}/"]
    echo = ["--next", "-sS", "--data-binary", f"@{sent}", "-o", str(back), "http://other/echo"]
    assert each_tool.run(curl, "-sS", *urls, *echo).ok() == "pod:other\n" * 2
    assert back.read_bytes() == _MEGABYTE


def test_exit_status_and_standard_files(each_tool: Tool) -> None:
    with each_tool.running(busybox(), "sh", "-c", "read line; echo got $line; echo said >&2; exit 37") as run:
        run.say("a line")
        ended = run.end()
    assert (ended.status, ended.out) == (37, "got a line\n")
    assert "said\n" in ended.err


def test_start_takes_seconds(each_tool: Tool, capsys: pytest.CaptureFixture[str]) -> None:
    """Measured and told, not asserted: other work on the machine decides as much as we do."""
    taken = []
    for _ in range(3):
        began = time.monotonic()
        with each_tool.running(busybox(), "echo", "first instruction") as run:
            run.await_text("first")
            taken.append(time.monotonic() - began)
            assert run.end().status == 0
    with capsys.disabled():
        told = ", ".join(f"{seconds:.2f}" for seconds in taken)
        print(f"\nstart to first instruction with {each_tool.kind} ({tool()[-1].rpartition('/')[2]}): {told} s")
