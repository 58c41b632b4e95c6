"""The listeners; redirected connections come to them in test_ports.py."""

from __future__ import annotations

import socket

import pytest
from mirrord_trace.agent.incoming.listeners import Listeners, abort, open_pair, original_destination
from mirrord_trace.agent.pump.loop import Loop


def test_a_pair_has_one_port_in_both_families():
    pair = open_pair(socket.SOCK_DGRAM)
    assert len({sock.getsockname()[1] for sock in pair}) == 1
    assert pair[0].family == socket.AF_INET
    for sock in pair:
        sock.close()


def test_who_was_not_redirected_is_reset():
    loop = Loop()
    came = []
    listeners = Listeners(loop, lambda *connection: came.append(connection))
    with socket.create_connection(("127.0.0.1", listeners.port)) as caller:
        timer = loop.call_later(0.05, loop.stop)
        loop.run()
        timer.cancel()
        caller.settimeout(10)
        with pytest.raises(ConnectionResetError):
            caller.recv(1)
    assert came == []
    listeners.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", listeners.port))
    loop.close()


def test_what_conntrack_does_not_know_has_no_original_destination():
    with socket.socket() as sock:
        assert original_destination(sock) is None


def test_abort_is_a_reset():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as caller:
        near, _ = server.accept()
        abort(near)
        caller.settimeout(10)
        with pytest.raises(ConnectionResetError):
            caller.recv(1)
