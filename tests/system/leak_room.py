"""A machine with a network card that is watched: `python leak_room.py PROGRAM REQUEST`.

REQUEST is JSON: {"ways": {WAY: IP}, "tool": [words before PROGRAM] or null for natively}. Runs `PROGRAM WAY IP` for each, and
prints JSON: {WAY: {"said": what it printed, "left": whether any frame that names the IP has left by the network card}}.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from mirrord_trace.supervisor.targets.demo import kernel
from mirrord_trace.supervisor.targets.demo.netlink import Netlink
from mirrord_trace.supervisor.targets.demo.pod import DemoPod
from mirrord_trace.supervisor.targets.demo.target import PID_VARIABLE

_ETH_P_ALL = 3
_BEYOND = ("192.0.2.1", "2001:db8:1::1")
_MARK = "=== "


def main() -> None:
    """Make the room, run everything in it, and tell."""
    program, request = sys.argv[1], json.loads(sys.argv[2])
    _enter()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL)) as watcher:
        watcher.bind(("leak1", 0))
        watcher.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        said = _run(program, request["ways"], request["tool"])
        seen = _frames(watcher)
    left = {way: any(_packed(ip) in frame for frame in seen) for way, ip in request["ways"].items()}
    print(json.dumps({way: {"said": said.get(way, ""), "left": left[way]} for way in request["ways"]}))


# Root of a user namespace with a network of its own: a card whose other end is the watcher's, and routes by it.
def _enter() -> None:
    uid, gid = os.geteuid(), os.getegid()
    kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNET)
    for name, line in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        Path("/proc/self", name).write_text(line, encoding="ascii")
    with Netlink() as netlink:
        netlink.add_veth("leak0", "leak1")
        for link in ("lo", "leak0", "leak1"):
            netlink.set_up(link)
        for address, prefix, gateway in (("192.0.2.2", 24, _BEYOND[0]), ("2001:db8:1::2", 64, _BEYOND[1])):
            netlink.add_address("leak0", address, prefix)
            netlink.add_default_route(gateway, "leak0")
    # Nobody answers for the gateways: their hardware address is known, so that packets leave at once.
    for gateway in _BEYOND:
        subprocess.run(["ip", "neigh", "add", gateway, "lladdr", "02:00:00:00:00:01", "dev", "leak0"], check=True)
    Path("/proc/sys/net/ipv4/ping_group_range").write_text("0 0", encoding="ascii")
    Path("/proc/sys/net/ipv4/tcp_fastopen").write_text("5", encoding="ascii")  # data in the SYN, without a cookie


def _run(program: str, ways: dict[str, str], tool: list[str] | None) -> dict[str, str]:
    script = "".join(f'echo "{_MARK}{way}"; "$0" {way} {ip} 2>&1\n' for way, ip in ways.items())
    command = ["sh", "-c", script, program]
    with tempfile.TemporaryDirectory() as folder:
        if tool is None:
            out = _output(command, folder, dict(os.environ))
        else:
            with DemoPod() as pod:
                out = _output([*tool, "--", *command], folder, {**os.environ, PID_VARIABLE: str(pod.pid)})
    parts = out.split(_MARK)[1:]
    return {way: said for way, _, said in (part.partition("\n") for part in parts)}


def _output(command: list[str], folder: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        timeout=100,
    )
    return done.stdout


def _frames(watcher: socket.socket) -> list[bytes]:
    watcher.setblocking(False)
    frames = []
    while True:
        try:
            frames.append(watcher.recv(65536))
        except BlockingIOError:
            return frames


def _packed(ip: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in ip else socket.AF_INET, ip)


if __name__ == "__main__":
    main()
