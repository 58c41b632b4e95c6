"""What is decided remote never leaves from this machine, whatever call is used.

Each way has an address of its own, so a frame that leaves tells who sent it. Natively nearly all of them leave: the test
would see it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from build import c_program
from runs import ENGINE, tool

ROOM = Path(__file__).with_name("leak_room.py")

_WAYS = (
    "connect", "connect-udp", "connect-mptcp", "connect-sctp", "connect-sctp-many", "connect-dccp", "connect-udplite",
    "sendto", "sendto-dns", "sendto-udplite", "sendto-fastopen", "sendto-ping", "sendto-raw", "sendmsg", "sendmsg-fastopen",
    "sendmmsg", "sendmmsg-fastopen", "data-calls", "fast-open-connect", "repair", "device", "children", "second-connect",
    "mapped",
)  # fmt: skip
# Kernels without these protocols cannot leak by them.
_OPTIONAL = {"connect-sctp", "connect-sctp-many", "connect-dccp", "connect-udplite", "sendto-udplite", "connect-mptcp"}
# Needs CAP_NET_ADMIN over the first user namespace.
_PRIVILEGED = {"repair"}


def _tried(network: str, tool: list[str] | None) -> dict[str, dict[str, Any]]:
    ways = {way: f"{network}{number + 10}" for number, way in enumerate(_WAYS)}
    if ":" in network:
        del ways["mapped"], ways["sendto-raw"]
    request = json.dumps({"ways": ways, "tool": tool})
    done = subprocess.run(
        [sys.executable, str(ROOM), str(c_program("leaks", "static")), request],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    assert all("socket: " in one["said"] for one in found.values()), found
    return found


@pytest.mark.parametrize("network", ["198.51.100.", "2001:db8::"])
def test_nothing_that_is_remote_leaves_from_here(network: str) -> None:
    native = _tried(network, None)
    silent = {way for way, one in native.items() if not one["left"]} - _OPTIONAL - _PRIVILEGED
    assert not silent, {way: native[way] for way in silent}
    traced = _tried(network, [*tool(), "-t", "demo", "--engine", ENGINE])
    leaks = {way: one["said"] for way, one in traced.items() if one["left"]}
    assert not leaks, json.dumps(leaks, indent=1)
