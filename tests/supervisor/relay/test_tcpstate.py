"""sock_diag(7) against sockets that are there, and that are not."""

from __future__ import annotations

import gc
import os
import socket

import pytest
from mirrord_trace.agent.wire.messages import Address
from mirrord_trace.supervisor.relay import tcpstate
from mirrord_trace.supervisor.relay.connects import FullListener
from mirrord_trace.supervisor.relay.loopback import packed
from mirrord_trace.supervisor.relay.tcpstate import Presence, TcpStates

SO_COOKIE = 57


def _cookie(sock: socket.socket) -> int:
    return int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8), "little")


@pytest.mark.parametrize(
    ("family", "host", "version"),
    [
        (socket.AF_INET, "127.0.0.1", socket.AF_INET),
        (socket.AF_INET6, "::ffff:127.0.0.1", socket.AF_INET),
        (socket.AF_INET6, "::1", socket.AF_INET6),
    ],
)
def test_a_pending_connect_is_known_by_its_cookie(family: int, host: str, version: socket.AddressFamily) -> None:
    states = TcpStates()
    listener = FullListener(version)
    with socket.socket(family) as pending:
        pending.setblocking(False)
        pending.connect_ex((host, listener.port))
        local = packed(pending.getsockname()[:2])
        cookie = _cookie(pending)
        assert states.presence(local, listener.address, cookie) is Presence.THERE
        assert states.presence(local, listener.address, cookie + 1) is Presence.ABSENT
        assert states.presence(Address(local.ip, local.port ^ 1), listener.address, cookie) is Presence.ABSENT
    assert states.presence(local, listener.address, cookie) is Presence.ABSENT
    listener.close()
    states.close()


def test_without_a_cookie_nothing_is_known() -> None:
    here = Address(bytes([127, 0, 0, 1]), 1)
    assert TcpStates().presence(here, here, 0) is Presence.UNKNOWN


def test_a_kernel_that_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Address(bytes([127, 0, 0, 1]), 1)
    monkeypatch.setattr(tcpstate, "_NETLINK_SOCK_DIAG", 31)
    assert TcpStates().presence(here, here, 5) is Presence.UNKNOWN


def test_the_descriptor_is_given_back() -> None:
    here = Address(bytes([127, 0, 0, 1]), 1)
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    states = TcpStates()
    assert len(os.listdir("/proc/self/fd")) == before
    for _ in range(2):
        assert states.presence(here, here, 5) is Presence.ABSENT
        assert len(os.listdir("/proc/self/fd")) == before + 1
        states.close()
        states.close()
    assert len(os.listdir("/proc/self/fd")) == before
