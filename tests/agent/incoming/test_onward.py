"""Connecting on; what the marks are good for is seen in test_layers.py."""

from __future__ import annotations

import errno
import select
import socket
import struct

import pytest
from mirrord_trace.agent import redirect
from mirrord_trace.agent.incoming import onward
from mirrord_trace.agent.incoming.introductions import Introductions
from mirrord_trace.agent.incoming.layers import mark_of
from mirrord_trace.agent.pump.loop import Loop
from mirrord_trace.agent.wire.messages import Address

LOOPBACK = bytes([127, 0, 0, 1])
PEER = Address(bytes([10, 0, 0, 9]), 5)


def test_it_is_marked_and_arrives(pod):
    def use():
        loop = Loop()
        introductions = Introductions(loop, redirect.new_name())
        with socket.create_server(("127.0.0.1", 0)) as server:
            wanted = Address(LOOPBACK, server.getsockname()[1])
            sock, connected = onward.connect_onward(wanted, 0x21, PEER, introductions)
            if not connected:
                select.select([], [sock], [])
            server.accept()[0].close()
            mark = struct.unpack("=I", sock.getsockopt(socket.SOL_SOCKET, socket.SO_MARK, 4))[0]
            found = (mark, sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), sock.getblocking())
            sock.close()
        introductions.close()
        return found

    assert pod.run(use) == (mark_of(0x21), 0, False)


def test_what_cannot_be_reached_is_an_oserror(pod):
    def use():
        introductions = Introductions(Loop(), redirect.new_name())
        codes = []
        for ip in (bytes([192, 0, 2, 1]), bytes([0x20, 1, 0x0D, 0xB8]) + bytes(12)):
            try:
                onward.connect_onward(Address(ip, 80), 1, PEER, introductions)
            except OSError as error:
                codes.append(error.errno)
        return codes

    assert pod.run(use) == [errno.ENETUNREACH] * 2


def test_a_port_in_time_wait_is_no_reason_to_give_up(monkeypatch):
    class Sock:
        def close(self):
            tries.append(1)

    tries = []
    outcomes = [errno.EADDRNOTAVAIL, errno.EADDRNOTAVAIL, errno.EINPROGRESS]
    monkeypatch.setattr(onward, "_attempt", lambda *arguments: (Sock(), outcomes.pop(0)))
    _, connected = onward.connect_onward(Address(LOOPBACK, 80), 1, PEER, None)
    assert not connected
    assert len(tries) == 2
    monkeypatch.setattr(onward, "_attempt", lambda *arguments: (Sock(), errno.EADDRNOTAVAIL))
    with pytest.raises(OSError) as caught:
        onward.connect_onward(Address(LOOPBACK, 80), 1, PEER, None)
    assert caught.value.errno == errno.EADDRNOTAVAIL
